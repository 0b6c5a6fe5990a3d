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
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: row.name, cluster: { server: `${portal.publicUrl}/k8s/clusters/${row.id}` } }],
    users: [{ name: caller.email, user: { token: issued.token.reveal() } }],
    contexts: [{ name: row.name, context: { cluster: row.name, user: caller.email } }],
    'current-context': row.name,
  });
}
