/**
 * Many ask, one asks MAAS: questions that arrive while a round is under way are answered together by the next
 * one, so every answer is younger than its question, and any number of questions at once costs two rounds.
 */

interface Round<Wish, Answer> {
  readonly wishes: Wish[];
  readonly answer: PromiseWithResolvers<Answer>;
  readonly control: AbortController;
  /** Those who still wait; a round that nobody waits for is given up. */
  waiting: number;
}

/** Resolves with the answer of a round begun after this call; rejects with its error or when `signal` aborts. */
export type Ask<Wish, Answer> = (wish: Wish, signal: AbortSignal) => Promise<Answer>;

/** `run` is called for one round at a time; its signal aborts when the last of those who wait has left. */
export function createRounds<Wish, Answer>(
  run: (wishes: readonly Wish[], signal: AbortSignal) => Promise<Answer>,
): Ask<Wish, Answer> {
  let next: Round<Wish, Answer> | undefined;
  let busy = false;

  async function drain(): Promise<void> {
    busy = true;
    await Promise.resolve(); // whoever asks in the same turn asks together
    for (let round = next; round !== undefined; round = next) {
      next = undefined;
      if (round.control.signal.aborted) continue; // all left before it began
      try {
        round.answer.resolve(await run(round.wishes, round.control.signal));
      } catch (error) {
        round.answer.reject(error);
      }
    }
    busy = false;
  }

  return async (wish, signal) => {
    signal.throwIfAborted();
    if (next === undefined || next.control.signal.aborted) {
      next = {
        wishes: [],
        answer: Promise.withResolvers(),
        control: new AbortController(),
        waiting: 0,
      };
      next.answer.promise.catch(() => {}); // those who waited may all have gone
    }
    const round = next;
    round.wishes.push(wish);
    round.waiting += 1;
    if (!busy) void drain();
    try {
      return await orAborted(round.answer.promise, signal);
    } finally {
      round.waiting -= 1;
      if (round.waiting === 0) round.control.abort(new Error('nobody waits for the answer any more'));
    }
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
