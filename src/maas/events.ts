/**
 * The event log of MAAS, one query at a time (`event-tail.ts` follows it). The time text has no zone, so
 * events are ordered by id; machines beyond what one request line can name are asked for in chunks.
 */
import type { MaasClient, MaasEvent } from './client.ts';
import type { Pairs } from './http.ts';
import { IDS_PER_REQUEST } from './read-machines.ts';
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
