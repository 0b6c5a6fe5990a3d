/** What a stream received and nobody has read. */
import { EMPTY } from './frame.ts';

/** Chunks below this size are packed together: views that small would keep the socket's large buffers alive. */
const PACK_BELOW_BYTES = 4 * 1024;
const PACK_BYTES = 16 * 1024;
/** A full frame in what one read of a socket brings is kept as it is. */
const MAX_KEPT_SHARE = 4;

export class Inbox {
  #chunks: Buffer[] = [];
  #at = 0;
  #bytes = 0;
  /** Room behind the last chunk, when it is one of ours. */
  #tailRoom = 0;

  get bytes(): number {
    return this.#bytes;
  }

  push(payload: Buffer): void {
    this.#bytes += payload.length;
    if (payload.length >= PACK_BELOW_BYTES) {
      this.#chunks.push(kept(payload));
      this.#tailRoom = 0;
      return;
    }
    if (this.#tailRoom < payload.length) {
      // grows with what waits, so that a thousand streams with one byte each stay small
      const room = Math.min(PACK_BYTES, Math.max(2 * this.#bytes, payload.length));
      this.#chunks.push(Buffer.allocUnsafeSlow(room).subarray(0, 0));
      this.#tailRoom = room;
    }
    const last = this.#chunks.length - 1;
    const tail = this.#chunks[last] as Buffer;
    const grown = Buffer.from(tail.buffer, tail.byteOffset, tail.length + payload.length);
    grown.set(payload, tail.length);
    this.#chunks[last] = grown;
    this.#tailRoom -= payload.length;
  }

  /** The oldest chunk; only while `bytes` > 0. */
  shift(): Buffer {
    const chunk = this.#chunks[this.#at] as Buffer;
    this.#chunks[this.#at] = EMPTY;
    this.#at += 1;
    this.#bytes -= chunk.length;
    if (this.#bytes === 0) this.clear();
    return chunk;
  }

  clear(): void {
    this.#chunks = [];
    this.#at = 0;
    this.#bytes = 0;
    this.#tailRoom = 0;
  }
}

/** A view that waits keeps all of its buffer: one of a buffer many times its size is copied. */
function kept(payload: Buffer): Buffer {
  if (payload.buffer.byteLength <= MAX_KEPT_SHARE * payload.length) return payload;
  const copy = Buffer.allocUnsafeSlow(payload.length);
  copy.set(payload);
  return copy;
}
