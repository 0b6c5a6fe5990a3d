/** A clock with shorter waits: an hour of pauses and deadlines passes in an hour divided by `factor`. */
import { type Clock, systemClock } from '../../src/base/clock.ts';

export function hurriedClock(factor: number, clock: Clock = systemClock): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic() * factor,
    sleep: (ms, signal) => clock.sleep(ms / factor, signal),
    timer: (ms, run) => clock.timer(ms / factor, run),
  };
}
