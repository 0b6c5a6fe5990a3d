/** A session against a peer that breaks the rules: the right code, no crash, no leak. */
import { type Duplex, duplexPair } from 'node:stream';
import { beforeEach, describe, expect, it } from 'vitest';
import { CLOSE, STREAM, StreamError } from '../../src/tunnel/codes.ts';
import { FLAG_FIN, TYPE } from '../../src/tunnel/frame.ts';
import {
  readCredit,
  readGoAway,
  readReason,
  writeAck,
  writeCredit,
  writePing,
  writeReason,
} from '../../src/tunnel/payload.ts';
import type { TargetHandler, TunnelStream } from '../../src/tunnel/ports.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { RawPeer } from '../support/raw-peer.ts';

let clock: ManualClock;
beforeEach(() => {
  clock = new ManualClock();
});

/** Keeps the streams that the session accepts. */
function keeping(): { target: TargetHandler; streams: TunnelStream[] } {
  const streams: TunnelStream[] = [];
  return { streams, target: async () => (stream) => void streams.push(stream) };
}

const goAway = (peer: RawPeer) => {
  const frame = peer.of(TYPE.GOAWAY)[0];
  return frame === undefined ? undefined : readGoAway(frame.payload)?.closeCode;
};

const reset = (peer: RawPeer, id: number) => {
  const frame = peer.of(TYPE.RESET, id)[0];
  return frame === undefined ? undefined : readReason(frame.payload)?.code;
};

const refusal = (peer: RawPeer, id: number) => {
  const frame = peer.of(TYPE.OPEN_ERR, id)[0];
  return frame === undefined ? undefined : readReason(frame.payload)?.code;
};

describe('flow control', () => {
  it('#11: data beyond the credit resets the stream, a second time ends the session', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    peer.open(3);
    await clock.settle();
    const window = 4096 + (readCredit(peer.of(TYPE.OPEN_OK, 1)[0]?.payload as Buffer) as number);
    for (let sent = 0; sent < window; sent += 16_384)
      peer.send(TYPE.DATA, 1, Buffer.alloc(Math.min(16_384, window - sent)));
    await clock.settle();
    expect(reset(peer, 1)).toBeUndefined();
    peer.send(TYPE.DATA, 1, Buffer.alloc(1));
    await clock.settle();
    expect(reset(peer, 1)).toBe(STREAM.FLOW_CONTROL);
    expect(peer.session.state.kind).toBe('attached');
    expect(streams[0]?.destroyed).toBe(true);
    for (let sent = 0; sent <= 1 << 20; sent += 16_384) peer.send(TYPE.DATA, 3, Buffer.alloc(16_384));
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.PROTOCOL);
  });

  it('#13: credit that overflows ends the session; credit for a stream that ended changes nothing', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    await clock.settle();
    streams[0]?.destroy();
    await clock.settle();
    peer.send(TYPE.CREDIT, 1, writeCredit(0xffff_ffff));
    peer.open(3);
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
    peer.send(TYPE.CREDIT, 3, writeCredit(0xffff_ffff));
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.PROTOCOL);
  });

  it('#10: a stream paused for ten minutes after its window grew loses nothing', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    await clock.settle();
    const stream = streams[0] as TunnelStream;
    let credit = 4096 + (readCredit(peer.of(TYPE.OPEN_OK, 1)[0]?.payload as Buffer) as number);
    let read = 0;
    stream.on('data', (chunk: Buffer) => {
      read += chunk.length;
    });
    let sent = 0;
    for (let round = 0; round < 40; round += 1) {
      while (credit > 0) {
        const size = Math.min(16_384, credit);
        peer.send(TYPE.DATA, 1, Buffer.alloc(size));
        credit -= size;
        sent += size;
      }
      await clock.settle();
      peer.acknowledge();
      for (const frame of peer.of(TYPE.CREDIT, 1)) credit += readCredit(frame.payload) as number;
      peer.received.length = 0;
    }
    stream.pause();
    while (credit > 0) {
      const size = Math.min(16_384, credit);
      peer.send(TYPE.DATA, 1, Buffer.alloc(size));
      credit -= size;
      sent += size;
    }
    for (let second = 0; second < 600; second += 15) {
      peer.send(TYPE.PING, 0, writePing({ opaque: second, sentMs: 0 }));
      const ping = peer.of(TYPE.PING).at(-1);
      if (ping !== undefined) peer.send(TYPE.PONG, 0, Buffer.concat([ping.payload, Buffer.alloc(4)]));
      await clock.advance(15_000);
    }
    expect(peer.session.state.kind).toBe('attached');
    stream.resume();
    await clock.settle();
    expect(read).toBe(sent);
    expect(peer.of(TYPE.CREDIT, 1).length).toBeGreaterThan(0);
  });

  it('#12: a million empty DATA frames end the session instead of the process', async () => {
    const { target } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    const many = Buffer.concat(Array.from({ length: 5000 }, () => peer.encode(TYPE.DATA, 1)));
    peer.raw(many);
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
    for (let pack = 0; pack < 2; pack += 1)
      peer.raw(Buffer.concat(Array.from({ length: 5000 }, () => peer.encode(TYPE.DATA, 1))));
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.TOO_MANY);
  });
});

