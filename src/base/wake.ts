/**
 * A level-triggered doorbell: rings are never lost and never pile up. Used between producers that only
 * say "something changed" and one consumer that looks at everything anyway.
 */
import type { Clock } from './clock.ts';

export class Wake {
  #rung = false;
  #waiter: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#waiter?.();
  }

  /** Resolves at the next ring (at once if already rung) or after `timeoutMs`; rejects when aborted. */
  async wait(clock: Clock, timeoutMs: number, signal: AbortSignal): Promise<'rung' | 'timeout'> {
    signal.throwIfAborted();
    if (!this.#rung) {
      const stop = new AbortController();
      const rung = new Promise<void>((resolve) => {
        this.#waiter = resolve;
      });
      const slept = clock.sleep(timeoutMs, AbortSignal.any([signal, stop.signal])).catch((error: unknown) => {
        if (signal.aborted) throw error;
      });
      try {
        await Promise.race([rung, slept]);
      } finally {
        this.#waiter = undefined;
        stop.abort();
      }
    }
    const outcome = this.#rung ? 'rung' : 'timeout';
    this.#rung = false;
    return outcome;
  }
}
