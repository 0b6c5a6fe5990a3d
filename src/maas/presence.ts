/**
 * Whether machines with an address are still there, without reading them: MAAS names all addresses of a subnet
 * in one answer (150 bytes and a few microseconds each, against 23 KB and 25 ms for a machine). A machine that
 * was deleted leaves no event, but its address goes. What is found here is a hint: the machine is to be read.
 */
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { MaasClient, Machine } from './client.ts';

/** One look asks for so many subnets at most, so that its cost does not grow with the site. */
const SUBNETS_PER_LOOK = 2;
/** A subnet whose addresses take long is left alone for this many times as long. */
const PAUSE_PER_COST = 20;
/** A subnet that MAAS does not know or show is asked for again after this, milliseconds. */
const REFUSED_MS = 600_000;

interface SubnetWatch {
  nextMs: number;
  /** `<system id> <ip>` of the last look. */
  listed: ReadonlySet<string>;
}

export interface Presence {
  /**
   * Looks at the subnets whose turn it is; system ids of those machines whose address MAAS had at the last look
   * and has no more. Throws PcgError when MAAS cannot be asked.
   */
  look(machines: readonly Machine[], signal: AbortSignal): Promise<string[]>;
}

export function createPresence(
  client: Pick<MaasClient, 'subnets' | 'addressesIn'>,
  options: {
    readonly clock: Clock;
    /** Shortest time between two looks at a subnet, milliseconds. */
    readonly everyMs: number;
  },
): Presence {
  const { clock, everyMs } = options;
  const watches = new Map<string, SubnetWatch>();
  let ids = new Map<string, number>();

  async function addressesIn(cidr: string, signal: AbortSignal): Promise<ReadonlySet<string> | undefined> {
    if (!ids.has(cidr))
      ids = new Map((await client.subnets(signal)).map((subnet) => [subnet.cidr, subnet.id]));
    const id = ids.get(cidr);
    if (id === undefined) return undefined;
    try {
      return await client.addressesIn(id, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof PcgError) || error.retryable) throw error;
      ids.delete(cidr); // deleted or hidden since: the next look asks for its id anew
      return undefined;
    }
  }

  async function lookAt(
    cidr: string,
    machines: ReadonlyMap<string, string>,
    signal: AbortSignal,
  ): Promise<string[]> {
    const startedMs = clock.monotonic();
    const before = watches.get(cidr)?.listed ?? new Set();
    const addresses = await addressesIn(cidr, signal);
    const endedMs = clock.monotonic();
    const pauseMs =
      addresses === undefined ? REFUSED_MS : Math.max(everyMs, (endedMs - startedMs) * PAUSE_PER_COST);
    const keys = [...machines].map(([systemId, ip]) => ({ key: `${systemId} ${ip}`, systemId, ip }));
    const listed = new Set(keys.flatMap(({ key, ip }) => (addresses?.has(ip) ? key : [])));
    watches.set(cidr, { nextMs: startedMs + pauseMs, listed });
    if (addresses === undefined) return [];
    return keys.flatMap(({ key, systemId }) => (before.has(key) && !listed.has(key) ? systemId : []));
  }

  return {
    async look(machines, signal) {
      const bySubnet = new Map<string, Map<string, string>>();
      for (const machine of machines) {
        const at = addressOf(machine);
        if (at === undefined) continue;
        const some = bySubnet.get(at.cidr) ?? new Map<string, string>();
        bySubnet.set(at.cidr, some.set(machine.systemId, at.ip));
      }
      for (const cidr of watches.keys()) if (!bySubnet.has(cidr)) watches.delete(cidr);
      const nowMs = clock.monotonic();
      const due = [...bySubnet]
        .map(([cidr, some]) => ({
          cidr,
          some,
          nextMs: watches.get(cidr)?.nextMs ?? Number.NEGATIVE_INFINITY,
        }))
        .filter(({ nextMs }) => nextMs <= nowMs)
        .sort((a, b) => a.nextMs - b.nextMs)
        .slice(0, SUBNETS_PER_LOOK);
      const vanished: string[] = [];
      for (const { cidr, some } of due) vanished.push(...(await lookAt(cidr, some, signal)));
      return vanished;
    },
  };
}

/** An address that MAAS keeps for this machine while it is deployed. */
function addressOf(machine: Machine): { readonly ip: string; readonly cidr: string } | undefined {
  for (const { links } of machine.interfaces)
    for (const { ip, subnetCidr } of links)
      if (ip !== undefined && subnetCidr !== undefined) return { ip, cidr: subnetCidr };
  return undefined;
}