describe('stream states', () => {
  it('#22: takes response data that arrives before OPEN_OK', async () => {
    await using peer = await RawPeer.established({ clock });
    const opening = peer.session.open({ target: 'agent' });
    await clock.settle();
    expect(peer.of(TYPE.OPEN)[0]?.streamId).toBe(2);
    peer.send(TYPE.DATA, 2, Buffer.from('early'));
    peer.send(TYPE.OPEN_OK, 2, writeCredit(1000));
    peer.send(TYPE.DATA, 2, Buffer.from(' late'), FLAG_FIN);
    const stream = await opening;
    const text: string[] = [];
    stream.on('data', (chunk: Buffer) => text.push(chunk.toString()));
    await clock.settle();
    expect(text.join('')).toBe('early late');
  });

  it('#22: OPEN_ERR after data rejects the open', async () => {
    await using peer = await RawPeer.established({ clock });
    const opening = peer.session.open({ target: 'agent' });
    const failed = expect(opening).rejects.toMatchObject({
      streamCode: STREAM.CONN_REFUSED,
      message: 'nobody home',
    });
    await clock.settle();
    peer.send(TYPE.DATA, 2, Buffer.from('early'));
    peer.send(TYPE.OPEN_ERR, 2, writeReason(STREAM.CONN_REFUSED, 'nobody home'));
    await failed;
    expect(peer.session.streams).toBe(0);
  });

  const endings: [string, (peer: RawPeer) => void][] = [
    ['FIN', (peer) => peer.send(TYPE.FIN, 1)],
    ['DATA with FIN', (peer) => peer.send(TYPE.DATA, 1, Buffer.from('x'), FLAG_FIN)],
    ['RESET', (peer) => peer.send(TYPE.RESET, 1, writeReason(STREAM.CANCELLED))],
    ['STOP', (peer) => peer.send(TYPE.STOP, 1, writeReason(STREAM.CANCELLED))],
    ['CREDIT', (peer) => peer.send(TYPE.CREDIT, 1, writeCredit(5000))],
    ['OPEN_ERR late', (peer) => peer.send(TYPE.FIN, 1)],
  ];
  const locals: [string, (stream: TunnelStream) => void][] = [
    ['nothing', () => {}],
    ['end', (stream) => void stream.end()],
    ['data and end', (stream) => void stream.end('bye')],
    ['destroy', (stream) => void stream.destroy()],
    ['destroy with an error', (stream) => void stream.destroy(new Error('oops'))],
  ];
  for (const [first, sendFirst] of endings)
    for (const [second, sendSecond] of endings)
      for (const [own, act] of locals)
        it(`#23: ${first}, then ${second}, while our end does: ${own}`, async () => {
          const { target, streams } = keeping();
          await using peer = await RawPeer.established({ clock, target });
          peer.open(1);
          await clock.settle();
          const stream = streams[0] as TunnelStream;
          stream.resume();
          sendFirst(peer);
          act(stream);
          await clock.settle();
          sendSecond(peer);
          sendSecond(peer);
          await clock.settle();
          expect(peer.session.state.kind).toBe('attached');
          // the session still works, whatever became of the stream
          peer.open(3);
          await clock.settle();
          expect(peer.of(TYPE.OPEN_OK, 3)).toHaveLength(1);
          streams[1]?.destroy();
          stream.destroy();
          await clock.settle();
          expect(peer.session.streams).toBe(0);
        });

  it('#24: the response goes on for ten minutes after the request ended', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    peer.send(TYPE.DATA, 1, Buffer.from('request'), FLAG_FIN);
    await clock.settle();
    const stream = streams[0] as TunnelStream;
    stream.resume();
    let ended = false;
    stream.on('end', () => {
      ended = true;
    });
    for (let minute = 0; minute < 10; minute += 1) {
      for (let part = 0; part < 4; part += 1) {
        peer.send(TYPE.PING, 0, writePing({ opaque: 1, sentMs: 0 }));
        const ping = peer.of(TYPE.PING).at(-1);
        if (ping !== undefined) peer.send(TYPE.PONG, 0, Buffer.concat([ping.payload, Buffer.alloc(4)]));
        await clock.advance(15_000);
      }
      stream.write('line\n');
      await clock.settle();
      peer.acknowledge();
    }
    expect(ended).toBe(true);
    stream.end();
    await clock.settle();
    const data = peer.of(TYPE.DATA, 1);
    expect(Buffer.concat(data.map((frame) => frame.payload)).toString()).toBe('line\n'.repeat(10));
    expect(peer.session.streams).toBe(0);
  });

  it('a RESET behind a FIN leaves what was sent before readable', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    await clock.settle();
    peer.send(TYPE.DATA, 1, Buffer.from('the whole answer'), FLAG_FIN);
    peer.send(TYPE.RESET, 1, writeReason(STREAM.CANCELLED));
    await clock.settle();
    const text: string[] = [];
    streams[0]?.on('data', (chunk: Buffer) => text.push(chunk.toString()));
    await clock.settle();
    expect(text.join('')).toBe('the whole answer');
  });

  it('data after FIN resets that stream alone', async () => {
    const { target } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    peer.send(TYPE.FIN, 1);
    peer.send(TYPE.DATA, 1, Buffer.from('x'));
    await clock.settle();
    expect(reset(peer, 1)).toBe(STREAM.PROTOCOL);
    expect(peer.session.state.kind).toBe('attached');
  });

  it('STOP ends our direction and discards what is still written', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1, { credit: 0 });
    await clock.settle();
    const stream = streams[0] as TunnelStream;
    let written = 0;
    stream.write(Buffer.alloc(100_000), () => {
      written += 1;
    });
    await clock.settle();
    expect(written).toBe(0);
    peer.send(TYPE.STOP, 1, writeReason(STREAM.CANCELLED));
    await clock.settle();
    expect(written).toBe(1);
    expect(peer.of(TYPE.DATA, 1)).toHaveLength(0);
    expect(peer.of(TYPE.FIN, 1)).toHaveLength(1);
  });
});

