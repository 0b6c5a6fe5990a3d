/**
 * The system's time as this process lives it: while it stands still (stopped, starved, swapped out) no time passes. Where
 * both ends of a connection live in one process, a deadline must not fire because neither end could do anything.
 */
import type { Clock } from '../../src/base/clock.ts';

/** What passes between two looks is counted up to this; more is a stall. */
const STALL_MS = 250;
const LOOK_MS = 100;

let counted = performance.now();
let lookedAt = counted;

function monotonic(): number {
  const now = performance.now();
  counted += Math.min(now - lookedAt, STALL_MS);
  lookedAt = now;
  return counted;
}
setInterval(monotonic, LOOK_MS).unref();

/** Calls `run` when so much time was lived through. */
function after(ms: number, run: () => void, keepsAlive: boolean): Disposable {
  const due = monotonic() + ms;
  let handle: NodeJS.Timeout;
  const arm = (): void => {
    handle = setTimeout(() => (monotonic() < due ? arm() : run()), Math.max(1, due - monotonic()));
    if (!keepsAlive) handle.unref();
  };
  arm();
  return { [Symbol.dispose]: () => clearTimeout(handle) };
}

export const steadyClock: Clock = {
  now: () => Date.now(),
  monotonic,
  sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        timer[Symbol.dispose]();
        reject(signal?.reason);
      };
      const timer = after(
        ms,
        () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
        true,
      );
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  },
  timer: (ms, run) => after(ms, run, false),
};
