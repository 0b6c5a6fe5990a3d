/** The wall clock with shorter waits: an hour of pauses and deadlines passes in an hour divided by `factor`. */
import { type Clock, systemClock } from '../../src/base/clock.ts';

export function hurriedClock(factor: number): Clock {
  return {
    now: () => systemClock.now(),
    monotonic: () => systemClock.monotonic() * factor,
    sleep: (ms, signal) => systemClock.sleep(ms / factor, signal),
    timer: (ms, run) => systemClock.timer(ms / factor, run),
  };
}
