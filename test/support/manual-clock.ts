/**
 * Time that moves only when a test says so. `advance` fires timers in order of their due time and lets
 * everything that they woke (microtasks, nextTick, setImmediate) run before the next one fires.
 * Wall and monotonic time can be moved apart, as suspends and NTP do.
 */
import type { Clock } from '../../src/base/clock.ts';
import { TimerQueue } from './timer-queue.ts';

/** Rounds of the event loop given to woken code before time moves on; streams and promises need a few. */
const SETTLE_ROUNDS = 4;

export class ManualClock implements Clock {
  #monotonic: number;
  #wall: number;
  readonly #timers = new TimerQueue();

  /** `wall`: milliseconds since the epoch at start; monotonic time starts at 1000 (never 0, to catch falsy bugs). */
  constructor(wall: number = Date.UTC(2026, 0, 1)) {
    this.#wall = wall;
    this.#monotonic = 1000;
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        timer[Symbol.dispose]();
        reject(signal?.reason);
      };
      const timer = this.timer(ms, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  timer(ms: number, run: () => void): Disposable {
    return this.#timers.add(this.#monotonic + Math.max(0, ms), run);
  }

  /** Timers and sleeps not yet fired: 0 after a clean shutdown. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time forward, firing what is due in order; settles before, between and after. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    await this.settle();
    for (;;) {
      const { first } = this.#timers;
      if (first === undefined || first.at > end) break;
      this.#move(Math.max(first.at, this.#monotonic));
      this.#timers.shift();
      first.run();
      await this.settle();
    }
    this.#move(end);
    await this.settle();
  }

  /** Lets everything run that needs no time. */
  async settle(rounds: number = SETTLE_ROUNDS): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
    }
  }

  /**
   * Moves the clocks without firing timers: `wallMs` alone is a suspend as Linux shows it (or an NTP step, may
   * be negative); with `monotonicMs` it is a blocked event loop. Due timers fire at the next `advance`.
   */
  jump(wallMs: number, monotonicMs = 0): void {
    this.#wall += wallMs;
    this.#monotonic += monotonicMs;
  }

  #move(to: number): void {
    this.#wall += to - this.#monotonic;
    this.#monotonic = to;
  }
}
