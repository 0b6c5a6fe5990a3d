/**
 * What this end has received, and when it says so. An acknowledgement is a message, a system call, and a turn of
 * the peer's event loop: at full speed one for every 32 KiB cost as much as writing the data itself.
 */
import type { Clock } from '../base/clock.ts';
import type { Ack } from './payload.ts';

/** Acknowledge after this many received bytes, though not more often than every ACK_PACE_MS. */
const ACK_BYTES = 32 * 1024;
/** Less than a frame of bulk: an acknowledgement of so little goes along with what leaves anyway. */
const RIDE_BYTES = 8 * 1024;
/** The governor grants a turn of four milliseconds on top of the trip, so that this much delay starves nobody. */
const ACK_PACE_MS = 1;
/** At the latest after this time while busy, or this when quiet. */
const ACK_BUSY_MS = 25;
const ACK_QUIET_MS = 200;
/** Timers may run this much early. */
const TIMER_MS = 1;

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
  /** What came is acknowledged at this time at the latest. */
  #dueAt = Number.POSITIVE_INFINITY;
  /** Runs at `#timerAt` or before `#dueAt`; an acknowledgement that left meanwhile does not stop it: most would. */
  #timer: Disposable | undefined;
  #timerAt = 0;

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

  /** Wire bytes of those frames. */
  get bytes(): number {
    return this.#bytes;
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
      this.#within(since <= ACK_QUIET_MS ? ACK_BUSY_MS : ACK_QUIET_MS, now);
    else if (since >= ACK_PACE_MS) this.#acknowledge();
    else this.#within(ACK_PACE_MS, now);
  }

  /**
   * For a message that leaves anyway: small requests are acknowledged with their answers, so that the peer need not
   * keep hundreds of frames until an acknowledgement is due. Bulk keeps its pace: the governor would see its frames
   * acknowledged at the moment at which it gets credit, and never find that it is what holds bulk back.
   */
  ride(now: number): Ack | undefined {
    const bytes = this.#bytes - this.#ackedBytes;
    return bytes > RIDE_BYTES || now - this.#ackedAt < ACK_PACE_MS ? undefined : this.take(now);
  }

  /** The acknowledgement of what was not acknowledged yet, if any. */
  take(now: number): Ack | undefined {
    if (this.#count === this.#ackedCount) return undefined;
    this.#dueAt = Number.POSITIVE_INFINITY;
    this.#ackedAt = now;
    this.#ackedCount = this.#count;
    this.#ackedBytes = this.#bytes;
    return { sequence: this.#count, bytes: this.#bytes, delayUs: (now - this.#lastAt) * 1000 };
  }

  /** Plans nothing more until the next message. */
  rest(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#dueAt = Number.POSITIVE_INFINITY;
  }

  #within(ms: number, now: number): void {
    this.#dueAt = Math.min(this.#dueAt, now + ms);
    this.#arm(now);
  }

  #arm(now: number): void {
    if (this.#timer !== undefined && this.#timerAt <= this.#dueAt) return;
    this.#timer?.[Symbol.dispose]();
    this.#timerAt = this.#dueAt;
    this.#timer = this.#clock.timer(this.#dueAt - now, this.#onTimer);
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined;
    if (this.#dueAt === Number.POSITIVE_INFINITY) return;
    const now = this.#clock.monotonic();
    if (this.#dueAt - now < TIMER_MS) this.#acknowledge();
    else this.#arm(now);
  };
}
