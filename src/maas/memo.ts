/**
 * A memory that lasts as long as asking again would hurt: a list that MAAS answers in milliseconds is
 * practically always fresh, one that takes seconds (thousands of DNS records or images) is kept for minutes.
 */
import type { Clock } from '../base/clock.ts';

/** Share of time that a caller in a tight loop may keep MAAS busy with this list: 1/20. */
const KEPT_PER_COST = 20;
/** However slow MAAS is, a new image or domain shows after this, milliseconds. */
const LONGEST_MS = 300_000;

/** Remembers the result of `load`; failures are not remembered. */
export function createMemo<T>(
  clock: Clock,
  load: (signal: AbortSignal) => Promise<T>,
): (signal: AbortSignal) => Promise<T> {
  let known: { readonly value: T; readonly until: number } | undefined;
  return async (signal) => {
    const started = clock.monotonic();
    if (known !== undefined && started < known.until) return known.value;
    const value = await load(signal);
    const ended = clock.monotonic();
    known = { value, until: ended + Math.min(LONGEST_MS, (ended - started) * KEPT_PER_COST) };
    return value;
  };
}
