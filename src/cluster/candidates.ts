/**
 * Ready machines of one MAAS account, listed rarely (a listed machine costs MAAS about 30 ms) and handed out
 * one at a time: allocation is serialised per account, because MAAS serialises it anyway under a global lock.
 */
import type { Clock } from '../base/clock.ts';
import type { Placement, Pool } from '../contract/cluster.ts';
import type { MaasClient, Machine } from '../maas/client.ts';
import { orderCandidates, type PlacementContext } from './placement.ts';
import { canonicalJson } from './template.ts';

interface Listing {
  readonly machines: Machine[];
  readonly at: number;
}

export class CandidateList {
  readonly #maas: MaasClient;
  readonly #clock: Clock;
  readonly #keepMs: number;
  readonly #listings = new Map<string, Listing>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(maas: MaasClient, clock: Clock, keepMs: number) {
    this.#maas = maas;
    this.#clock = clock;
    this.#keepMs = keepMs;
  }

  /** Runs `work` when nobody else of this account allocates. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(work);
    this.#queue = run.catch(() => undefined);
    return run;
  }

  /** Best first; empty when nothing fits. A listing that yields nothing is read anew once. */
  async ordered(
    pool: Pool,
    context: PlacementContext,
    nodesPerZone: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<Machine[]> {
    const key = canonicalJson(pool.placement);
    const known = this.#listings.get(key);
    if (known && this.#clock.monotonic() - known.at < this.#keepMs) {
      const ordered = orderCandidates(known.machines, pool, context, nodesPerZone);
      if (ordered.length > 0) return ordered;
    }
    const machines = await this.#maas.machines.list(filterOf(pool.placement), signal);
    // Stamped after the answer: with a thousand machines the list itself takes half a minute.
    this.#listings.set(key, { machines, at: this.#clock.monotonic() });
    return orderCandidates(machines, pool, context, nodesPerZone);
  }

  /** The machine is taken, by us or by somebody else. */
  remove(systemId: string): void {
    for (const listing of this.#listings.values()) {
      const index = listing.machines.findIndex((machine) => machine.systemId === systemId);
      if (index >= 0) listing.machines.splice(index, 1);
    }
  }

  /** Something became Ready again: the next question reads anew. */
  forget(): void {
    this.#listings.clear();
  }
}

/** MAAS refuses unknown names with 400, so placement was checked before this is sent. */
function filterOf(placement: Placement) {
  return {
    statuses: ['ready'] as const,
    pools: [placement.resourcePool],
    ...(placement.zones.length === 0 ? {} : { zones: placement.zones }),
    ...(placement.tags.length === 0 ? {} : { tags: placement.tags }),
    ...(placement.notTags.length === 0 ? {} : { notTags: placement.notTags }),
    minCpu: placement.minCpu,
    minMemoryMiB: placement.minMemoryMiB,
  };
}
