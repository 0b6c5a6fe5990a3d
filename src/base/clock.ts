/**
 * The one door to time. Everything that waits, waits through a Clock, so tests can own time
 * (fake timers reach neither node:timers/promises nor AbortSignal.timeout).
 * Invariant: a sleep ends early only by its AbortSignal, and then rejects with the signal's reason.
 */

export interface Clock {
  /** Wall-clock time, milliseconds since the epoch. May jump; only for showing and for signatures. */
  now(): number;
  /** Milliseconds that only go forward. For every duration and deadline. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with `signal.reason` when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `run` once after `ms`. Dispose to cancel. Does not keep the process alive. */
  timer(ms: number, run: () => void): Disposable;
}

/** setTimeout's largest delay (2^31 - 1 ms); beyond it Node fires at once. */
const MAX_TIMER_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(handle);
        reject(signal?.reason);
      };
      const handle = setTimeout(
        () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
        Math.min(Math.max(0, ms), MAX_TIMER_MS),
      );
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  },
  timer(ms, run) {
    const handle = setTimeout(run, Math.min(Math.max(0, ms), MAX_TIMER_MS));
    handle.unref();
    return { [Symbol.dispose]: () => clearTimeout(handle) };
  },
};

/** Thrown (as the abort reason) by `withDeadline` when time ran out. */
export class DeadlineError extends Error {
  readonly timeoutMs: number;
  constructor(what: string, timeoutMs: number) {
    super(`${what} did not finish within ${timeoutMs} ms`);
    this.name = 'DeadlineError';
    this.timeoutMs = timeoutMs;
  }
}

/**
 * Runs `work` with a signal that aborts after `timeoutMs` (reason: DeadlineError) or with `parent`.
 * The signal is how the work learns of it: work that ignores its signal is not interrupted.
 */
export async function withDeadline<T>(
  clock: Clock,
  timeoutMs: number,
  what: string,
  parent: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  using _timer = clock.timer(timeoutMs, () => controller.abort(new DeadlineError(what, timeoutMs)));
  const signal = parent ? AbortSignal.any([parent, controller.signal]) : controller.signal;
  signal.throwIfAborted();
  return await work(signal);
}
