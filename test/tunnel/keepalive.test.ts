/** Who is alive, and when a session may believe that somebody is not. */
import { describe, expect, it } from 'vitest';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { TYPE } from '../../src/tunnel/frame.ts';
import { readPong, writePing } from '../../src/tunnel/payload.ts';
import { collect } from '../support/collect.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { RawPeer } from '../support/raw-peer.ts';
import { SessionPair } from '../support/session-pair.ts';

const accept = async () => (stream: TunnelStream) => {
  collect(stream).then(
    (data) => stream.end(data),
    () => {},
  );
};

async function withStream(clock: ManualClock): Promise<{ pair: SessionPair; stream: TunnelStream }> {
  const pair = await SessionPair.connected({ clock, gatewayTarget: accept });
  const opening = pair.portal.open({ target: 'agent' });
  await clock.settle(10);
  return { pair, stream: await opening };
}

describe('keepalive', () => {
  it('#1: a freeze both ways is noticed by both ends within 45 s; streams pause and go on', async () => {
    const clock = new ManualClock();
    const { pair, stream } = await withStream(clock);
    await using _pair = pair;
    const answer = collect(stream);
    stream.write('before ');
    await clock.advance(20_000);
    pair.link.a.frozen = true;
    pair.link.b.frozen = true;
    stream.end('after');
    await clock.advance(30_000);
    expect(pair.gateway.state.kind).toBe('attached');
    await clock.advance(15_000);
    expect(pair.gateway.state.kind).toBe('detached');
    expect(pair.portal.state.kind).toBe('detached');
    expect(stream.destroyed).toBe(false);
    const met = pair.connect();
    await clock.settle(20);
    expect((await met).gateway.kind).toBe('resumed');
    await clock.advance(500);
    expect((await answer).toString()).toBe('before after');
  });

  for (const [name, end] of [
    ['from gateway to portal', 'a'],
    ['from portal to gateway', 'b'],
  ] as const)
    it(`#2: a freeze only ${name} is noticed by both ends within 45 s`, async () => {
      const clock = new ManualClock();
      await using pair = await SessionPair.connected({ clock });
      await clock.advance(20_000);
      pair.link[end].frozen = true;
      await clock.advance(45_000);
      // the end that hears nothing hangs up, and the way to the other end still works
      expect(pair.gateway.state.kind).toBe('detached');
      expect(pair.portal.state.kind).toBe('detached');
    });

  it('#59: a connection on which nothing happens is silent for less than 55 s in either direction, for a day', async () => {
    const clock = new ManualClock();
    const last = { a: clock.monotonic(), b: clock.monotonic() };
    const longest = { a: 0, b: 0 };
    await using pair = await SessionPair.connected(
      { clock },
      {
        cutBefore: (to) => {
          longest[to] = Math.max(longest[to], clock.monotonic() - last[to]);
          last[to] = clock.monotonic();
          return false;
        },
      },
    );
    await clock.advance(24 * 3_600_000);
    for (const end of ['a', 'b'] as const) {
      expect(clock.monotonic() - last[end]).toBeLessThan(20_000);
      expect(longest[end]).toBeGreaterThan(5_000);
      expect(longest[end]).toBeLessThan(20_000);
    }
    expect(pair.gateway.epoch).toBe(1);
  });

  it('#4: an event loop blocked for 40 s is no reason to believe the peer dead, and the peer is told', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    await clock.advance(1_500);
    clock.jump(40_000, 40_000);
    await clock.advance(1_000);
    expect(peer.session.state.kind).toBe('attached');
    peer.send(TYPE.PING, 0, writePing({ opaque: 1, sentMs: 0 }));
    await clock.settle();
    const pong = readPong(peer.of(TYPE.PONG)[0]?.payload as Buffer);
    expect(pong?.lagMs).toBeGreaterThan(35_000);
  });

  for (const [name, wall, monotonic] of [
    ['suspend, as Linux shows it', 3_600_000, 0],
    ['suspend with a running monotonic clock', 3_600_000, 3_600_000],
  ] as const)
    it(`#5: ${name}: a dead connection is noticed within 6 s of waking`, async () => {
      const clock = new ManualClock();
      await using pair = await SessionPair.connected({ clock });
      await clock.advance(20_000);
      pair.link.a.frozen = true;
      pair.link.b.frozen = true;
      clock.jump(wall, monotonic);
      await clock.advance(6_000);
      expect(pair.gateway.state.kind).toBe('detached');
    });

  it('#4, #5: an event loop blocked right after waking is no reason to believe the peer dead', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    await clock.advance(20_000);
    clock.jump(3_600_000);
    peer.received.length = 0;
    await clock.advance(1_000);
    const [ping] = peer.of(TYPE.PING);
    clock.jump(7_000, 7_000);
    // the answer has come, and has not been read when the beat is due
    await clock.advance(1_000);
    expect(peer.session.state.kind).toBe('attached');
    peer.send(TYPE.PONG, 0, Buffer.concat([ping?.payload as Buffer, Buffer.alloc(4)]));
    await clock.advance(10_000);
    expect(peer.session.state.kind).toBe('attached');
  });

  it('#5: a clock set back or forward by an hour ends no live connection and fires no burst of pings', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    const answer = async (): Promise<void> => {
      const ping = peer.of(TYPE.PING).at(-1);
      if (ping !== undefined) peer.send(TYPE.PONG, 0, Buffer.concat([ping.payload, Buffer.alloc(4)]));
      await clock.settle();
    };
    await clock.advance(5_000);
    await answer();
    peer.received.length = 0;
    for (const jump of [3_600_000, -3_600_000, 3_600_000]) {
      clock.jump(jump);
      await clock.advance(2_000);
      await answer();
      await clock.advance(4_500);
      expect(peer.session.state.kind).toBe('attached');
    }
    expect(peer.of(TYPE.PING).length).toBeLessThan(8);
  });

  it('#6: bytes without a PONG are not life for ever', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    for (let second = 0; second < 90 && peer.closed === undefined; second += 1) {
      peer.send(TYPE.PING, 0, writePing({ opaque: second, sentMs: 0 }));
      await clock.advance(1_000);
    }
    expect(peer.session.state.kind).toBe('detached');
    expect(clock.monotonic()).toBeLessThan(75_000);
  });

  it('#7: a writer blocked for 30 s does not stop the reader, and is no death', async () => {
    const clock = new ManualClock();
    const { pair, stream } = await withStream(clock);
    await using _pair = pair;
    let heard = 0;
    stream.on('data', (data: Buffer) => {
      heard += data.length;
    });
    stream.resume();
    await clock.advance(20_000);
    // the portal cannot write, but everything still reaches it
    pair.link.b.frozen = true;
    for (let second = 0; second < 30; second += 1) {
      await pair.gateway.sendSync('sync', Buffer.from(`fact ${second}`));
      await clock.advance(1_000);
    }
    expect(pair.synced.filter(({ end }) => end === 'portal')).toHaveLength(30);
    pair.link.b.thaw();
    await clock.advance(3_000);
    expect(pair.gateway.state.kind).toBe('attached');
    expect(pair.portal.state.kind).toBe('attached');
  });

  it('#3: a path on which every answer takes longer than the next ping is slow, not dead', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    const late: { readonly at: number; readonly payload: Buffer }[] = [];
    for (let second = 0; second < 300; second += 1) {
      await clock.advance(1_000);
      for (const ping of peer.of(TYPE.PING))
        late.push({
          at: clock.monotonic() + 24_000,
          payload: Buffer.concat([ping.payload, Buffer.alloc(4)]),
        });
      peer.received.length = 0;
      while (late[0] !== undefined && late[0].at <= clock.monotonic())
        peer.send(TYPE.PONG, 0, late.shift()?.payload as Buffer);
    }
    expect(peer.session.state.kind).toBe('attached');
    expect(peer.session.rttMs).toBeGreaterThan(20_000);
    // and when the answers stop it is noticed in the usual time, though other bytes come
    const from = clock.monotonic();
    while (peer.session.state.kind === 'attached' && clock.monotonic() < from + 120_000) {
      peer.send(TYPE.PING, 0, writePing({ opaque: 1, sentMs: 0 }));
      await clock.advance(1_000);
    }
    expect(clock.monotonic() - from).toBeLessThan(65_000);
  });

  it('#6: a PONG to what was never asked, or was answered before, is none', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    const pong = (opaque: number): Buffer =>
      Buffer.concat([writePing({ opaque, sentMs: 0 }), Buffer.alloc(4)]);
    await clock.advance(1_000);
    for (let second = 0; second < 90 && peer.session.state.kind === 'attached'; second += 1) {
      for (const opaque of [0, 1, 1_000, 2 ** 53]) peer.send(TYPE.PONG, 0, pong(opaque));
      await clock.advance(1_000);
    }
    expect(peer.session.state.kind).toBe('detached');
  });

  it('#6: a peer that answers is alive as long as it does', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock });
    await clock.advance(3_600_000);
    expect(pair.gateway.epoch).toBe(1);
    expect(pair.gateway.state.kind).toBe('attached');
    expect(pair.gateway.rttMs).toBeDefined();
  });

  it('#18: a carrier that holds more than 4 MiB for 30 s is given up with SLOW_CONSUMER', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock });
    pair.link.b.frozen = true;
    pair.link.b.send([Buffer.alloc(5 * 1024 * 1024)]); // a sender that never looked
    await clock.advance(29_000);
    expect(pair.portal.state.kind).toBe('attached');
    await clock.advance(3_000);
    expect(pair.portal.state).toMatchObject({ kind: 'detached', closeCode: 4409 });
  });

  it('five thousand sessions cost one timer', async () => {
    const clock = new ManualClock();
    const pairs = await Promise.all(Array.from({ length: 20 }, () => SessionPair.connected({ clock })));
    await clock.advance(3_000);
    expect(clock.pending).toBe(1);
    for (const pair of pairs) await pair[Symbol.asyncDispose]();
    expect(clock.pending).toBe(0);
  });
});
