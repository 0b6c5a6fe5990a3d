/** Token cleaner and bootstrap signer: expired tokens go, cluster-info carries one signature per living token. */
import { decode64 } from '../api/authenticate.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';
import { signClusterInfo } from '../node/kubeadm-objects.ts';

export function tendTokens({ core }: SimCluster): void {
  for (const secret of core.store.all(R.secrets)) {
    if (secret.type !== 'bootstrap.kubernetes.io/token' || secret.metadata.namespace !== 'kube-system')
      continue;
    const expiration = secret.data?.expiration;
    if (expiration && !(Date.parse(decode64(expiration)) > core.clock.now()))
      core.objects.delete(core.type(R.secrets), 'kube-system', secret.metadata.name, {});
  }
  signClusterInfo(core);
}
