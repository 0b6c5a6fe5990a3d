/** A peer that proved its key and then means harm: it ends its own session, never the process or its memory. */
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { CLOSE } from '../../src/tunnel/codes.ts';
import { encodeFrame, outFrame, TYPE } from '../../src/tunnel/frame.ts';
import { readGoAway, writeGoAway } from '../../src/tunnel/payload.ts';
import { MessageReader } from '../../src/tunnel/sync-wire.ts';
import { liveMemory } from '../support/live-memory.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { RawPeer } from '../support/raw-peer.ts';
import { WebSocketPair } from '../support/web-socket-pair.ts';

const MIB = 1024 * 1024;

const goAway = (peer: RawPeer): number | undefined => {
  const frame = peer.of(TYPE.GOAWAY)[0];
  return frame && readGoAway(frame.payload)?.closeCode;
};

/** A frame of an unknown type that must be ignored, to make a message large. */
const padding = encodeFrame(outFrame(0x80, 0, Buffer.alloc(16_384)));

describe('GOAWAY', () => {
  it.each([0, 5, 999, 1004, 1005, 1006, 1007, 1015, 2000, 4410, 65_535])(
    'with code %d ends the session alone, though no WebSocket may say that code',
    async (closeCode) => {
      await using pair = await WebSocketPair.listening({ clock: unhurriedClock });
      await pair.dial();
      const payload = writeGoAway({ closeCode, lastStream: 0, message: 'bye' });
      pair.webSocket.send(encodeFrame(outFrame(TYPE.GOAWAY, 0, payload)));
      expect((await pair.portal.closed).closeCode).toBe(closeCode);
    },
  );

  it('with a reason beyond what a close message holds is cut between two characters', async () => {
    await using pair = await WebSocketPair.listening({ clock: unhurriedClock });
    await pair.dial();
    const closed = once(pair.webSocket, 'close') as Promise<[number, Buffer]>;
    const payload = writeGoAway({ closeCode: CLOSE.TOO_MANY, lastStream: 0, message: `x${'ü'.repeat(100)}` });
    pair.webSocket.send(encodeFrame(outFrame(TYPE.GOAWAY, 0, payload)));
    const [code, reason] = await closed;
    expect(code).toBe(CLOSE.TOO_MANY);
    expect(reason.toString()).toBe(`x${'ü'.repeat(61)}`);
  });
});

describe('memory', () => {
  it('#29: opens whose answers are never acknowledged end the session, not the memory', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({
      clock,
      target: () => Promise.reject(new Error('refused')),
    });
    let opened = 0;
    for (; opened < 100_000 && peer.closed === undefined; opened += 1) {
      peer.open(1 + 2 * opened);
      if (opened % 1000 === 0) await clock.advance(200);
    }
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.TOO_MANY);
    expect(opened).toBeLessThan(30_000);
  });

  it('#29: nor do streams that their target resets at once', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({
      clock,
      target: async () => (stream) => void stream.destroy(new Error('gone')),
    });
    let opened = 0;
    for (; opened < 100_000 && peer.closed === undefined; opened += 1) {
      peer.open(1 + 2 * opened);
      if (opened % 200 === 0) await clock.advance(200);
    }
    await clock.settle();
    expect(goAway(peer)).toBe(CLOSE.TOO_MANY);
    expect(opened).toBeLessThan(30_000);
  });

  it('#12: SYNC in pieces of one byte costs its size, not that of the messages around it', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    const before = await liveMemory();
    for (let piece = 0; piece < 1500; piece += 1) {
      peer.raw(Buffer.concat([padding, padding, padding, peer.encode(TYPE.SYNC, 0, Buffer.from('x'))]));
      if (piece % 100 === 0) await clock.advance(100);
      peer.received.length = 0;
    }
    await clock.settle();
    expect(peer.session.state.kind).toBe('attached');
    expect((await liveMemory()) - before).toBeLessThan(4 * MIB);
  });

  it('#12: a sync message in chunks that carry nothing costs nothing', async () => {
    const reader = new MessageReader();
    const more = Buffer.from([1]);
    const before = await liveMemory();
    for (let chunk = 0; chunk < 300_000; chunk += 1) reader.push(more);
    expect((await liveMemory()) - before).toBeLessThan(2 * MIB);
    expect(reader.push(Buffer.from('\0{"t":"x"}'))).toEqual({ t: 'x' });
  });

  it('#68: a sync message too deep to be written again is refused', () => {
    const nested = (depth: number) =>
      Buffer.from(`\0{"t":"snapshot","status":${'['.repeat(depth)}${']'.repeat(depth)}}`);
    expect(new MessageReader().push(nested(100))).toMatchObject({ t: 'snapshot' });
    expect(() => new MessageReader().push(nested(1000))).toThrow(RangeError);
    expect(() => new MessageReader().push(nested(3_000_000))).toThrow(RangeError);
  });

  it('#9: data that waits for its reader costs its size, not that of the messages around it', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({
      clock,
      target: async () => (stream) => void stream.pause(),
    });
    peer.open(1);
    await clock.settle();
    const before = await liveMemory();
    const data = Buffer.alloc(5000, 7);
    for (let frame = 0; frame < 48; frame += 1) {
      peer.raw(Buffer.concat([...Array.from({ length: 8 }, () => padding), peer.encode(TYPE.DATA, 1, data)]));
      if (frame % 8 === 0) await clock.advance(100);
    }
    await clock.settle();
    peer.received.length = 0;
    expect(peer.session.state.kind).toBe('attached');
    expect((await liveMemory()) - before).toBeLessThan(2 * MIB);
  });
});
