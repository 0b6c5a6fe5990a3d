/**
 * Time that leaps to the next timer whenever this process has nothing to do: hours of waiting pass in no time, and a
 * machine under load makes a run longer but never makes a deadline pass. It has something to do for as long as the
 * event loop still finds events, other threads work for it, or bytes are between two of its sockets.
 */
import { performance } from 'node:perf_hooks';
import type { Clock } from '../../src/base/clock.ts';
import { TimerQueue } from './timer-queue.ts';
import { WorkUnderWay } from './work-under-way.ts';

/** Looks at the event loop without an event before it counts as idle. */
const QUIET_ROUNDS = 4;

/** For runs of days with certificates of 90 days. */
const BEHIND_MS = 30 * 24 * 3600 * 1000;

export class LeapingClock implements Clock, Disposable {
  readonly #timers = new TimerQueue();
  #epoch: number;
  #monotonic = 1000;
  #leaping = false;
  #stopped = false;

  /**
   * `behindMs`: how far the time starts behind the real one, by which TLS judges certificates whatever this clock says.
   * One that is made at the end of a run must already be valid, one that was made at its start must still be.
   */
  constructor(behindMs: number = BEHIND_MS) {
    this.#epoch = Date.now() - behindMs;
    work ??= new WorkUnderWay();
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
    const timer = this.#timers.add(Math.ceil(this.#monotonic + Math.max(1, ms)), run);
    if (!this.#leaping) void this.#leap();
    return timer;
  }

  /** Sets the wall clock, as NTP or a suspend does; what waits goes on waiting. */
  jump(wallMs: number): void {
    this.#epoch += wallMs;
  }

  /** No timer fires any more. */
  [Symbol.dispose](): void {
    this.#stopped = true;
  }

  async #leap(): Promise<void> {
    this.#leaping = true;
    while (!this.#stopped && this.#timers.size > 0) {
      await this.#idle();
      const next = this.#stopped ? undefined : this.#timers.shift();
      if (next === undefined) continue;
      this.#monotonic = Math.max(this.#monotonic, next.at);
      next.run();
    }
    this.#leaping = false;
  }

  async #idle(): Promise<void> {
    let seen = events();
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      if (work?.ofThreads) await aMoment();
      await new Promise((resolve) => setImmediate(resolve));
      const now = events();
      quiet = now === seen && !work?.ofThreads ? quiet + 1 : 0;
      seen = now;
      if (quiet < QUIET_ROUNDS || !work?.onWires()) continue;
      quiet = 0;
      await aMoment();
    }
  }
}

/** The loop sleeps until something comes, a millisecond at most: whoever is to do the work needs the core. */
const aMoment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));

/** Events that the loop has handled: readable sockets, connections, finished work of other threads. */
function events(): number {
  return performance.nodeTiming.uvMetricsInfo.events;
}

let work: WorkUnderWay | undefined;
