/**
 * Ready machines of one MAAS account for all of its clusters. A listed machine costs MAAS about 30 ms, so a
 * resource pool is listed rarely, once for everybody who asks, and whoever cannot wait for a large one lets
 * MAAS pick a single machine meanwhile. Allocation is serialised per account, because MAAS serialises it
 * anyway under a global lock.
 */
import type { Clock } from '../base/clock.ts';
import type { Pool } from '../contract/cluster.ts';
import type { MaasClient, Machine } from '../maas/client.ts';
import { Looks } from './looks.ts';
import { orderCandidates, type PlacementContext } from './placement.ts';

/** A list that has not come by then is long: ~30 machines. */
const PATIENCE_MS = 1_000;
/** For the next machine an older list is good enough: what was taken meanwhile is noticed when it is claimed. */
const KEPT_FOR_CLAIMS_MS = 600_000;

interface Listing {
  readonly startedAt: number;
  readonly signal: AbortSignal;
  readonly read: Promise<Machine[]>;
  /** Ends the list, so that it does not keep every other list of this MAAS waiting. */
  readonly giveUp: () => void;
  /** Those who wait for it now; it ends when the last of them has left. */
  waiting: number;
  /** Taken while the list was under way: what it says of them is old. */
  readonly gone: Set<string>;
  machines: Machine[] | undefined;
  readAt: number;
  /** Something became Ready since. */
  outdated: boolean;
}

