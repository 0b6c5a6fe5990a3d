/**
 * Simulated time. Everything that takes minutes on real hardware is written down in real milliseconds
 * and divided by the speed here, so that one option makes the whole data centre faster.
 */
import type { Clock } from '../base/clock.ts';
import type { Pace } from './ports.ts';

/** `speed` 1 is real time, 60 turns a minute into a second. Throws RangeError unless it is positive. */
export function createPace(clock: Clock, speed: number): Pace {
  if (!(speed > 0)) throw new RangeError(`speed must be a positive number, got ${speed}`);
  return { speed, sleep: (ms, signal) => clock.sleep(ms / speed, signal) };
}
