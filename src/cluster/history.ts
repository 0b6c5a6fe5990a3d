/**
 * How long tasks took at this site (X13): the last durations per account and task, for expected ends and for
 * "slower than usual". Kept in the collection `history`; losing it costs only estimates. All clusters of an account share
 * one: each would else write down what it knows itself over what the others have seen.
 */
import { COLLECTIONS, type Records } from '../store/records.ts';

/** Enough for a stable median, few enough that a hardware change shows within days. */
const KEPT = 50;
/** Below this many samples nothing is claimed to be usual. */
const LEAST_SAMPLES = 3;
/** Slower than this times the median is worth saying. */
const SLOW_FACTOR = 2;

export interface History {
  /** Median in milliseconds; undefined with too few samples. */
  usualMs(task: string): number | undefined;
  isSlow(task: string, elapsedMs: number): boolean;
  add(task: string, ms: number): Promise<void>;
}

/** The history of an account, read once. */
export function createHistories(records: Records): (account: string) => Promise<History> {
  const known = new Map<string, Promise<History>>();
  return async (account) => {
    const history = known.get(account) ?? loadHistory(records, account);
    known.set(account, history);
    try {
      return await history;
    } catch (error) {
      known.delete(account); // the next one asks again
      throw error;
    }
  };
}

async function loadHistory(records: Records, account: string): Promise<History> {
  const stored = await records.get<Record<string, number[]>>(COLLECTIONS.history, account);
  const samples = new Map<string, number[]>(Object.entries(stored?.value ?? {}));
  /** Asked for every task of every machine at each report. */
  const medians = new Map([...samples].map(([task, own]) => [task, medianOf(own)] as const));
  const usualMs = (task: string) => medians.get(task);
  let writing: Promise<unknown> = Promise.resolve();
  return {
    usualMs,
    isSlow(task, elapsedMs) {
      const usual = usualMs(task);
      return usual !== undefined && elapsedMs > usual * SLOW_FACTOR;
    },
    async add(task, ms) {
      const own = [...(samples.get(task) ?? []), ms].slice(-KEPT);
      samples.set(task, own);
      medians.set(task, medianOf(own));
      // One after the other: none that began earlier may end later.
      const write = writing.then(() =>
        records.put(COLLECTIONS.history, account, Object.fromEntries(samples)),
      );
      writing = write.catch(() => undefined); // its own caller hears of it
      await write;
    },
  };
}

function medianOf(own: readonly number[]): number | undefined {
  if (own.length < LEAST_SAMPLES) return undefined;
  return own.toSorted((a, b) => a - b)[Math.floor(own.length / 2)];
}
