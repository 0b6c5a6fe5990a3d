/**
 * Run something for ever: one attempt -> outcome -> how long to wait. The loop ends only by its signal,
 * and no exception can leave it without a next attempt (an escaped error is itself an outcome).
 */
import type { Clock } from './clock.ts';

export interface LoopOptions<Outcome> {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** One attempt. Exceptions are turned into an outcome by `onError`. */
  readonly attempt: (signal: AbortSignal) => Promise<Outcome>;
  readonly onError: (error: unknown) => Outcome;
  /** The whole policy: how long to wait after this outcome, milliseconds. */
  readonly delayMs: (outcome: Outcome) => number;
}

/** Resolves when `signal` aborts; never rejects. */
export async function runForever<Outcome>(options: LoopOptions<Outcome>): Promise<void> {
  const { clock, signal } = options;
  while (!signal.aborted) {
    let outcome: Outcome;
    try {
      outcome = await options.attempt(signal);
    } catch (error) {
      if (signal.aborted) return;
      outcome = options.onError(error);
    }
    try {
      await clock.sleep(options.delayMs(outcome), signal);
    } catch {
      return; // only the signal ends a sleep early
    }
  }
}
