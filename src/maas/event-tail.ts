/**
 * Reads MAAS's event log from where it stopped the last time. Ids are drawn before their transaction
 * commits, so a smaller id can appear after a larger one: now and then a reading goes back over the ids of the
 * last minute and drops what was handed out. Going back each time would read everything ten times over.
 */
import type { Clock } from '../base/clock.ts';
import type { MaasClient, MaasEvent } from './client.ts';
import { MAX_EVENTS_PER_REQUEST } from './events.ts';

/** Transactions of a busy region last seconds; so often a reading goes back, over twice that time. */
const SWEEP_MS = 30_000;
/** At the start nobody knows how long ago an id was drawn. */
const FIRST_OVERLAP_IDS = 200;
/** A sweep of a flood does not become one itself. */
const MOST_OVERLAP_IDS = 1_000;
/** Pages of one reading; a flood beyond that is skipped and reported as incomplete. */
const PAGES_PER_READING = 5;
/** Silent readings after which the end of the log is looked up again: a rebuilt MAAS counts from 1. */
const SILENT_READINGS = 20;

export interface EventTail {
  /**
   * Events since the last call, each once, oldest first; `ids` undefined = of all machines. `complete` is
   * false when events were skipped. The first call only finds the end of the log, the second one starts a
   * little before that end.
   */
  next(
    ids: readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly events: MaasEvent[]; readonly complete: boolean }>;
}

export function createEventTail(
  events: MaasClient['events'],
  options: { clock: Clock; level?: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR'; pageSize?: number },
): EventTail {
  const pageSize = options.pageSize ?? MAX_EVENTS_PER_REQUEST;
  const level = options.level ?? 'DEBUG';
  let newest: number | undefined;
  let silent = 0;
  /** Nothing below is asked for: what a flood made us skip stays skipped. */
  let floor = 0;
  /** The newest ids at the last two sweeps: what is drawn before the older one has become visible long since. */
  let older = 0;
  let younger = 0;
  let sweptMs = Number.NEGATIVE_INFINITY;
  /** Ids above `older` that were handed out. */
  let seen = new Set<number>();

  const endOfLog = async (signal: AbortSignal): Promise<number> => {
    const [last] = await events({ level, limit: 1 }, signal);
    return last?.id ?? 0;
  };

  return {
    async next(ids, signal) {
      if (newest === undefined || silent >= SILENT_READINGS) {
        const end = await endOfLog(signal);
        const restarted = newest !== undefined && end < newest - FIRST_OVERLAP_IDS;
        silent = 0;
        if (newest === undefined || restarted) {
          newest = end;
          floor = 0;
          older = end - FIRST_OVERLAP_IDS;
          younger = end;
          sweptMs = Number.NEGATIVE_INFINITY;
          seen = new Set();
          return { events: [], complete: !restarted };
        }
      }
      const fresh: MaasEvent[] = [];
      let reached = newest;
      const nowMs = options.clock.monotonic();
      const sweeps = nowMs - sweptMs >= SWEEP_MS;
      let after = sweeps ? Math.max(0, floor, older, newest - MOST_OVERLAP_IDS) : newest;
      let complete = false;
      for (let page = 0; page < PAGES_PER_READING && !complete; page += 1) {
        const found = await events(
          { after, level, limit: pageSize, ...(ids === undefined ? {} : { ids }) },
          signal,
        );
        fresh.push(...found.filter((event) => !seen.has(event.id)));
        const end = found.at(-1)?.id ?? after;
        reached = Math.max(reached, end);
        // A full page that brings nothing new would be asked for again and again.
        complete = found.length < pageSize || end <= after;
        after = end;
      }
      if (!complete) {
        reached = Math.max(reached, await endOfLog(signal));
        floor = reached;
      }
      // Only now is anything remembered: a failed reading is repeated as a whole.
      newest = reached;
      silent = fresh.length === 0 ? silent + 1 : 0;
      if (sweeps) {
        older = younger;
        younger = newest;
        sweptMs = nowMs;
      }
      seen = new Set([...seen, ...fresh.map((event) => event.id)].filter((id) => id > older));
      return { events: fresh, complete };
    },
  };
}
