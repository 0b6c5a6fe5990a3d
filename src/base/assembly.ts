/**
 * Bytes put together from pieces, in memory of their own. Pieces from the network are views of much larger buffers:
 * kept as they are, a thousand pieces of one byte would hold a thousand such buffers.
 */
const EMPTY = Buffer.alloc(0);

export class Assembly {
  #bytes: Buffer = EMPTY;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Copies `piece` behind what is there. */
  add(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (length > this.#bytes.length) {
      // doubled, so that each byte is copied twice at most; the first piece, often the only one, fits exactly
      const grown = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#length));
      this.#bytes.copy(grown, 0, 0, this.#length);
      this.#bytes = grown;
    }
    piece.copy(this.#bytes, this.#length);
    this.#length = length;
  }

  /** All of it; begins anew. */
  take(): Buffer {
    const whole = this.#bytes.subarray(0, this.#length);
    this.clear();
    return whole;
  }

  clear(): void {
    this.#bytes = EMPTY;
    this.#length = 0;
  }
}
