/**
 * X16: machines that this gateway's MAAS user owns and that no cluster record names. Stamped ones are ours and
 * may be released with one click; unstamped ones are only shown, since a person may have taken them by hand.
 */
import type { z } from 'zod';
import { PcgError } from '../base/errors.ts';
import type { OrphanSchema } from '../contract/api.ts';
import { ClusterDocumentSchema } from '../contract/cluster.ts';
import type { EraseMode } from '../maas/client.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';
import type { AccountServices } from './context.ts';
import { doubtsOf } from './doubts.ts';
import { type ClusterRecord, heldSystemId } from './model.ts';
import type { OwnedMachine } from './owned.ts';
import { ANNOTATION, type Stamp, stampMarks, verifyOwnership } from './ownership.ts';
import { notReleased } from './steps/release.ts';

export type Orphan = z.infer<typeof OrphanSchema> & {
  /** Carries this gateway's complete stamp. */
  readonly releasable: boolean;
};

export interface Hunt {
  readonly gateway: string;
  readonly records: Records;
  readonly account: Pick<AccountServices, 'id' | 'maas' | 'owned' | 'candidates'>;
}

interface Found extends OwnedMachine {
  readonly cluster: ClusterRecord | undefined;
}

export async function findOrphans(hunt: Hunt, signal: AbortSignal): Promise<Orphan[]> {
  return (await find(hunt, signal)).map(({ machine, stamp, cluster }) => ({
    account: hunt.account.id,
    systemId: machine.systemId,
    hostname: machine.hostname,
    status: machine.statusName,
    cluster: cluster?.name ?? machine.annotations[ANNOTATION.clusterName] ?? '',
    node: stamp?.node ?? '',
    reason: !stamp
      ? 'allocated by this MAAS user without a stamp'
      : cluster
        ? `cluster ${cluster.name} does not know it`
        : 'its cluster is not known here',
    releasable: stamp !== undefined,
  }));
}

/** `not-ours`: no orphan, or not provably of this gateway. Throws when MAAS did not take it back. */
export async function releaseOrphan(
  hunt: Hunt,
  systemId: string,
  signal: AbortSignal,
): Promise<'released' | 'not-ours'> {
  const { maas, candidates } = hunt.account;
  const orphan = (await find(hunt, signal)).find(({ machine }) => machine.systemId === systemId);
  if (orphan?.stamp === undefined) return 'not-ours';
  const owned = await verifyOwnership(maas, systemId, orphan.stamp, signal);
  if (owned.kind === 'not-ours') return 'not-ours';
  if (owned.machine.locked) throw notReleased(owned.machine);
  // MAAS forgets the agent name when a release starts: without annotations a failed release would be a leak.
  await maas.machines.setAnnotations(systemId, stampMarks(orphan.stamp), signal);
  const erase = owned.machine.status === 'failed_disk_erasing' ? 'none' : await eraseMode(hunt, orphan.stamp);
  const outcome = await maas.machines.release(systemId, { erase, comment: 'pcg: orphaned machine' }, signal);
  candidates.forget();
  switch (outcome.kind) {
    case 'accepted':
    case 'gone':
      return 'released';
    case 'wrong-state':
      throw notReleased(outcome.machine ?? owned.machine);
    case 'unknown':
      throw new PcgError(
        'MAAS_OUTCOME_UNKNOWN',
        `MAAS did not confirm the release of ${owned.machine.hostname}`,
        { cause: outcome.cause },
      );
  }
}

/** The records are read after the list: a machine that was claimed meanwhile is named by one of them. */
async function find({ gateway, records, account }: Hunt, signal: AbortSignal): Promise<Found[]> {
  const owned = await account.owned(signal);
  const clusters = (await records.list<ClusterRecord>(COLLECTIONS.clusters)).map(({ value }) => value);
  const named = new Set<string>();
  /** A call under such a stamp may have brought another machine than the one asked for. */
  const operations = new Set<string>();
  for (const cluster of clusters) {
    for (const node of cluster.nodes) {
      const id = heldSystemId(node);
      if (id !== undefined) named.add(id);
      if (node.claim.kind === 'claiming') operations.add(node.claim.stamp.operation);
    }
    for (const { stamp, machines } of doubtsOf(cluster)) {
      operations.add(stamp.operation);
      for (const id of machines) named.add(id);
    }
  }
  return owned.flatMap(({ machine, stamp }) => {
    if (named.has(machine.systemId)) return [];
    // Another gateway's is its own business, and a call under way belongs to its cluster.
    if (stamp && (stamp.gateway !== gateway || operations.has(stamp.operation))) return [];
    return [{ machine, stamp, cluster: clusters.find(({ id }) => id === stamp?.cluster) }];
  });
}

/** As its cluster wants it, while this gateway still knows the cluster. */
async function eraseMode({ records }: Hunt, { cluster }: Stamp): Promise<EraseMode> {
  const stored = await records.get<{ spec: unknown }>(COLLECTIONS.documents, `cluster/${cluster}`);
  const document = ClusterDocumentSchema.safeParse(stored?.value.spec);
  return document.success ? document.data.spec.policies.erase.mode : 'none';
}