describe('opening', () => {
  it('#28: the 1025th stream is BUSY', async () => {
    const { target } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    for (let index = 0; index < 1025; index += 1) {
      peer.open(1 + 2 * index, { credit: 0 });
      if (index % 100 === 0) await clock.settle();
    }
    await clock.settle();
    peer.acknowledge();
    await clock.settle();
    expect(peer.of(TYPE.OPEN_OK)).toHaveLength(1024);
    expect(refusal(peer, 1 + 2 * 1024)).toBe(STREAM.BUSY);
    await expect(peer.session.open({ target: 'agent' })).rejects.toMatchObject({ streamCode: STREAM.BUSY });
  });

  it('the 257th unanswered open is BUSY', async () => {
    await using peer = await RawPeer.established({ clock, target: () => new Promise(() => {}) });
    for (let index = 0; index < 257; index += 1) peer.open(1 + 2 * index);
    await clock.settle();
    expect(peer.of(TYPE.OPEN_ERR)).toHaveLength(1);
    expect(refusal(peer, 1 + 2 * 256)).toBe(STREAM.BUSY);
  });

  for (const [what, act] of [
    ['reuse of an id', (peer: RawPeer) => (peer.open(1), peer.open(1))],
    ['an id lower than before', (peer: RawPeer) => (peer.open(5), peer.open(3))],
    ['an id of our side', (peer: RawPeer) => peer.open(2)],
    ['stream 0', (peer: RawPeer) => peer.open(0)],
    ['data for a stream never opened', (peer: RawPeer) => peer.send(TYPE.DATA, 9, Buffer.from('x'))],
    ['an unknown type below 0x80', (peer: RawPeer) => peer.send(0x30, 0)],
    ['a handshake frame in the session', (peer: RawPeer) => peer.send(TYPE.HELLO, 0)],
    [
      'OPEN_OK that nobody asked for',
      (peer: RawPeer) => (peer.open(1), peer.send(TYPE.OPEN_OK, 1, writeCredit(1))),
    ],
    [
      '#38: ACK of what was never sent',
      (peer: RawPeer) => peer.send(TYPE.ACK, 0, writeAck({ sequence: 1000, bytes: 0, delayUs: 0 })),
    ],
    ['a cut frame', (peer: RawPeer) => peer.raw(Buffer.from([TYPE.DATA, 0, 0]))],
    ['an empty message', (peer: RawPeer) => peer.raw(Buffer.alloc(0))],
    [
      'a sequence number twice',
      (peer: RawPeer) => (peer.open(1), peer.raw(Buffer.from([TYPE.FIN, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]))),
    ],
  ] as const)
    it(`#28: ${what} is PROTOCOL`, async () => {
      const { target } = keeping();
      await using peer = await RawPeer.established({ clock, target });
      act(peer);
      await clock.settle();
      expect(goAway(peer)).toBe(CLOSE.PROTOCOL);
      await clock.settle();
      expect(peer.closed?.code).toBe(CLOSE.PROTOCOL);
    });

  it('#28: unknown types from 0x80 on are ignored', async () => {
    await using peer = await RawPeer.established({ clock });
    peer.raw(Buffer.from([0x80, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 9, 1, 2]));
    peer.raw(Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
  });

  it('a frame larger than agreed is TOO_BIG', async () => {
    const { target } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    peer.open(1);
    peer.send(TYPE.DATA, 1, Buffer.alloc(16_385));
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.TOO_BIG);
  });

  it('#26: a refused, failed or slow dial answers its own stream and nothing else', async () => {
    const system = (code: string): Error => Object.assign(new Error(code), { code });
    const outcomes: Record<string, () => Promise<Duplex>> = {
      refused: () => Promise.reject(system('ECONNREFUSED')),
      name: () => Promise.reject(system('ENOTFOUND')),
      unreachable: () => Promise.reject(new AggregateError([system('ENETUNREACH')])),
      denied: () => Promise.reject(new StreamError(STREAM.DENIED, 'not on the list')),
      tls: () => Promise.reject(system('CERT_HAS_EXPIRED')),
      throws: () => {
        throw new Error('a bug');
      },
      blackhole: () => new Promise(() => {}),
    };
    await using peer = await RawPeer.established({
      clock,
      target: (open) => (outcomes[open.target] as () => Promise<Duplex>)(),
    });
    Object.keys(outcomes).forEach((target, index) => peer.open(1 + 2 * index, { target }));
    await clock.advance(9_900);
    expect(refusal(peer, 13)).toBeUndefined();
    await clock.advance(200);
    expect([1, 3, 5, 7, 9, 11, 13].map((id) => refusal(peer, id))).toEqual([
      STREAM.CONN_REFUSED,
      STREAM.DNS_FAILED,
      STREAM.HOST_UNREACHABLE,
      STREAM.DENIED,
      STREAM.TLS_FAILED,
      STREAM.INTERNAL,
      STREAM.CONN_TIMEOUT,
    ]);
    expect(peer.session.streams).toBe(0);
    expect(peer.session.state.kind).toBe('attached');
  });

  it('#27: an open cancelled before the dial completes closes what the dial still brings', async () => {
    const [near] = duplexPair();
    let finish: (end: Duplex) => void = () => {};
    let aborted = false;
    await using peer = await RawPeer.established({
      clock,
      target: (_open, signal) => {
        signal.addEventListener('abort', () => {
          aborted = true;
        });
        return new Promise((resolve) => {
          finish = resolve;
        });
      },
    });
    peer.open(1);
    await clock.settle();
    peer.send(TYPE.RESET, 1, writeReason(STREAM.CANCELLED));
    await clock.settle();
    expect(aborted).toBe(true);
    finish(near);
    await clock.settle();
    expect(near.destroyed).toBe(true);
    expect(peer.of(TYPE.OPEN_OK)).toHaveLength(0);
    expect(peer.session.streams).toBe(0);
  });

  it('#27: a late OPEN_OK for an open that we gave up is ignored', async () => {
    await using peer = await RawPeer.established({ clock });
    const controller = new AbortController();
    const opening = peer.session.open({ target: 'agent' }, controller.signal);
    const failed = expect(opening).rejects.toMatchObject({ streamCode: STREAM.CANCELLED });
    await clock.settle();
    controller.abort();
    await failed;
    await clock.settle();
    expect(reset(peer, 2)).toBe(STREAM.CANCELLED);
    peer.send(TYPE.OPEN_OK, 2, writeCredit(1000));
    peer.send(TYPE.DATA, 2, Buffer.from('late'));
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
    expect(peer.session.streams).toBe(0);
  });

  it('an open cancelled in the same turn leaves nothing on the wire', async () => {
    await using peer = await RawPeer.established({ clock });
    const controller = new AbortController();
    const opening = peer.session.open({ target: 'agent' }, controller.signal);
    controller.abort();
    await expect(opening).rejects.toMatchObject({ streamCode: STREAM.CANCELLED });
    await clock.settle();
    expect(peer.of(TYPE.OPEN)).toHaveLength(0);
    expect(peer.of(TYPE.RESET)).toHaveLength(0);
  });

  it('an open without an answer ends with DEADLINE', async () => {
    await using peer = await RawPeer.established({ clock });
    const failed = expect(peer.session.open({ target: 'agent', deadlineMs: 3000 })).rejects.toMatchObject({
      streamCode: STREAM.DEADLINE,
    });
    await clock.advance(3001);
    await failed;
    expect(peer.session.streams).toBe(0);
  });
});

