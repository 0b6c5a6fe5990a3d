/**
 * Counts tries per key in a fixed window; memory is bounded by forgetting the oldest keys first. Keys of addresses are
 * made by `networkOf`: whoever has one address of IPv6 has a whole /64 of them.
 */
import type { Clock } from '../base/clock.ts';

/** Keys remembered at once; an attacker with more addresses gets through one try a window each. */
const MAX_KEYS = 20_000;

export class RateLimit {
  readonly #clock: Clock;
  readonly #tries: number;
  readonly #windowMs: number;
  readonly #windows = new Map<string, { startedAt: number; count: number }>();

  constructor(clock: Clock, tries: number, windowMs: number) {
    this.#clock = clock;
    this.#tries = tries;
    this.#windowMs = windowMs;
  }

  /** Milliseconds until another try is allowed; 0 = now. Does not count. */
  waitMs(key: string): number {
    const window = this.#windows.get(key);
    if (!window || window.count < this.#tries) return 0;
    return Math.max(0, window.startedAt + this.#windowMs - this.#clock.monotonic());
  }

  count(key: string): void {
    const now = this.#clock.monotonic();
    const window = this.#windows.get(key);
    if (window && now - window.startedAt < this.#windowMs) {
      window.count += 1;
      return;
    }
    this.#windows.delete(key);
    if (this.#windows.size >= MAX_KEYS) this.#windows.delete(this.#windows.keys().next().value as string);
    this.#windows.set(key, { startedAt: now, count: 1 });
  }

  forget(key: string): void {
    this.#windows.delete(key);
  }
}
