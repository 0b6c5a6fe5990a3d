/**
 * Exponential back-off with full jitter. The jitter is drawn after the cap, so that peers which all
 * sit at the cap still spread (jitter before the cap makes them wait the same time).
 */

export interface Backoff {
  /** Upper bound of the first draw, milliseconds. */
  readonly baseMs: number;
  /** Upper bound of every draw, milliseconds. */
  readonly capMs: number;
}

/** Delay in milliseconds before retry number `attempt` (0-based): uniform in [0, min(cap, base x 2^attempt)). */
export function backoffMs(policy: Backoff, attempt: number, random: () => number = Math.random): number {
  const bound = Math.min(policy.capMs, policy.baseMs * 2 ** Math.min(Math.max(0, attempt), 30));
  return random() * bound;
}
