/** Where machines can be and what they are called: zones, resource pools, domains, tags. */
import type { Clock } from '../base/clock.ts';
import type { MaasClient } from './client.ts';
import { createMemo } from './memo.ts';
import type { Caller } from './retry.ts';
import { DomainListWire, NamedListWire, TagListWire } from './schema.ts';

export type Places = Pick<MaasClient, 'zones' | 'pools' | 'domains' | 'tags'>;

export function createPlaces(caller: Caller, clock: Clock): Places {
  return {
    zones: (signal) => caller.get(NamedListWire, { what: 'zones', lane: 'read', path: 'zones/' }, signal),
    pools: (signal) =>
      caller.get(NamedListWire, { what: 'pools', lane: 'read', path: 'resourcepools/' }, signal),
    // Counting the records of every domain makes this list slow on large installations.
    domains: createMemo(clock, (signal) =>
      caller.get(DomainListWire, { what: 'domains', lane: 'read', path: 'domains/' }, signal),
    ),
    tags: (signal) => caller.get(TagListWire, { what: 'tags', lane: 'read', path: 'tags/' }, signal),
  };
}
