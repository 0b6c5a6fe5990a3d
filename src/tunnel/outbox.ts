/** What was written to a stream and has not been sent: chunks in order, cut into payloads of frames. */
import { EMPTY } from './frame.ts';

/** Chunks below this size are packed together, to save frames. */
const PACK_BELOW_BYTES = 4 * 1024;

/** Bytes that wait in all outboxes of a session. */
export interface Backlog {
  bytes: number;
}

export class Outbox {
  readonly #backlog: Backlog;
  /** The chunk that goes next, and how much of it went. Most streams never have a second one. */
  #first: Buffer = EMPTY;
  #offset = 0;
  #rest: Buffer[] = [];
  #at = 0;
  #bytes = 0;

  constructor(backlog: Backlog) {
    this.#backlog = backlog;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(chunk: Buffer): void {
    if (this.#bytes === 0) this.#first = chunk;
    else this.#rest.push(chunk);
    this.#bytes += chunk.length;
    this.#backlog.bytes += chunk.length;
  }

  clear(): void {
    this.#backlog.bytes -= this.#bytes;
    this.#first = EMPTY;
    this.#offset = 0;
    this.#rest = [];
    this.#at = 0;
    this.#bytes = 0;
  }

  /** Takes up to `max` bytes: by reference when a chunk is large, else several packed into one. */
  cut(max: number): Buffer {
    if (this.#bytes === 0) return EMPTY;
    const first = this.#first;
    const left = first.length - this.#offset;
    if (left >= max || left >= PACK_BELOW_BYTES || left === this.#bytes) {
      const size = Math.min(left, max);
      const payload = size === first.length ? first : first.subarray(this.#offset, this.#offset + size);
      this.#advance(size, left);
      return payload;
    }
    const packed = Buffer.allocUnsafe(Math.min(max, this.#bytes));
    let filled = 0;
    while (filled < packed.length) {
      const chunk = this.#first;
      const rest = chunk.length - this.#offset;
      const size = Math.min(rest, packed.length - filled);
      chunk.copy(packed, filled, this.#offset, this.#offset + size);
      this.#advance(size, rest);
      filled += size;
    }
    return packed;
  }

  #advance(size: number, left: number): void {
    this.#bytes -= size;
    this.#backlog.bytes -= size;
    if (size < left) {
      this.#offset += size;
      return;
    }
    this.#offset = 0;
    this.#first = EMPTY;
    if (this.#at === this.#rest.length) return;
    this.#first = this.#rest[this.#at] as Buffer;
    this.#rest[this.#at] = EMPTY;
    this.#at += 1;
    if (this.#at < this.#rest.length) return;
    this.#rest = [];
    this.#at = 0;
  }
}
