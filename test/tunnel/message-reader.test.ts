import { randomBytes } from 'node:crypto';
import { PassThrough, Writable } from 'node:stream';
import type { Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { MAX_MESSAGE_BYTES } from '../../src/tunnel/carrier.ts';
import { MessageReader } from '../../src/tunnel/message-reader.ts';
import { framed, MaskedWriter, MAX_HEADER_BYTES } from '../../src/tunnel/message-writer.ts';
import { liveMemory } from '../support/live-memory.ts';

const BINARY = 0x82;
const CLOSE = 0x88;
const PING = 0x89;

/** A frame as RFC 6455 has it, written here anew, byte by byte. */
function frame(first: number, payload: Buffer, key: Buffer | undefined): Buffer {
  const { length } = payload;
  const size = length < 126 ? [length] : length < 65_536 ? [126, length >> 8, length & 255] : undefined;
  const header = size ?? [
    127,
    0,
    0,
    0,
    0,
    length >>> 24,
    (length >> 16) & 255,
    (length >> 8) & 255,
    length & 255,
  ];
  header[0] = (header[0] as number) | (key === undefined ? 0 : 0x80);
  const body = key === undefined ? payload : payload.map((byte, at) => byte ^ (key[at % 4] as number));
  return Buffer.concat([Buffer.from([first, ...header]), key ?? Buffer.alloc(0), body]);
}

interface Heard {
  messages: Buffer[];
  other: Buffer[];
}

function listen(masked: boolean): { reader: MessageReader; heard: Heard } {
  const heard: Heard = { messages: [], other: [] };
  const reader = new MessageReader(masked, {
    message: (data) => void heard.messages.push(Buffer.from(data)),
    other: (bytes) => heard.other.push(Buffer.from(bytes)) > 0,
  });
  return { reader, heard };
}

/** The bytes in pieces of these sizes, over and over; each piece has memory of its own, at an odd address. */
function feed(reader: MessageReader, bytes: Buffer, sizes: readonly number[]): void {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] as number;
    const piece = bytes.subarray(at, at + size);
    const shifted = Buffer.alloc(piece.length + (turn % 5)).subarray(turn % 5);
    piece.copy(shifted);
    reader.read(shifted);
    at += size;
  }
}

const keys = fc.constantFrom(undefined, '00000000', '01020304', 'fffefd00');
const payloads = fc.oneof(
  fc.nat(200),
  fc.integer({ min: 65_530, max: 65_545 }),
  fc.constantFrom(125, 126, 127, 16_396, MAX_MESSAGE_BYTES),
);
const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 65_536 })), {
  minLength: 1,
  maxLength: 6,
});

describe('message reader', () => {
  it('finds every message and passes on every control frame, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ bytes: payloads, ping: fc.boolean() }), { maxLength: 6 }),
        keys,
        cuts,
        (plan, hex, sizes) => {
          const key = hex === undefined ? undefined : Buffer.from(hex, 'hex');
          const { reader, heard } = listen(key !== undefined);
          const messages: Buffer[] = [];
          const other: Buffer[] = [];
          const wire: Buffer[] = [];
          for (const { bytes, ping } of plan) {
            const payload = randomBytes(ping ? bytes % 126 : bytes);
            const made = frame(ping ? PING : BINARY, payload, key);
            if (ping) other.push(made);
            else messages.push(payload);
            wire.push(made);
          }
          feed(reader, Buffer.concat(wire), sizes);
          expect(heard.messages.length).toBe(messages.length);
          for (const [at, message] of messages.entries())
            expect(heard.messages[at]?.equals(message)).toBe(true);
          expect(Buffer.concat(heard.other).equals(Buffer.concat(other))).toBe(true);
        },
      ),
      { numRuns: 150 },
    );
  });

  const good = frame(BINARY, Buffer.from('good'), undefined);
  for (const [what, first] of [
    ['text', frame(0x81, Buffer.from('text'), undefined)],
    ['the first of several fragments', frame(0x02, Buffer.from('frag'), undefined)],
    ['a reserved bit', frame(0xc2, Buffer.from('zip'), undefined)],
    ['an unknown control frame', frame(0x8b, Buffer.from('?'), undefined)],
    ['a control frame in fragments', frame(0x09, Buffer.from('?'), undefined)],
    ['a control frame of 126 bytes', frame(PING, Buffer.alloc(126), undefined)],
    ['a mask where none may be', frame(BINARY, Buffer.from('masked'), Buffer.from('abcd'))],
    ['a message that is too large', frame(BINARY, Buffer.alloc(MAX_MESSAGE_BYTES + 1), undefined)],
    ['a length beyond all numbers', Buffer.from([BINARY, 127, 255, 255, 255, 255, 255, 255, 255, 255, 1])],
  ] as const)
    it(`hands everything over from ${what} on`, () => {
      for (const sizes of [[1], [3, 7], [1_000_000]]) {
        const { reader, heard } = listen(false);
        feed(reader, Buffer.concat([good, first, good]), sizes);
        expect(heard.messages.map(String)).toEqual(['good']);
        expect(Buffer.concat(heard.other).equals(Buffer.concat([first, good]))).toBe(true);
      }
    });

  it('hands over a message without a mask where one must be', () => {
    const { reader, heard } = listen(true);
    reader.read(Buffer.from(good));
    expect(heard).toEqual({ messages: [], other: [good] });
  });

  it('asks for the verdict on a too large message before its body comes', () => {
    const { reader, heard } = listen(false);
    const head = Buffer.from([BINARY, 127, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
    reader.read(head);
    expect(heard.other).toEqual([head]);
  });

  it('reads nothing behind a close frame', () => {
    for (const sizes of [[1], [1_000_000]]) {
      const { reader, heard } = listen(false);
      const close = frame(CLOSE, Buffer.from([3, 232]), undefined);
      feed(reader, Buffer.concat([close, good, frame(PING, Buffer.alloc(0), undefined)]), sizes);
      expect(heard.messages).toEqual([]);
      expect(Buffer.concat(heard.other)).toEqual(close);
    }
  });

  it('takes a message that drips in byte by byte without ever looking back', () => {
    const { reader, heard } = listen(true);
    const payload = randomBytes(MAX_MESSAGE_BYTES);
    const wire = frame(BINARY, payload, Buffer.from('key!'));
    const concat = vi.spyOn(Buffer, 'concat');
    onTestFinished(() => concat.mockRestore());
    feed(reader, wire, [1]);
    const copied = concat.mock.results.reduce((sum, { value }) => sum + (value as Buffer).length, 0);
    // Each byte anew for every one that comes would be half of the square.
    expect(copied).toBeLessThan(wire.length ** 2 / 64);
    expect(heard.messages[0]?.equals(payload)).toBe(true);
  });

  it('holds a message that drips in byte by byte in little more than its size', async () => {
    const { reader, heard } = listen(true);
    const payload = randomBytes(MAX_MESSAGE_BYTES);
    const wire = frame(BINARY, payload, Buffer.from('key!'));
    const before = await liveMemory();
    for (let at = 0; at < wire.length - 1; at += 1)
      reader.read(Buffer.from(Uint8Array.of(wire[at] as number)));
    const grown = (await liveMemory()) - before;
    expect(grown).toBeLessThan(2 * wire.length + 1024 * 1024);
    reader.read(wire.subarray(-1));
    expect(heard.messages[0]?.equals(payload)).toBe(true);
  });

  it('passes on that no more should come for now', () => {
    const answers = [false, true];
    const reader = new MessageReader(false, { message() {}, other: () => answers.shift() ?? true });
    expect(reader.read(Buffer.concat([good, frame(PING, Buffer.alloc(0), undefined), good]))).toBe(false);
    expect(reader.read(frame(PING, Buffer.alloc(0), undefined))).toBe(true);
  });
});

