/**
 * The real clock for what runs over real sockets and processes: a deadline of the product does not come while a
 * machine that is busy, or stands still for a while, is at it. Whoever tests a deadline brings a clock that hurries,
 * or one that moves when told.
 */
import { type Clock, systemClock } from '../../src/base/clock.ts';

/** The shortest of the product's deadlines; below are its beats and acknowledgements, and what a test asked for. */
const SHORTEST_DEADLINE_MS = 3_000;
/** The shortest then takes as long as a test may. */
const PATIENCE = 100;

export const unhurriedClock: Clock = {
  ...systemClock,
  timer: (ms, run) => systemClock.timer(ms < SHORTEST_DEADLINE_MS ? ms : ms * PATIENCE, run),
};
