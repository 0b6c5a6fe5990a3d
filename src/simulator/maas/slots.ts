/** The region's request slots: what does not fit waits in line, nothing is refused. */

export class Slots {
  readonly #size: number;
  readonly #waiting: (() => void)[] = [];
  #busy = 0;
  #peak = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** Most that ever ran at once. */
  get peak(): number {
    return this.#peak;
  }

  /** At work or in line. */
  get inside(): number {
    return this.#busy + this.#waiting.length;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy >= this.#size) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#busy += 1;
    this.#peak = Math.max(this.#peak, this.#busy);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#busy -= 1;
    }
  }
}
