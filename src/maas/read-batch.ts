/**
 * Many ask, one reads: wishes that arrive while a read is under way go out together in the next one. Each
 * wish is answered by a read that began after it was made.
 */

/** Reads and returns what to do with the result; called for one batch at a time. */
export type ReadSome = (ids: readonly string[], signal: AbortSignal) => Promise<() => void>;

export interface ReadBatch {
  /** Resolves when all `ids` have been read; rejects with the read's error or when `signal` aborts. */
  want(ids: readonly string[], signal: AbortSignal): Promise<void>;
}

interface Round {
  readonly ids: Set<string>;
  readonly done: PromiseWithResolvers<void>;
}

export function createReadBatch(options: {
  /** Ends the reads themselves; one waiter's own signal only ends its waiting. */
  readonly signal: AbortSignal;
  readonly idsPerRead: () => number;
  readonly read: ReadSome;
}): ReadBatch {
  let next: Round | undefined;
  let busy = false;

  async function drain(): Promise<void> {
    busy = true;
    try {
      for (let round = next; round !== undefined; round = next) {
        next = undefined;
        try {
          const ids = [...round.ids];
          while (ids.length > 0) {
            const apply = await options.read(ids.splice(0, options.idsPerRead()), options.signal);
            apply();
          }
          round.done.resolve();
        } catch (error) {
          round.done.reject(error);
        }
      }
    } finally {
      busy = false;
    }
  }

  return {
    async want(ids, signal) {
      signal.throwIfAborted();
      if (ids.length === 0) return;
      if (next === undefined) {
        next = { ids: new Set(), done: Promise.withResolvers() };
        next.done.promise.catch(() => {}); // waiters may all have gone
      }
      const { done } = next;
      for (const id of ids) next.ids.add(id);
      if (!busy) void drain();
      await orAborted(done.promise, signal);
    },
  };
}

/** The promise, unless the signal aborts first. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
