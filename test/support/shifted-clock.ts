/** The system's clock with a wall time that a test moves; what is awaited passes as ever. */
import { type Clock, systemClock } from '../../src/base/clock.ts';

export interface ShiftedClock extends Clock {
  /** Milliseconds forward from the present wall time. */
  move(ms: number): void;
}

export function shiftedClock(): ShiftedClock {
  let shift = 0;
  return {
    now: () => systemClock.now() + shift,
    monotonic: () => systemClock.monotonic(),
    sleep: (ms, signal) => systemClock.sleep(ms, signal),
    timer: (ms, callback) => systemClock.timer(ms, callback),
    move(ms) {
      shift += ms;
    },
  };
}