export class CandidateList {
  readonly #maas: MaasClient;
  readonly #clock: Clock;
  readonly #keepMs: number;
  readonly #listings = new Map<string, Listing>();
  /** Resource pool -> when its list proved too long to wait for; MAAS is asked for single machines instead. */
  readonly #long = new Map<string, number>();
  readonly #looks: Looks;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(maas: MaasClient, clock: Clock, keepMs: number) {
    this.#maas = maas;
    this.#clock = clock;
    this.#keepMs = keepMs;
    this.#looks = new Looks(maas, clock, keepMs);
  }

  /** Runs `work` when nobody else of this account allocates. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(work);
    this.#queue = run.catch(() => undefined); // the caller hears of it; the next one only waits
    return run;
  }

  /** Every machine that fits now, best first. Waits for the whole list. */
  async ordered(
    pool: Pool,
    context: PlacementContext,
    nodesPerZone: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<Machine[]> {
    const machines = await whole(this.#listing(pool.placement.resourcePool, this.#keepMs), signal);
    return orderCandidates(machines, pool, context, nodesPerZone);
  }

  /**
   * Machines to claim next, best first; empty when nothing fits. A list that yields nothing is read anew once;
   * while a long list is under way it is the one machine that MAAS would pick.
   */
  async next(
    pool: Pool,
    context: PlacementContext,
    nodesPerZone: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<Machine[]> {
    const { resourcePool } = pool.placement;
    const asked = this.#clock.monotonic();
    if ((await this.#soon(resourcePool, KEPT_FOR_CLAIMS_MS, signal)) === undefined) {
      const picked = await this.#looks.pick(pool, context, nodesPerZone, signal);
      if (picked) return [picked];
    }
    const listing = this.#listing(resourcePool, KEPT_FOR_CLAIMS_MS);
    const known = orderCandidates(await whole(listing, signal), pool, context, nodesPerZone);
    if (known.length > 0 || listing.startedAt >= asked) return known;
    const anew = this.#listing(resourcePool, 0);
    return orderCandidates(await whole(anew, signal), pool, context, nodesPerZone);
  }

  /** Ready machines of the resource pools, when the lists are there or come soon. */
  async readySoon(pools: readonly string[], signal: AbortSignal): Promise<Machine[] | undefined> {
    const found = await Promise.all(pools.map((name) => this.#soon(name, this.#keepMs, signal)));
    const complete = found.filter((machines) => machines !== undefined);
    return complete.length === pools.length ? complete.flat() : undefined;
  }

  /** The same, however long it takes; `recent` is content with a list that somebody else asked for. */
  async ready(pools: readonly string[], age: 'recent' | 'new', signal: AbortSignal): Promise<Machine[]> {
    const keptMs = age === 'new' ? 0 : this.#keepMs;
    const listings = pools.map((name) => this.#listing(name, keptMs));
    return (await Promise.all(listings.map((listing) => whole(listing, signal)))).flat();
  }

  /** A machine that MAAS would hand out now and that fits; nothing is taken. Undefined does not mean that there is none. */
  async sample(pool: Pool, context: PlacementContext, signal: AbortSignal): Promise<Machine | undefined> {
    return await this.#looks.pick(pool, context, new Map(), signal);
  }

  /** The machine is taken, by us or by somebody else. */
  remove(systemId: string): void {
    this.#looks.remove(systemId);
    for (const listing of this.#listings.values()) {
      if (listing.machines === undefined) listing.gone.add(systemId);
      else listing.machines = listing.machines.filter((machine) => machine.systemId !== systemId);
    }
  }

  /** Something became Ready again: whoever counts reads anew. */
  forget(): void {
    this.#looks.forget();
    for (const listing of this.#listings.values()) listing.outdated = true;
  }

  #listing(resourcePool: string, keptMs: number): Listing {
    const known = this.#listings.get(resourcePool);
    if (known?.machines === undefined) {
      if (known && !known.signal.aborted) return known;
    } else {
      const counts = keptMs <= this.#keepMs;
      const young = this.#clock.monotonic() - known.readAt < keptMs;
      if (young && !(counts && known.outdated)) return known;
    }
    const control = new AbortController();
    const listing: Listing = {
      startedAt: this.#clock.monotonic(),
      signal: control.signal,
      read: this.#maas.machines.list({ statuses: ['ready'], pools: [resourcePool] }, control.signal),
      giveUp: () => control.abort(new Error('nobody waits for the list any more')),
      waiting: 0,
      gone: new Set(),
      machines: undefined,
      readAt: 0,
      outdated: false,
    };
    this.#listings.set(resourcePool, listing);
    listing.read.then(
      (machines) => {
        listing.machines = machines.filter(({ systemId }) => !listing.gone.has(systemId));
        listing.readAt = this.#clock.monotonic();
      },
      () => {
        if (this.#listings.get(resourcePool) === listing) this.#listings.delete(resourcePool);
      },
    );
    return listing;
  }

  /** The list, unless it is not there after a moment: then nobody waits for it for a while. */
  async #soon(
    resourcePool: string,
    keptMs: number,
    signal: AbortSignal,
  ): Promise<readonly Machine[] | undefined> {
    const known = this.#listings.get(resourcePool)?.machines;
    const long = this.#long.get(resourcePool);
    const now = this.#clock.monotonic();
    if (known === undefined && long !== undefined && now - long < KEPT_FOR_CLAIMS_MS) return undefined;
    const listing = this.#listing(resourcePool, keptMs);
    const left = listing.startedAt + PATIENCE_MS - now;
    if (listing.machines || left <= 0) return listing.machines;
    const late = Promise.withResolvers<undefined>();
    using _timer = this.#clock.timer(left, () => late.resolve(undefined));
    const machines = await waitFor(listing, signal, late.promise);
    if (machines === undefined) this.#long.set(resourcePool, this.#clock.monotonic());
    return machines;
  }
}

async function whole(listing: Listing, signal: AbortSignal): Promise<Machine[]> {
  return (await waitFor(listing, signal)) ?? [];
}

/** The list, or whatever `instead` brings before it. Who leaves does not take the list away from the others. */
async function waitFor(
  listing: Listing,
  signal: AbortSignal,
  instead?: Promise<undefined>,
): Promise<Machine[] | undefined> {
  if (listing.machines) return listing.machines;
  signal.throwIfAborted();
  const gone = Promise.withResolvers<undefined>();
  const leave = () => gone.reject(signal.reason);
  signal.addEventListener('abort', leave, { once: true });
  listing.waiting += 1;
  try {
    const read = listing.read.then((machines) => listing.machines ?? machines);
    return await Promise.race([read, gone.promise, ...(instead ? [instead] : [])]);
  } finally {
    signal.removeEventListener('abort', leave);
    listing.waiting -= 1;
    if (listing.waiting === 0 && listing.machines === undefined) listing.giveUp();
  }
}
