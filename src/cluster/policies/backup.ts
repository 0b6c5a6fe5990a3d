/** Backups through Velero's own objects: one Backup per run, its phase is the result. */
import { PcgError } from '../../base/errors.ts';
import type { ClusterDocument } from '../../contract/cluster.ts';
import type { KubeClient, KubeObject } from '../../kube/client.ts';
import { asRecord } from '../../kube/errors.ts';
import type { PolicyStep } from './run.ts';

const NAMESPACE = 'velero';
const GOOD: ReadonlySet<string> = new Set(['Completed']);
const BAD: ReadonlySet<string> = new Set(['Failed', 'PartiallyFailed', 'FailedValidation']);

export async function backUp(
  client: KubeClient,
  document: ClusterDocument,
  run: string,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const name = `pcg-${run}`;
  const path = `/apis/velero.io/v1/namespaces/${NAMESPACE}/backups/${name}`;
  const probe = await client.request(
    { path: `/apis/velero.io/v1/namespaces/${NAMESPACE}/backupstoragelocations?limit=1` },
    signal,
  );
  if (probe.status === 404)
    throw new PcgError('ADDON_NOT_READY', 'the cluster has no Velero', {
      fix: 'Add a Velero pack to the profile.',
    });
  const existing = await client.get(path, signal);
  if (!existing) {
    await client.create(backupObject(name, document), signal);
    return { kind: 'later', waitingFor: 'Velero to take the backup' };
  }
  const status = asRecord(existing['status']);
  const phase = String(status['phase'] ?? 'New');
  if (BAD.has(phase))
    throw new PcgError('ADDON_NOT_READY', `backup ${name} ended ${phase}`, {
      details: { backup: name, phase, errors: status['errors'] },
    });
  if (!GOOD.has(phase)) return { kind: 'later', waitingFor: `Velero: ${phase}` };
  const items = asRecord(status['progress'])['itemsBackedUp'];
  return { kind: 'done', summary: { backup: name, phase, ...(items === undefined ? {} : { items }) } };
}

function backupObject(name: string, { spec }: ClusterDocument): KubeObject {
  const { namespaces, includeClusterResources, ttlHours } = spec.policies.backups;
  return {
    apiVersion: 'velero.io/v1',
    kind: 'Backup',
    metadata: { name, namespace: NAMESPACE },
    spec: {
      includedNamespaces: namespaces,
      ...(includeClusterResources === 'auto'
        ? {}
        : { includeClusterResources: includeClusterResources === 'always' }),
      ttl: `${ttlHours}h0m0s`,
      // Bare metal has no volume snapshots of a cloud: files are copied.
      defaultVolumesToFsBackup: true,
    },
  };
}
