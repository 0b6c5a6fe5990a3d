/**
 * What MAAS would hand out next, asked one machine at a time (allocate with dry_run): the answer of a large
 * site before its list is there. MAAS answers in its own order, so a zone that has nothing for a pool, or only
 * what our rules refuse, would say so again each time: it is left out for a while.
 */
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { Pool } from '../contract/cluster.ts';
import type { AllocateOutcome, AllocateRequest, MaasClient, Machine } from '../maas/client.ts';
import { type PlacementContext, rejections } from './placement.ts';

/** Marks a look; nothing is ever allocated under it. */
const LOOK = 'pcg-look';
/** The site check's look is good enough for the first claim, which shows whether the machine is still free. */
const KEPT_MS = 10_000;

/** What a pool asks of MAAS; the rest of its rules only we know. */
type Constraints = Omit<AllocateRequest, 'dryRun' | 'agentName' | 'comment' | 'zones'>;

export class Looks {
  readonly #maas: MaasClient;
  readonly #clock: Clock;
  readonly #keepMs: number;
  /** Request -> the machine that MAAS offered. */
  readonly #offers = new Map<string, { readonly machine: Machine; readonly at: number }>();
  /** Constraints and zone -> when it yielded nothing. */
  readonly #dry = new Map<string, number>();
  #zones: { readonly names: readonly string[]; readonly at: number } | undefined;

  /** `keepMs`: how long the names of the zones, and that one of them has nothing, are believed. */
  constructor(maas: MaasClient, clock: Clock, keepMs: number) {
    this.#maas = maas;
    this.#clock = clock;
    this.#keepMs = keepMs;
  }

  /**
   * A machine that fits, of the zone with the fewest nodes of the pool, as far as that zone has one. Undefined
   * does not mean that there is none. Rejects when MAAS cannot be asked or `signal` aborts.
   */
  async pick(
    { placement }: Pool,
    context: PlacementContext,
    nodesPerZone: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<Machine | undefined> {
    const constraints: Constraints = {
      pool: placement.resourcePool,
      minCpu: placement.minCpu,
      minMemoryMiB: placement.minMemoryMiB,
      minDiskGb: placement.minDiskGb,
      tags: placement.tags,
      notTags: placement.notTags,
    };
    const dryKey = (zone: string) => JSON.stringify([constraints, zone, context.subnetCidr]);
    const load = (zone: string) => nodesPerZone.get(zone) ?? 0;
    const known = placement.zones.length > 0 ? placement.zones : await this.#zoneNames(signal);
    let open = known.filter((zone) => !this.#isDry(dryKey(zone)));
    while (open.length > 0) {
      const least = Math.min(...open.map(load));
      const zones = open.filter((zone) => load(zone) === least);
      const offer = await this.#look({ ...constraints, zones }, signal);
      if (offer.kind === 'refused') return undefined;
      if (offer.kind === 'machine' && rejections(offer.machine, placement, context).length === 0)
        return offer.machine;
      // Behind a machine that our rules refuse there may be others, but MAAS would name the same one again.
      const inZone = offer.kind === 'machine' && zones.includes(offer.machine.zone);
      const barren = inZone ? [offer.machine.zone] : zones;
      for (const zone of barren) this.#dry.set(dryKey(zone), this.#clock.monotonic());
      open = open.filter((zone) => !barren.includes(zone));
    }
    return undefined;
  }

  /** The machine is taken, by us or by somebody else. */
  remove(systemId: string): void {
    for (const [key, { machine }] of this.#offers)
      if (machine.systemId === systemId) this.#offers.delete(key);
  }

  /** Something became Ready again. */
  forget(): void {
    this.#dry.clear();
  }

  #isDry(key: string): boolean {
    const at = this.#dry.get(key);
    if (at === undefined) return false;
    if (this.#clock.monotonic() - at < this.#keepMs) return true;
    this.#dry.delete(key);
    return false;
  }

  async #look(
    request: Omit<AllocateRequest, 'dryRun' | 'agentName' | 'comment'>,
    signal: AbortSignal,
  ): Promise<
    { readonly kind: 'machine'; readonly machine: Machine } | { readonly kind: 'none' | 'refused' }
  > {
    const key = JSON.stringify(request);
    const offer = this.#offers.get(key);
    if (offer && this.#clock.monotonic() - offer.at < KEPT_MS)
      return { kind: 'machine', machine: offer.machine };
    this.#offers.delete(key);
    const outcome = await this.#ask({ ...request, dryRun: true, agentName: LOOK, comment: '' }, signal);
    if (outcome.kind === 'refused') return outcome;
    if (outcome.kind !== 'allocated') return { kind: 'none' };
    this.#offers.set(key, { machine: outcome.machine, at: this.#clock.monotonic() });
    return { kind: 'machine', machine: outcome.machine };
  }

  /** A site may not know a tag or a zone any more: that is no machine, and the list explains it. */
  async #ask(
    request: AllocateRequest,
    signal: AbortSignal,
  ): Promise<AllocateOutcome | { readonly kind: 'refused' }> {
    try {
      return await this.#maas.machines.allocate(request, signal);
    } catch (error) {
      if (!signal.aborted && error instanceof PcgError && !error.retryable) return { kind: 'refused' };
      throw error;
    }
  }

  async #zoneNames(signal: AbortSignal): Promise<readonly string[]> {
    if (this.#zones === undefined || this.#clock.monotonic() - this.#zones.at >= this.#keepMs) {
      const names = (await this.#maas.zones(signal)).map(({ name }) => name);
      this.#zones = { names, at: this.#clock.monotonic() };
    }
    return this.#zones.names;
  }
}
