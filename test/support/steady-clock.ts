/**
 * A clock for everything that runs in one process: a few milliseconds pass for each that the process was given,
 * never more, and timers fire in the order in which they are due, each after what the one before woke. On a machine that
 * is busy with something else time goes slower, and no deadline runs out before the answer that was due earlier.
 */
import { ManualClock } from './manual-clock.ts';

/** Of this clock, for each millisecond that the process gets: enough for keys and signatures, which take real time. */
const STEP_MS = 4;

export class SteadyClock extends ManualClock {
  #running = false;

  constructor() {
    super(Date.now());
  }

  override timer(ms: number, run: () => void): Disposable {
    const timer = super.timer(Math.max(ms, 1), run); // as setTimeout: who polls without a pause lets time pass
    if (!this.#running) void this.#run();
    return timer;
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.pending > 0) {
      await new Promise<void>((resolve) => void setTimeout(resolve, 1));
      await this.advance(STEP_MS);
    }
    this.#running = false;
  }
}
