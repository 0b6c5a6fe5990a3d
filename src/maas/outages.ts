/** When MAAS did not answer: what only MAAS can tell about had no chance to end meanwhile. */
export interface Outage {
  /** Wall clock, milliseconds. */
  readonly from: number;
  readonly until: number;
}

/** Flapping makes many short ones; the oldest are of no interest any more. */
const KEPT = 64;

export class Outages {
  readonly #ended: Outage[] = [];
  #from: number | undefined;

  failed(now: number): void {
    this.#from ??= now;
  }

  answered(now: number): void {
    if (this.#from === undefined) return;
    this.#ended.push({ from: this.#from, until: now });
    this.#from = undefined;
    if (this.#ended.length > KEPT) this.#ended.shift();
  }

  /** Oldest first; one that has not ended lasts until `now`. */
  list(now: number): readonly Outage[] {
    return this.#from === undefined ? [...this.#ended] : [...this.#ended, { from: this.#from, until: now }];
  }
}

/** How long MAAS was away between the two times, milliseconds. */
export function awayMs(outages: readonly Outage[], from: number, until: number): number {
  return outages.reduce(
    (sum, outage) => sum + Math.max(0, Math.min(until, outage.until) - Math.max(from, outage.from)),
    0,
  );
}
