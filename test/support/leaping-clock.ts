/**
 * Time that leaps to the next timer whenever this process has nothing to do: hours of waiting pass in no time, and a
 * machine under load makes a run longer but never makes a deadline pass. Sockets within the process count as work
 * for as long as the event loop still finds events; key generation and signatures, which run on other threads, are
 * counted where they are called.
 */
import { webcrypto } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { Clock } from '../../src/base/clock.ts';

/** Looks at the event loop without an event before it counts as idle. */
const QUIET_ROUNDS = 4;

/** For runs of days with certificates of 90 days. */
const BEHIND_MS = 30 * 24 * 3600 * 1000;

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

export class LeapingClock implements Clock, Disposable {
  /** In the order of their time, then of their making. */
  readonly #timers: Timer[] = [];
  readonly #crypto = new CryptoWork();
  readonly #epoch: number;
  #monotonic = 1000;
  #stopped = false;

  /**
   * `behindMs`: how far the time starts behind the real one, by which TLS judges certificates whatever this clock says.
   * One that is made at the end of a run must already be valid, one that was made at its start must still be.
   */
  constructor(behindMs: number = BEHIND_MS) {
    this.#epoch = Date.now() - behindMs;
    void this.#leap();
  }

  now(): number {
    return this.#epoch + this.#monotonic;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
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
    // As setTimeout: whole milliseconds, one at least; else a rest of 1e-12 ms would be waited for for ever.
    const timer: Timer = { at: Math.ceil(this.#monotonic + Math.max(1, ms)), run };
    const after = this.#timers.findLastIndex(({ at }) => at <= timer.at);
    this.#timers.splice(after + 1, 0, timer);
    return {
      [Symbol.dispose]: () => {
        const index = this.#timers.indexOf(timer);
        if (index >= 0) this.#timers.splice(index, 1);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#stopped = true;
    this.#crypto[Symbol.dispose]();
  }

  async #leap(): Promise<void> {
    while (!this.#stopped) {
      await this.#idle();
      const [next] = this.#timers;
      if (next === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        continue;
      }
      this.#timers.shift();
      this.#monotonic = Math.max(this.#monotonic, next.at);
      next.run();
    }
  }

  async #idle(): Promise<void> {
    let seen = events();
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      if (this.#crypto.pending > 0) await new Promise((resolve) => setTimeout(resolve, 1));
      await new Promise((resolve) => setImmediate(resolve));
      const now = events();
      quiet = now === seen && this.#crypto.pending === 0 ? quiet + 1 : 0;
      seen = now;
    }
  }
}

/** Events that the loop has handled: readable sockets, connections, finished work of other threads. */
function events(): number {
  return performance.nodeTiming.uvMetricsInfo.events;
}

const METHODS = ['generateKey', 'importKey', 'exportKey', 'sign', 'verify', 'digest', 'deriveBits'] as const;

/** Counts the calls of Web Crypto that have not ended. */
class CryptoWork implements Disposable {
  pending = 0;
  readonly #real = new Map<string, unknown>();

  constructor() {
    const subtle = Object.getPrototypeOf(webcrypto.subtle) as Record<string, unknown>;
    for (const name of METHODS) {
      const real = subtle[name] as (...given: unknown[]) => Promise<unknown>;
      this.#real.set(name, real);
      const count = this.#counted.bind(this);
      subtle[name] = function (this: unknown, ...given: unknown[]) {
        return count(real.apply(this, given));
      };
    }
  }

  async #counted(work: Promise<unknown>): Promise<unknown> {
    this.pending += 1;
    try {
      return await work;
    } finally {
      this.pending -= 1;
    }
  }

  [Symbol.dispose](): void {
    const subtle = Object.getPrototypeOf(webcrypto.subtle) as Record<string, unknown>;
    for (const [name, real] of this.#real) subtle[name] = real;
  }
}
