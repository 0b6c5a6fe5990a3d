/**
 * A kubeconfig whose server is this portal. Its token is made for it: good for one cluster's API, as the
 * user, for a limited time. It holds no credential of the cluster itself (X8).
 */
import { stringify } from 'yaml';
import { PcgError } from '../base/errors.ts';
import type { Caller } from './auth.ts';
import type { Portal } from './portal.ts';
import type { ClustersTable } from './store/schema.ts';

export async function renderKubeconfig(portal: Portal, row: ClustersTable, caller: Caller): Promise<string> {
  if (row.deleted_at !== null) throw new PcgError('CONFLICT', 'the cluster is deleted');
  const issued = await portal.auth.issue(caller.userId, {
    kind: 'kubeconfig',
    name: `kubeconfig ${row.name}`,
    scope: `kube:${row.id}`,
    ttlMs: portal.limits.kubeconfigTtlMs,
  });
  const token = issued.token.reveal();
  const base = `${portal.publicUrl}/k8s/clusters/${row.id}`;
  // Over plain HTTP kubectl leaves credentials out; on a trial machine the token travels in the path.
  const server = base.startsWith('https:') ? base : `${base}/with-token/${token}`;
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: row.name, cluster: { server } }],
    users: [{ name: caller.email, user: { token } }],
    contexts: [{ name: row.name, context: { cluster: row.name, user: caller.email } }],
    'current-context': row.name,
  });
}
