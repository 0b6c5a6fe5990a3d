/**
 * What a site offers, for the wizard and the installer: zones and pools with live counts of Ready machines,
 * domains, subnets with free addresses, images, and a pod range that overlaps nothing. Only filtered reads.
 */
import type { Inventory } from '../contract/api.ts';
import { freeCidr as findFreeCidr } from '../cluster/cidr.ts';
import type { Machine, MaasClient } from '../maas/client.ts';

/** R13: what a gateway node needs. */
export const GATEWAY_NODE_MINIMUM = { cpuCount: 4, memoryMiB: 8192, storageGb: 60 } as const;

/** Prefix length of the proposed pod range: a /16, as the default 192.168.0.0/16. */
const POD_PREFIX = 16;

export function fitsGateway(machine: Machine): boolean {
  return (
    machine.cpuCount >= GATEWAY_NODE_MINIMUM.cpuCount &&
    machine.memoryMiB >= GATEWAY_NODE_MINIMUM.memoryMiB &&
    machine.storageGb >= GATEWAY_NODE_MINIMUM.storageGb &&
    !machine.locked
  );
}

export async function readInventory(maas: MaasClient, signal: AbortSignal): Promise<Inventory> {
  const [zones, pools, domains, subnets, images, ready] = await Promise.all([
    maas.zones(signal),
    maas.pools(signal),
    maas.domains(signal),
    maas.subnets(signal),
    maas.images(signal),
    maas.machines.list({ statuses: ['ready'] }, signal),
  ]);
  const statistics = await Promise.all(subnets.map((subnet) => maas.subnetStatistics(subnet.id, signal)));
  const count = (machines: Machine[]) => ({
    ready: machines.length,
    fitGateway: machines.filter(fitsGateway).length,
  });
  const freeCidr = findFreeCidr(
    POD_PREFIX,
    subnets.map((subnet) => subnet.cidr),
  );
  return {
    zones: zones.map(({ name }) => ({ name, ...count(ready.filter((machine) => machine.zone === name)) })),
    pools: pools.map(({ name }) => ({ name, ...count(ready.filter((machine) => machine.pool === name)) })),
    domains: domains.map(({ name, isDefault }) => ({ name, isDefault })),
    subnets: subnets.map((subnet, index) => ({
      id: subnet.id,
      cidr: subnet.cidr,
      name: subnet.name,
      managed: subnet.managed,
      available: statistics[index]?.numAvailable ?? 0,
    })),
    images: images.map(({ name, architecture }) => ({ name, architecture })),
    ...(freeCidr === undefined ? {} : { freeCidr }),
  };
}