describe('floods', () => {
  it('#8: 10 000 pings in a second end the session; fewer get at least one answer', async () => {
    await using peer = await RawPeer.established({ clock });
    for (let count = 0; count < 9_000; count += 1)
      peer.send(TYPE.PING, 0, writePing({ opaque: count, sentMs: 0 }));
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
    expect(peer.of(TYPE.PONG).length).toBeGreaterThan(0);
    expect(peer.of(TYPE.PONG).length).toBeLessThan(100);
    for (let count = 0; count < 1_100; count += 1)
      peer.send(TYPE.PING, 0, writePing({ opaque: count, sentMs: 0 }));
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.TOO_MANY);
  });

  it('#29: opening and resetting 10 000 times is stopped after 200', async () => {
    const { target, streams } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    for (let index = 0; index < 10_000 && peer.closed === undefined; index += 1) {
      peer.open(1 + 2 * index);
      peer.send(TYPE.RESET, 1 + 2 * index, writeReason(STREAM.CANCELLED));
      if (index % 50 === 0) await clock.settle(2);
    }
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.TOO_MANY);
    expect(streams.length).toBeLessThan(300);
    expect(peer.session.streams).toBe(0);
    expect(clock.pending).toBe(0);
  });

  it('#29: a client that gives up a hundred requests in 10 s is not a flood', async () => {
    const { target } = keeping();
    await using peer = await RawPeer.established({ clock, target });
    for (let index = 0; index < 600; index += 1) {
      peer.open(1 + 2 * index);
      peer.send(TYPE.RESET, 1 + 2 * index, writeReason(STREAM.CANCELLED));
      await clock.advance(100);
      if (index % 20 === 0) peer.acknowledge();
    }
    expect(peer.session.state.kind).toBe('attached');
  });
});

