/** The nonces of committed requests. MAAS keeps them for some minutes; so does this, within a bound. */

/** A repeated nonce is only dangerous while its timestamp is accepted (5 minutes). */
const KEEP_MS = 10 * 60_000;
/** Looked at only when there are this many, since looking costs. */
const PRUNE_ABOVE = 50_000;

export class Nonces {
  /** In the order of their commits. */
  readonly #seen = new Map<string, number>();

  has(key: string): boolean {
    return this.#seen.has(key);
  }

  add(key: string, nowMs: number): void {
    this.#seen.set(key, nowMs);
    if (this.#seen.size <= PRUNE_ABOVE) return;
    for (const [old, at] of this.#seen) {
      if (nowMs - at < KEEP_MS) break;
      this.#seen.delete(old);
    }
  }
}
