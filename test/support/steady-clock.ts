/** The time of this process for tests that hold both ends of a connection: no deadline fires because neither could do anything. */
import { systemClock } from '../../src/base/clock.ts';
import { createSteadyClock } from '../../src/base/steady-clock.ts';

export const steadyClock = createSteadyClock(systemClock);
