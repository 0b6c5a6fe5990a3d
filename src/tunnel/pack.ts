/**
 * Turns frames into messages: small frames are copied together until a message is worth its cost, large payloads
 * travel by reference. One packer per session; `flush` leaves nothing behind.
 */
import type { Carrier } from './carrier.ts';
import { HEADER_BYTES, type OutFrame, writeHeader } from './frame.ts';

/** Payloads up to this size are copied: cheaper than another entry in writev. */
const COPY_BELOW_BYTES = 2 * 1024;
/** A message of at least this size is sent: per-message cost is small from here on. */
const MESSAGE_BYTES = 12 * 1024;
/** Room for headers and small frames. The first slab after a rest is small, since most sessions are idle. */
const MIN_SLAB_BYTES = 2 * 1024;
const MAX_SLAB_BYTES = 64 * 1024;
/** A full slab is followed by one this much larger. */
const SLAB_GROWTH = 4;
const NO_SLAB = Buffer.alloc(0);

export class Packer {
  #slab: Buffer = NO_SLAB;
  #used = false;
  #start = 0;
  #end = 0;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** Bytes packed and not yet given to the carrier. */
  get pending(): number {
    return this.#bytes;
  }

  add(carrier: Carrier, frame: OutFrame, sequence: number): void {
    const { payload } = frame;
    this.#used = true;
    const copied = HEADER_BYTES + (payload.length <= COPY_BELOW_BYTES ? payload.length : 0);
    const first = this.#bytes === 0 ? carrier.headroom : 0;
    if (this.#end + copied + first > this.#slab.length) {
      this.#cut();
      const size = Math.max(copied + first, MIN_SLAB_BYTES, this.#slab.length * SLAB_GROWTH);
      this.#slab = Buffer.allocUnsafeSlow(Math.min(size, MAX_SLAB_BYTES));
      this.#start = 0;
      this.#end = 0;
    }
    this.#end += first;
    writeHeader(this.#slab, this.#end, frame, sequence);
    this.#end += HEADER_BYTES;
    if (payload.length <= COPY_BELOW_BYTES) {
      if (payload.length > 0) this.#slab.set(payload, this.#end);
      this.#end += payload.length;
    } else {
      this.#cut();
      this.#parts.push(payload);
    }
    this.#bytes += HEADER_BYTES + payload.length;
    if (this.#bytes >= MESSAGE_BYTES) this.flush(carrier);
  }

  flush(carrier: Carrier): void {
    if (this.#bytes === 0) return;
    this.#cut();
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    carrier.send(parts);
  }

  /** For a carrier that is gone: what was packed for it is dropped. */
  reset(): void {
    this.#parts = [];
    this.#bytes = 0;
    this.#start = this.#end;
  }

  /** Called now and then: a session that said nothing since the last time keeps no memory for it. */
  rest(): void {
    if (!this.#used && this.#bytes === 0) {
      this.#slab = NO_SLAB;
      this.#start = 0;
      this.#end = 0;
    }
    this.#used = false;
  }

  /** Ends the slab's current piece; the slab goes on behind it and is never written twice. */
  #cut(): void {
    if (this.#end === this.#start) return;
    this.#parts.push(this.#slab.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }
}
