/**
 * X16: machines that this gateway's MAAS user owns and that no cluster record names. Stamped ones are ours and
 * may be released with one click; unstamped ones are only shown, since a person may have taken them by hand.
 */
import type { z } from 'zod';
import type { OrphanSchema } from '../contract/api.ts';
import type { MaasClient } from '../maas/client.ts';
import { doubtsOf } from './doubts.ts';
import { type ClusterRecord, heldSystemId } from './model.ts';
import { ANNOTATION, stampOf } from './ownership.ts';

export type Orphan = z.infer<typeof OrphanSchema> & {
  /** Carries this gateway's complete stamp. */
  readonly releasable: boolean;
};

export async function findOrphans(
  site: { account: string; gateway: string; clusters: readonly ClusterRecord[] },
  maas: MaasClient,
  signal: AbortSignal,
): Promise<Orphan[]> {
  const { username } = await maas.whoami(signal);
  const owned = await maas.machines.list({ owner: username }, signal);
  const named = new Map<string, string>();
  for (const cluster of site.clusters) {
    for (const node of cluster.nodes) {
      const id = heldSystemId(node);
      if (id !== undefined) named.set(id, node.name);
    }
    for (const { stamp, machines } of doubtsOf(cluster)) for (const id of machines) named.set(id, stamp.node);
  }
  return owned.flatMap((machine) => {
    if (named.has(machine.systemId)) return [];
    const stamp = stampOf(machine);
    if (stamp && stamp.gateway !== site.gateway) return []; // another gateway's, its own business
    const cluster = site.clusters.find(({ id }) => id === stamp?.cluster);
    const reason = !stamp
      ? 'allocated by this MAAS user without a stamp'
      : cluster
        ? `cluster ${cluster.name} does not know it`
        : 'its cluster is not known here';
    return [
      {
        account: site.account,
        systemId: machine.systemId,
        hostname: machine.hostname,
        status: machine.statusName,
        cluster: cluster?.name ?? machine.annotations[ANNOTATION.clusterName] ?? '',
        node: stamp?.node ?? '',
        reason,
        releasable: stamp !== undefined,
      },
    ];
  });
}
