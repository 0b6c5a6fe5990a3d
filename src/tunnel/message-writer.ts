/** WebSocket messages as they are written: the header, and the mask where one is needed. */
import { randomFillSync } from 'node:crypto';
import type { Socket } from 'node:net';
import { applyMask } from './mask.ts';

/** Longest header of a WebSocket frame: 2 bytes, 8 of length, 4 of mask. */
export const MAX_HEADER_BYTES = 14;
const FIN_BINARY = 0x82;
const MASKED = 0x80;
const KEY_BYTES = 4;

/** The first part with the header in its head room of MAX_HEADER_BYTES; the other parts follow as they are. */
export function framed(parts: readonly Buffer[], zeroMask: boolean): Buffer {
  const first = parts[0] as Buffer;
  const length = payloadBytes(parts);
  const start = MAX_HEADER_BYTES - headerBytes(length, zeroMask);
  writeHeader(first, start, length, zeroMask);
  if (zeroMask) first.fill(0, MAX_HEADER_BYTES - KEY_BYTES, MAX_HEADER_BYTES);
  return first.subarray(start);
}

/** The payload of masked messages starts at a multiple of four, for masking by words. */
const MASKED_START = 16;
/** A message of one full frame and a few small ones before it; longer ones are rare. */
const BUFFER_BYTES = 20 * 1024;
/** The longest flush of bulk. Only a gateway without TLS has them, and it has one portal. */
const SPARE_BUFFERS = 32;
/** Keys are drawn by this many bytes: one at a time costs more than the masking. */
const KEYS_BYTES = 4096;

/**
 * Copies messages, masks them with fresh random keys, and writes them. The copies are used again as soon as the
 * system has taken them: new memory for each made the collector the dearest part of sending.
 */
export class MaskedWriter {
  readonly #socket: Socket;
  readonly #spare: Buffer[] = [];
  #keys = Buffer.alloc(0);
  #keysAt = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** The first part begins with MAX_HEADER_BYTES free bytes. `written`: the system has taken all of it. */
  write(parts: readonly Buffer[], written: () => void): void {
    const length = payloadBytes(parts);
    const size = MASKED_START + length;
    const reusable = size <= BUFFER_BYTES;
    const out =
      (reusable ? this.#spare.pop() : undefined) ?? Buffer.allocUnsafeSlow(reusable ? BUFFER_BYTES : size);
    let at = MASKED_START;
    for (let index = 0; index < parts.length; index += 1)
      at += (parts[index] as Buffer).copy(out, at, index === 0 ? MAX_HEADER_BYTES : 0);
    const key = this.#nextKey();
    key.copy(out, MASKED_START - KEY_BYTES);
    applyMask(out.subarray(MASKED_START, size), key);
    const start = MASKED_START - headerBytes(length, true);
    writeHeader(out, start, length, true);
    this.#socket.write(out.subarray(start, size), () => {
      if (reusable && this.#spare.length < SPARE_BUFFERS) this.#spare.push(out);
      written();
    });
  }

  #nextKey(): Buffer {
    if (this.#keysAt === this.#keys.length) {
      this.#keys = randomFillSync(Buffer.allocUnsafeSlow(KEYS_BYTES));
      this.#keysAt = 0;
    }
    this.#keysAt += KEY_BYTES;
    return this.#keys.subarray(this.#keysAt - KEY_BYTES, this.#keysAt);
  }
}

function payloadBytes(parts: readonly Buffer[]): number {
  let length = -MAX_HEADER_BYTES;
  for (const part of parts) length += part.length;
  return length;
}

function headerBytes(length: number, withMask: boolean): number {
  return (length < 126 ? 2 : length < 65_536 ? 4 : 10) + (withMask ? KEY_BYTES : 0);
}

function writeHeader(into: Buffer, at: number, length: number, withMask: boolean): void {
  into[at] = FIN_BINARY;
  const bit = withMask ? MASKED : 0;
  if (length < 126) into[at + 1] = bit | length;
  else if (length < 65_536) {
    into[at + 1] = bit | 126;
    into.writeUInt16BE(length, at + 2);
  } else {
    into[at + 1] = bit | 127;
    into.writeUInt32BE(0, at + 2);
    into.writeUInt32BE(length, at + 6);
  }
}
