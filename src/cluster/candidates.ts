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
  /** Gives the list up, so that it does not keep every other list of this MAAS waiting. */
  readonly giveUp: () => void;
  /** Those who want all of it, however long it takes. */
  patient: number;
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
    const machines = await this.#whole(
      this.#listing(pool.placement.resourcePool, this.#keepMs, signal),
      signal,
    );
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
    const listing = this.#listing(resourcePool, KEPT_FOR_CLAIMS_MS, signal);
    const known = orderCandidates(await this.#whole(listing, signal), pool, context, nodesPerZone);
    if (known.length > 0 || listing.startedAt >= asked) return known;
    const anew = this.#listing(resourcePool, 0, signal);
    return orderCandidates(await this.#whole(anew, signal), pool, context, nodesPerZone);
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
    const listings = pools.map((name) => this.#listing(name, keptMs, signal));
    return (await Promise.all(listings.map((listing) => this.#whole(listing, signal)))).flat();
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

  #listing(resourcePool: string, keptMs: number, signal: AbortSignal): Listing {
    const known = this.#listings.get(resourcePool);
    if (known?.machines === undefined) {
      if (known && !known.signal.aborted) return known;
    } else {
      const counts = keptMs <= this.#keepMs;
      const young = this.#clock.monotonic() - known.readAt < keptMs;
      if (young && !(counts && known.outdated)) return known;
    }
    const control = new AbortController();
    const either = AbortSignal.any([signal, control.signal]);
    const listing: Listing = {
      startedAt: this.#clock.monotonic(),
      signal: either,
      read: this.#maas.machines.list({ statuses: ['ready'], pools: [resourcePool] }, either),
      giveUp: () => control.abort(new Error('the list takes too long')),
      patient: 0,
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

  async #whole(listing: Listing, signal: AbortSignal): Promise<Machine[]> {
    if (listing.machines) return listing.machines;
    signal.throwIfAborted();
    listing.patient += 1;
    const machines = await listing.read;
    signal.throwIfAborted();
    return listing.machines ?? machines;
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
    const listing = this.#listing(resourcePool, keptMs, signal);
    const left = listing.startedAt + PATIENCE_MS - now;
    if (listing.machines || left <= 0) return listing.machines;
    const late = Promise.withResolvers<undefined>();
    using _timer = this.#clock.timer(left, () => late.resolve(undefined));
    const machines = await Promise.race([listing.read.then(() => listing.machines), late.promise]);
    signal.throwIfAborted();
    if (machines !== undefined) return machines;
    this.#long.set(resourcePool, this.#clock.monotonic());
    if (listing.patient === 0) listing.giveUp();
    return undefined;
  }
}
