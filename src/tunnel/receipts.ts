/**
 * What this end has received, and when it says so. An acknowledgement is a message, a system call, and a turn of
 * the peer's event loop: at full speed one for every 32 KiB cost as much as writing the data itself.
 */
import type { Clock } from '../base/clock.ts';
import type { Ack } from './payload.ts';

/** Acknowledge after this many received bytes, though not more often than every ACK_PACE_MS. */
const ACK_BYTES = 32 * 1024;
/** The governor grants a turn of four milliseconds on top of the trip, so that this much delay starves nobody. */
const ACK_PACE_MS = 1;
/** At the latest after this time while busy, or this when quiet. */
const ACK_BUSY_MS = 25;
const ACK_QUIET_MS = 200;

export class Receipts {
  readonly #clock: Clock;
  readonly #acknowledge: () => void;
  /** Reliable frames received. */
  #count: number;
  #bytes = 0;
  #lastAt = 0;
  #ackedCount: number;
  #ackedBytes = 0;
  #ackedAt = 0;
  #timer: Disposable | undefined;
  #timerMs = 0;

  /** `acknowledge`: an acknowledgement is due; `take` gives it. */
  constructor(clock: Clock, first: number, acknowledge: () => void) {
    this.#clock = clock;
    this.#acknowledge = acknowledge;
    this.#count = first;
    this.#ackedCount = first;
  }

  /** Count of reliable frames received: the number of the next one. */
  get count(): number {
    return this.#count;
  }

  add(wireBytes: number, now: number): void {
    this.#count += 1;
    this.#bytes += wireBytes;
    this.#lastAt = now;
  }

  /** Called after every message. */
  plan(now: number): void {
    if (this.#count === this.#ackedCount) return;
    const since = now - this.#ackedAt;
    if (this.#bytes - this.#ackedBytes < ACK_BYTES)
      this.#arm(since <= ACK_QUIET_MS ? ACK_BUSY_MS : ACK_QUIET_MS);
    else if (since >= ACK_PACE_MS) this.#acknowledge();
    else this.#arm(ACK_PACE_MS);
  }

  /** The acknowledgement that is due now, if any. */
  take(now: number): Ack | undefined {
    if (this.#count === this.#ackedCount) return undefined;
    this.rest();
    this.#ackedAt = now;
    this.#ackedCount = this.#count;
    this.#ackedBytes = this.#bytes;
    return { sequence: this.#count, bytes: this.#bytes, delayUs: (now - this.#lastAt) * 1000 };
  }

  /** Plans nothing more until the next message. */
  rest(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }

  #arm(ms: number): void {
    if (this.#timer !== undefined && this.#timerMs <= ms) return;
    this.rest();
    this.#timerMs = ms;
    this.#timer = this.#clock.timer(ms, () => {
      this.#timer = undefined;
      this.#acknowledge();
    });
  }
}
