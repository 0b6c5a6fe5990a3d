/**
 * Reads MAAS's event log from where it stopped the last time. Ids are drawn before their transaction
 * commits, so a smaller id can appear after a larger one: every reading overlaps the previous one and
 * drops what it has handed out.
 */
import type { MaasClient, MaasEvent } from './client.ts';
import { MAX_EVENTS_PER_REQUEST } from './events.ts';

/** Ids that may still appear below the newest one: transactions of a busy region overlap by seconds. */
const OVERLAP_IDS = 200;
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
  options: { level?: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR'; pageSize?: number } = {},
): EventTail {
  const pageSize = options.pageSize ?? MAX_EVENTS_PER_REQUEST;
  const level = options.level ?? 'DEBUG';
  let newest: number | undefined;
  let silent = 0;
  /** Nothing below is asked for: what a flood made us skip stays skipped. */
  let floor = 0;
  /** Ids within the overlap that were handed out. */
  let seen = new Set<number>();

  const endOfLog = async (signal: AbortSignal): Promise<number> => {
    const [last] = await events({ level, limit: 1 }, signal);
    return last?.id ?? 0;
  };

  return {
    async next(ids, signal) {
      if (newest === undefined || silent >= SILENT_READINGS) {
        const end = await endOfLog(signal);
        const restarted = newest !== undefined && end < newest - OVERLAP_IDS;
        silent = 0;
        if (newest === undefined || restarted) {
          newest = end;
          floor = 0;
          seen = new Set();
          return { events: [], complete: !restarted };
        }
      }
      const fresh: MaasEvent[] = [];
      let reached = newest;
      let after = Math.max(floor, newest - OVERLAP_IDS);
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
      const low = newest - OVERLAP_IDS;
      seen = new Set([...seen, ...fresh.map((event) => event.id)].filter((id) => id > low));
      return { events: fresh, complete };
    },
  };
}
