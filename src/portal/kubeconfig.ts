/**
 * A kubeconfig whose server is this portal. Its token is made for it: good for one cluster's API, as the
 * user, for a limited time. It holds no credential of the cluster itself (X8).
 */
import { stringify } from 'yaml';
import { PcgError } from '../base/errors.ts';
import type { Caller } from './auth.ts';
import type { Portal } from './portal.ts';
import type { ClustersTable } from './store/schema.ts';

/** `host`: the Host header of the request, for a portal that does not know its own name. */
export async function renderKubeconfig(
  portal: Portal,
  row: ClustersTable,
  caller: Caller,
  host: string,
): Promise<string> {
  if (row.deleted_at !== null) throw new PcgError('CONFLICT', 'the cluster is deleted');
  const issued = await portal.auth.issue(caller.userId, {
    kind: 'kubeconfig',
    name: `kubeconfig ${row.name}`,
    scope: `kube:${row.id}`,
    ttlMs: portal.limits.kubeconfigTtlMs,
  });
  const { url, caPem, serverName } = portal.kubeAccess(host);
  const cluster = {
    server: `${url}/k8s/clusters/${row.id}`,
    ...(caPem === undefined
      ? {}
      : { 'certificate-authority-data': Buffer.from(caPem, 'utf8').toString('base64') }),
    ...(serverName === undefined ? {} : { 'tls-server-name': serverName }),
  };
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: row.name, cluster }],
    users: [{ name: caller.email, user: { token: issued.token.reveal() } }],
    contexts: [{ name: row.name, context: { cluster: row.name, user: caller.email } }],
    'current-context': row.name,
  });
}
