/**
 * For how long a region has said nothing although it was asked. Whoever hangs keeps its connections: no request has
 * failed yet, and only this shows it.
 */
export class Silence {
  #pending = 0;
  /** A question since the newest answer got none, for good. */
  #lost = false;
  /** Monotonic time of the first question that is open, or was lost, since the newest answer. */
  #since: number | undefined;

  /** Milliseconds at `now`; 0 when everything that was asked was answered or withdrawn. */
  lasts(now: number): number {
    return this.#since === undefined ? 0 : now - this.#since;
  }

  asked(now: number): void {
    this.#pending += 1;
    this.#since ??= now;
  }

  /** Any answer to any question shows that somebody is there: the others are open from here on. */
  answered(now: number): void {
    this.#since = now;
    this.#lost = false;
  }

  /** A question is over: `lost` without an answer, else answered or withdrawn. */
  over(lost: boolean): void {
    this.#pending -= 1;
    this.#lost ||= lost;
    if (this.#pending === 0 && !this.#lost) this.#since = undefined;
  }
}
