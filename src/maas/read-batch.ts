/**
 * Reads machines for everybody who wants some: wishes that arrive while a read is under way go out together in
 * the next one. Each wish is answered by a read that began after it was made.
 */
import { createRounds } from './rounds.ts';

/** Reads and returns what to do with the result; called for one batch at a time. */
export type ReadSome = (ids: readonly string[], signal: AbortSignal) => Promise<() => void>;

export interface ReadBatch {
  /** Resolves when all `ids` have been read; rejects with the read's error or when `signal` aborts. */
  want(ids: readonly string[], signal: AbortSignal): Promise<void>;
}

export function createReadBatch(options: {
  readonly idsPerRead: () => number;
  readonly read: ReadSome;
}): ReadBatch {
  const ask = createRounds<readonly string[], void>(async (wishes, signal) => {
    const ids = [...new Set(wishes.flat())];
    while (ids.length > 0) {
      const apply = await options.read(ids.splice(0, options.idsPerRead()), signal);
      apply();
    }
  });
  return {
    async want(ids, signal) {
      signal.throwIfAborted();
      if (ids.length > 0) await ask(ids, signal);
    },
  };
}
