/**
 * Reliable frames that the peer has not acknowledged, in order. On a new carrier they are sent again from the
 * first one that the peer misses. Bounded by the governor, which stops new frames at its cap.
 */
import { frameBytes, type OutFrame } from './frame.ts';

export interface Acknowledged {
  /** Wire bytes that left the buffer. */
  readonly bytes: number;
  /** The newest frame among them. */
  readonly newest: OutFrame | undefined;
}

const COMPACT_AT = 1024;

export class ReplayBuffer {
  #frames: (OutFrame | undefined)[] = [];
  #head = 0;
  #base: number;
  #bytes = 0;

  /** `first`: sequence of the first frame ever. */
  constructor(first = 0) {
    this.#base = first;
  }

  /** Sequence of the next new frame: the count of frames ever sent. */
  get next(): number {
    return this.#base + this.#frames.length - this.#head;
  }

  /** Everything below is acknowledged. */
  get base(): number {
    return this.#base;
  }

  /** Wire bytes in flight. */
  get bytes(): number {
    return this.#bytes;
  }

  push(frame: OutFrame): void {
    this.#frames.push(frame);
    this.#bytes += frameBytes(frame);
  }

  /** The frame with this sequence; it must be in the buffer. */
  at(sequence: number): OutFrame {
    return this.#frames[this.#head + sequence - this.#base] as OutFrame;
  }

  /**
   * The peer has everything below `sequence`. Undefined when that cannot be: more than was sent, or less than it
   * had acknowledged before.
   */
  acknowledge(sequence: number): Acknowledged | undefined {
    if (sequence < this.#base || sequence > this.next) return undefined;
    let bytes = 0;
    let newest: OutFrame | undefined;
    for (; this.#base < sequence; this.#base += 1) {
      newest = this.#frames[this.#head] as OutFrame;
      bytes += frameBytes(newest);
      this.#frames[this.#head] = undefined;
      this.#head += 1;
    }
    this.#bytes -= bytes;
    if (this.#head === this.#frames.length) {
      this.#frames.length = 0;
      this.#head = 0;
    } else if (this.#head >= COMPACT_AT && this.#head * 2 >= this.#frames.length) {
      // amortised: each frame is moved at most once per time it was pushed
      this.#frames = this.#frames.slice(this.#head);
      this.#head = 0;
    }
    return { bytes, newest };
  }

  /** Forgets the frames, so that their payloads can be freed. */
  clear(): void {
    this.#base = this.next;
    this.#frames = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}
