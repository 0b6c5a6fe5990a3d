/** What every namespace has, and how a deleted one empties itself. */
import type { ApiCore } from '../api/core.ts';
import { R } from '../api/resources.ts';
import { ApiError } from '../api/status.ts';
import type { SimCluster } from '../node/cluster.ts';

export function provideNamespaceDefaults(
  cluster: Pick<SimCluster, 'core'> & { readonly keys?: SimCluster['keys'] },
): void {
  const { core } = cluster;
  for (const namespace of core.store.all(R.namespaces)) {
    if (namespace.metadata.deletionTimestamp) continue;
    const { name } = namespace.metadata;
    core.ensure(R.serviceaccounts, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'default', namespace: name },
    });
    const ca = cluster.keys?.ca.certPem;
    if (ca)
      core.ensure(R.configmaps, {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'kube-root-ca.crt', namespace: name },
        data: { 'ca.crt': ca },
      });
  }
}

export function finishNamespaces({ core }: { readonly core: ApiCore }): void {
  for (const namespace of core.store.all(R.namespaces)) {
    if (!namespace.metadata.deletionTimestamp) continue;
    const { name } = namespace.metadata;
    let left = 0;
    for (const storage of core.store.resources()) {
      for (const object of core.store.list(storage, name)) {
        left += 1;
        if (object.metadata.deletionTimestamp) continue;
        try {
          core.objects.delete(core.type(storage), name, object.metadata.name, {});
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
        }
      }
    }
    if (left > 0) continue;
    core.edit(R.namespaces, { name }, (draft) => {
      draft.spec = { finalizers: [] };
    });
  }
}
