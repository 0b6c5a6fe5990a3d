import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeFrame,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  outFrame,
  readFrames,
  TYPE,
} from '../../src/tunnel/frame.ts';
import {
  readAck,
  readCredit,
  readDrain,
  readGoAway,
  readOpen,
  readPong,
  readReason,
  writeAck,
  writeCredit,
  writeOpen,
  writeReason,
} from '../../src/tunnel/payload.ts';

/** Inputs of the byte-mutation lane. */
const FUZZ_INPUTS = Number(process.env['PCG_FUZZ_INPUTS'] ?? 1_000_000);

interface Seen {
  type: number;
  flags: number;
  streamId: number;
  sequence: number;
  payload: Buffer;
}

function read(message: Buffer, max = MAX_PAYLOAD_BYTES): { frames: Seen[]; fault: string | undefined } {
  const frames: Seen[] = [];
  const fault = readFrames(message, max, (type, flags, streamId, sequence, payload) => {
    frames.push({ type, flags, streamId, sequence, payload });
    return true;
  });
  return { frames, fault };
}

const readers = [readAck, readCredit, readDrain, readGoAway, readOpen, readPong, readReason];

describe('frame', () => {
  it('reads back what was written, several frames to a message', () => {
    const anyFrame = fc.record({
      type: fc.integer({ min: 0, max: 255 }),
      flags: fc.integer({ min: 0, max: 255 }),
      streamId: fc.integer({ min: 0, max: 0xffff_ffff }),
      sequence: fc.maxSafeNat(),
      payload: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(fc.array(anyFrame, { minLength: 1, maxLength: 8 }), (frames) => {
        const message = Buffer.concat(
          frames.map((frame) =>
            encodeFrame(
              outFrame(frame.type, frame.streamId, Buffer.from(frame.payload), frame.flags),
              frame.sequence,
            ),
          ),
        );
        const seen = read(message);
        expect(seen.fault).toBeUndefined();
        expect(seen.frames.map((frame) => ({ ...frame, payload: [...frame.payload] }))).toEqual(
          frames.map((frame) => ({
            ...frame,
            sequence: Number(BigInt(frame.sequence) & 0xffff_ffffn),
            payload: [...frame.payload],
          })),
        );
      }),
    );
  });

  it(`#12: takes ${FUZZ_INPUTS} mutated messages without a crash, a hang or a read beyond the message`, () => {
    // one buffer is mutated in place: a million cheap inputs instead of a thousand dear ones
    const base = Buffer.concat([
      encodeFrame(outFrame(TYPE.OPEN, 1, writeOpen({ target: 'agent', class: 2, credit: 4096 })), 0),
      encodeFrame(outFrame(TYPE.DATA, 1, Buffer.from('hello'), 1), 1),
      encodeFrame(outFrame(TYPE.CREDIT, 1, writeCredit(65_536)), 2),
      encodeFrame(outFrame(TYPE.ACK, 0, writeAck({ sequence: 7, bytes: 900, delayUs: 12 })), 0),
      encodeFrame(outFrame(TYPE.RESET, 3, writeReason(8, 'flow')), 3),
    ]);
    const message = Buffer.from(base);
    let state = 0x9e3779b9;
    const random = (): number => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state >>> 0;
    };
    let frames = 0;
    let faults = 0;
    let understood = 0;
    for (let input = 0; input < FUZZ_INPUTS; input += 1) {
      if (input % 16 === 0) base.copy(message);
      for (let flips = random() % 4; flips >= 0; flips -= 1)
        message[random() % message.length] = random() & 0xff;
      const length = 1 + (random() % message.length);
      const view = message.subarray(0, length);
      let bytes = 0;
      const fault = readFrames(view, 16_384, (type, _flags, _id, _sequence, payload) => {
        frames += 1;
        bytes += HEADER_BYTES + payload.length;
        const reader = readers[type % readers.length] as (payload: Buffer) => unknown;
        if (reader(payload) !== undefined) understood += 1;
        return true;
      });
      if (fault !== undefined) faults += 1;
      if (bytes > length || (fault === undefined && bytes !== length)) throw new Error(`input ${input}`);
    }
    expect(frames).toBeGreaterThan(FUZZ_INPUTS / 10);
    expect(faults).toBeGreaterThan(FUZZ_INPUTS / 10);
    expect(understood).toBeGreaterThan(0);
  });

  it('#12: faults a declared length without a body, whatever its size, and keeps nothing', () => {
    for (const length of [1, 100, 16_384, 65_535]) {
      const message = Buffer.alloc(HEADER_BYTES);
      message[0] = TYPE.DATA;
      message.writeUInt16BE(length, 2);
      expect(read(message)).toEqual({ frames: [], fault: 'truncated' });
    }
    const tooBig = encodeFrame(outFrame(TYPE.DATA, 1, Buffer.alloc(20_000)));
    expect(read(tooBig, 16_384)).toEqual({ frames: [], fault: 'too-big' });
  });

  it('refuses OPENs whose members are not what they must be', () => {
    const good = { t: 'agent', c: 2, w: 10 };
    expect(readOpen(Buffer.from(JSON.stringify(good)))).toEqual({ target: 'agent', class: 2, credit: 10 });
    for (const lie of [
      { t: '' },
      { t: 'a\r\nHost: b' },
      { t: 'x'.repeat(400) },
      { t: 7 },
      { c: 0 },
      { c: 4 },
      { c: '2' },
      { w: -1 },
      { w: 1.5 },
      { w: 2 ** 32 },
      { w: null },
      { d: 'soon' },
      { s: {} },
      { p: 1 },
      { u: 'root', g: 'all' },
      { u: 'root', g: [1] },
      { u: '', g: [] },
      { u: 'root', g: Array.from({ length: 100 }, () => 'g') },
    ])
      expect(readOpen(Buffer.from(JSON.stringify({ ...good, ...lie }))), JSON.stringify(lie)).toBeUndefined();
    for (const text of ['', '[]', 'null', '"x"', '{', '{"t":"a"}', '[1'.repeat(3000)])
      expect(readOpen(Buffer.from(text))).toBeUndefined();
  });

  it('#68: a member named __proto__ changes nothing', () => {
    const open = readOpen(Buffer.from('{"t":"agent","c":2,"w":1,"__proto__":{"u":"root","g":[]}}'));
    expect(open).toEqual({ target: 'agent', class: 2, credit: 1 });
    expect(({} as Record<string, unknown>)['u']).toBeUndefined();
  });
});
