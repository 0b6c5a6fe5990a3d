/** Approves and signs certificate requests of kubelets, when RBAC lets the requestor have them approved. */
import { clone } from '../api/json.ts';
import { isAllowed } from '../api/rbac.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';
import { readRequest, signRequest } from '../node/pki.ts';

const CLIENT_SIGNER = 'kubernetes.io/kube-apiserver-client-kubelet';

export async function approveCertificates(cluster: SimCluster): Promise<void> {
  const { core, keys } = cluster;
  for (const csr of core.store.all(R.csrs)) {
    if (csr.status?.certificate || csr.spec?.signerName !== CLIENT_SIGNER) continue;
    const pem = Buffer.from(csr.spec.request ?? '', 'base64').toString();
    const subject = readRequest(pem);
    const conditions = clone(csr.status?.conditions ?? []);
    if (conditions.some((item: { type: string }) => item.type === 'Denied' || item.type === 'Failed'))
      continue;
    const nodeLike =
      subject?.commonName.startsWith('system:node:') &&
      subject.organizations.length === 1 &&
      subject.organizations[0] === 'system:nodes';
    if (!nodeLike) continue;
    const user = { name: csr.spec.username ?? '', groups: csr.spec.groups ?? [] };
    const self = user.name === subject?.commonName;
    const at = {
      verb: 'create',
      group: 'certificates.k8s.io',
      resource: 'certificatesigningrequests',
      subresource: self ? 'selfnodeclient' : 'nodeclient',
      namespace: '',
      name: '',
    };
    const approved = conditions.some((item: { type: string }) => item.type === 'Approved');
    if (!approved && !isAllowed(core.store, user, at)) continue;
    const certificate = await signRequest(keys.ca, pem, core.clock.now(), { client: true });
    const now = new Date(core.clock.now()).toISOString();
    core.edit(R.csrs, csr.metadata, (draft) => {
      if (!approved)
        conditions.push({
          type: 'Approved',
          status: 'True',
          reason: 'AutoApproved',
          message: 'Auto approving kubelet client certificate after SubjectAccessReview.',
          lastUpdateTime: now,
          lastTransitionTime: now,
        });
      draft.status = { conditions, certificate: Buffer.from(certificate).toString('base64') };
    });
  }
}