describe('sync', () => {
  it('SYNC beyond its credit is PROTOCOL; a handler that never ends costs only its credit', async () => {
    await using peer = await RawPeer.established({ clock, sync: () => new Promise(() => {}) });
    const piece = Buffer.alloc(16_384, 1);
    for (let sent = 0; sent < 2_000_000; sent += piece.length + 12) peer.send(TYPE.SYNC, 0, piece, FLAG_FIN);
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
    for (let more = 0; more < 10; more += 1) peer.send(TYPE.SYNC, 0, piece, FLAG_FIN);
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.PROTOCOL);
  });

  it('a payload longer than 1 MiB is PROTOCOL', async () => {
    await using peer = await RawPeer.established({ clock });
    for (let sent = 0; sent <= 1 << 20; sent += 16_384) peer.send(TYPE.SYNC, 0, Buffer.alloc(16_384));
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.PROTOCOL);
  });

  it('a handler that rejects does not stop the ones after it', async () => {
    const seen: string[] = [];
    await using peer = await RawPeer.established({
      clock,
      sync: async (_kind, payload) => {
        seen.push(payload.toString());
        throw new Error('full disk');
      },
    });
    peer.send(TYPE.SYNC, 0, Buffer.from('on'));
    peer.send(TYPE.SYNC, 0, Buffer.from('e'), FLAG_FIN);
    peer.send(TYPE.SYNC_ACK, 0, Buffer.from('two'), FLAG_FIN);
    await clock.settle();
    expect(seen).toEqual(['one', 'two']);
  });
});
