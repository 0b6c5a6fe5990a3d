/**
 * Bounds on what a peer may ask of us per time: cheap frames that cost us work, and streams that are opened only
 * to be reset. Frames that move data, credit or acknowledgements forward are free.
 */

/** Frames without progress per second: ping floods, empty data, frames for streams that ended. */
export const MAX_IDLE_FRAMES_PER_S = 10_000;
/** Opened and reset before anything was answered, within RESET_WINDOW_MS (the "rapid reset" attack). */
export const MAX_RAPID_RESETS = 200;
export const RESET_WINDOW_MS = 10_000;
/** Credit in smaller pieces than any honest window gives back. */
export const TINY_CREDIT_BYTES = 1024;

/** Counts events in a window that starts with the first of them. */
class Limit {
  readonly #max: number;
  readonly #windowMs: number;
  #start = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(max: number, windowMs: number) {
    this.#max = max;
    this.#windowMs = windowMs;
  }

  /** True when this one is too many. */
  hit(now: number): boolean {
    if (now - this.#start >= this.#windowMs) {
      this.#start = now;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count > this.#max;
  }
}

export class AbuseGuard {
  readonly #idle = new Limit(MAX_IDLE_FRAMES_PER_S, 1000);
  readonly #resets = new Limit(MAX_RAPID_RESETS, RESET_WINDOW_MS);

  /** A frame that moved nothing forward. True: too many. */
  idleFrame(now: number): boolean {
    return this.#idle.hit(now);
  }

  /** The peer reset a stream that it had opened at `openedAt` and that had not been answered. True: too many. */
  rapidReset(openedAt: number, now: number): boolean {
    return now - openedAt < RESET_WINDOW_MS && this.#resets.hit(now);
  }
}
