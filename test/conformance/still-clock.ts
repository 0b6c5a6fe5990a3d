/**
 * A clock for checking answers: what a BMC needs passes at once, everything longer never ends. So an
 * operation's own effects are visible and the machine's further life does not run away with it.
 */
import { type Clock, systemClock } from '../../src/base/clock.ts';

/** Longest sleep that counts as immediate, milliseconds. */
const IMMEDIATE_MS = 5_000;

export const stillClock: Clock = {
  ...systemClock,
  sleep(ms, signal) {
    if (ms <= IMMEDIATE_MS) return Promise.resolve();
    return new Promise((_resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  },
};