/** A socket that takes one write at a time, when told to. */
function slowSocket(): { socket: Socket; taken: Buffer[]; next: () => Promise<void> } {
  const taken: Buffer[] = [];
  let ready: (() => void) | undefined;
  const socket = new Writable({
    highWaterMark: 1,
    write(chunk: Buffer, _encoding, done) {
      ready = () => {
        taken.push(Buffer.from(chunk));
        done();
      };
    },
  });
  const next = async (): Promise<void> => {
    const take = ready;
    ready = undefined;
    take?.();
    await setImmediate();
  };
  return { socket: socket as Socket, taken, next };
}

describe('message writer', () => {
  const parts = (...sizes: number[]): Buffer[] =>
    sizes.map((size, at) => randomBytes(size + (at === 0 ? MAX_HEADER_BYTES : 0)));
  const payloadOf = (of: readonly Buffer[]): Buffer => Buffer.concat(of).subarray(MAX_HEADER_BYTES);

  it('masks with a new key each time what the reader unmasks, without touching the parts', async () => {
    const { reader, heard } = listen(true);
    const through = new PassThrough();
    through.on('data', (bytes: Buffer) => reader.read(Buffer.from(bytes)));
    const keysSeen = new Set<string>();
    through.on('data', (bytes: Buffer) => keysSeen.add(bytes.subarray(4, 8).toString('hex')));
    const writer = new MaskedWriter(through as unknown as Socket);
    const sent: Buffer[] = [];
    for (let count = 0; count < 1200; count += 1) {
      const some = parts(12, 1000 + (count % 13), count === 600 ? 100_000 : 3);
      const before = payloadOf(some);
      await new Promise<void>((written) => writer.write(some, written));
      expect(payloadOf(some).equals(before)).toBe(true);
      sent.push(before);
    }
    expect(heard.messages.length).toBe(sent.length);
    for (const [at, one] of sent.entries()) expect(heard.messages[at]?.equals(one)).toBe(true);
    expect(keysSeen.size).toBeGreaterThan(1190);
  });

  it('uses no copy again before the system has taken it', async () => {
    const { socket, taken, next } = slowSocket();
    const writer = new MaskedWriter(socket);
    const sent: Buffer[] = [];
    for (let round = 0; round < 30; round += 1) {
      for (let count = 0; count <= round % 4; count += 1) {
        const some = parts(12, 5000);
        sent.push(payloadOf(some));
        writer.write(some, () => {});
      }
      for (let count = 0; count < 2; count += 1) await next();
    }
    while (taken.length < sent.length) await next();
    const { reader, heard } = listen(true);
    for (const bytes of taken) reader.read(bytes);
    expect(heard.messages.length).toBe(sent.length);
    for (const [at, one] of sent.entries()) expect(heard.messages[at]?.equals(one)).toBe(true);
  });

  it('puts its header into the head room, with and without a mask of zeros', () => {
    for (const zeroMask of [false, true])
      for (const size of [0, 125, 126, 65_535, 65_536]) {
        const some = parts(size, 0);
        const payload = payloadOf(some);
        const { reader, heard } = listen(zeroMask);
        reader.read(Buffer.concat([framed(some, zeroMask), ...some.slice(1)]));
        expect(heard.messages.map((message) => message.equals(payload))).toEqual([true]);
      }
  });
});
