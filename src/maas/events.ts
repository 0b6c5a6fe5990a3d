/**
 * The event log of MAAS. Ids grow, but can become visible out of order (they are drawn before the commit),
 * and the time text has no zone: so order by id, read with an overlap, and drop what was seen.
 */
import type { MaasClient, MaasEvent } from './client.ts';
import type { Pairs } from './http.ts';
import { IDS_PER_REQUEST } from './machines.ts';
import type { Caller } from './retry.ts';
import { EventsWire } from './schema.ts';

/** Largest page that MAAS gives. */
export const MAX_EVENTS_PER_REQUEST = 1000;

/** GET events/: `after` takes the oldest page beyond an id, so a tail has no gap. Result oldest first. */
export function createEvents(caller: Caller): MaasClient['events'] {
  return async (query, signal) => {
    if (query.ids?.length === 0) return [];
    const limit = Math.min(Math.max(1, query.limit ?? MAX_EVENTS_PER_REQUEST), MAX_EVENTS_PER_REQUEST);
    const ids = query.ids === undefined ? undefined : [...new Set(query.ids)];
    const found: MaasEvent[] = [];
    for (let at = 0; ; at += IDS_PER_REQUEST) {
      const some = ids?.slice(at, at + IDS_PER_REQUEST);
      const pairs: Pairs = [
        ['op', 'query'],
        ...(some ?? []).map((id) => ['id', id] as const),
        ...(query.level === undefined ? [] : [['level', query.level] as const]),
        ...(query.after === undefined ? [] : [['after', String(query.after)] as const]),
        ['limit', String(limit)],
      ];
      const page = await caller.get(
        EventsWire,
        { what: 'events', lane: 'read', path: 'events/', query: pairs },
        signal,
      );
      found.push(...page.events);
      if (ids === undefined || at + IDS_PER_REQUEST >= ids.length) break;
    }
    const { after = -1 } = query;
    found.sort((a, b) => a.id - b.id);
    const inOrder = found.filter((event) => event.id > after);
    // Chunks are pages of their own: beyond the limit a later chunk may lack what lies between.
    return query.after === undefined ? inOrder.slice(-limit) : inOrder.slice(0, limit);
  };
}

/** Ids that may still appear below the newest one: transactions of a busy region overlap by seconds. */
const OVERLAP_IDS = 200;

export interface EventTail {
  /**
   * Events since the last call, each once, oldest first. The first call only finds the end of the log; the
   * second one starts a little before that end.
   */
  next(ids: readonly string[], signal: AbortSignal): Promise<MaasEvent[]>;
}

/** Incremental, gap-free reading. `level` as in MAAS: INFO leaves out PXE and installer lines. */
export function createEventTail(
  events: MaasClient['events'],
  options: { level?: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR'; pageSize?: number } = {},
): EventTail {
  const pageSize = options.pageSize ?? MAX_EVENTS_PER_REQUEST;
  const level = options.level ?? 'INFO';
  let newest: number | undefined;
  /** Ids within the overlap that were handed out. */
  let seen = new Set<number>();

  return {
    async next(ids, signal) {
      if (newest === undefined) {
        const [last] = await events({ level, limit: 1 }, signal);
        newest = last?.id ?? 0;
        return [];
      }
      const fresh: MaasEvent[] = [];
      let after = Math.max(0, newest - OVERLAP_IDS);
      for (;;) {
        const page = await events({ after, ids, level, limit: pageSize }, signal);
        for (const event of page) {
          if (seen.has(event.id)) continue;
          seen.add(event.id);
          fresh.push(event);
        }
        const end = page.at(-1)?.id;
        if (end !== undefined && end > newest) newest = end;
        if (page.length < pageSize || end === undefined) break;
        after = end;
      }
      const low = newest - OVERLAP_IDS;
      seen = new Set([...seen].filter((id) => id > low));
      return fresh;
    },
  };
}
