/** Timers of a clock of the tests, in the order in which they are due; those due together in the order of their making. */

export interface Timer {
  /** Monotonic milliseconds. */
  readonly at: number;
  readonly run: () => void;
}

export class TimerQueue {
  readonly #timers: Timer[] = [];

  get size(): number {
    return this.#timers.length;
  }

  /** The one that is due first. */
  get first(): Timer | undefined {
    return this.#timers[0];
  }

  add(at: number, run: () => void): Disposable {
    const timer: Timer = { at, run };
    this.#timers.splice(this.#behind(at), 0, timer);
    return { [Symbol.dispose]: () => this.#remove(timer) };
  }

  shift(): Timer | undefined {
    return this.#timers.shift();
  }

  /** Where one that is due at this time would be added. */
  #behind(at: number): number {
    let [low, high] = [0, this.#timers.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#timers[middle] as Timer).at <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #remove(timer: Timer): void {
    const index = this.#timers.lastIndexOf(timer, this.#behind(timer.at) - 1);
    if (index >= 0) this.#timers.splice(index, 1);
  }
}
