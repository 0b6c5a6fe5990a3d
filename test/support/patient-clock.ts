/**
 * The real time without deadlines: pauses end, nothing is ever given up. For tests of what servers answer, not of how long
 * they may take: a machine that stands still for a moment makes such a test longer and changes nothing else.
 */
import { type Clock, systemClock } from '../../src/base/clock.ts';

export const patientClock: Clock = {
  ...systemClock,
  timer: () => ({ [Symbol.dispose]: () => {} }),
};
