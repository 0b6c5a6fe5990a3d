/**
 * What a replacement-style upgrade needs besides new nodes: RBAC objects that only `kubeadm upgrade` would make,
 * the stored ClusterConfiguration that joining nodes read, and kube-proxy's image once every API server is new.
 */
import { isMap, parseDocument } from 'yaml';
import { PcgError } from '../../base/errors.ts';
import { asRecord } from '../../kube/errors.ts';
import { upgradeRbac } from '../../kube/rbac.ts';
import { assertUpgrade } from '../../kube/versions.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';

const KUBEADM_CONFIG = '/api/v1/namespaces/kube-system/configmaps/kubeadm-config';
const KUBE_PROXY = '/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy';

export async function prepareUpgrade(
  step: { version: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const current = context.record().controlPlaneVersion;
  if (current !== undefined) assertUpgrade(current, step.version);
  const client = context.kube();
  // Created when absent only: an administrator may have narrowed what exists.
  for (const object of upgradeRbac(step.version)) await client.create(object, signal);
  const config = await client.get(KUBEADM_CONFIG, signal);
  const text = asRecord(config?.['data'])['ClusterConfiguration'];
  if (typeof text !== 'string')
    throw new PcgError('KUBE_REJECTED', 'the cluster has no kubeadm-config', { retryable: true });
  await client.patch(
    KUBEADM_CONFIG,
    { data: { ClusterConfiguration: withVersion(text, step.version) } },
    'merge',
    signal,
  );
  await context.commit((record) => ({ ...record, controlPlaneVersion: step.version }));
  await context.event({
    severity: 'info',
    reason: 'UpgradePrepared',
    message: `control-plane nodes that join from now on run ${step.version}`,
  });
  return DONE;
}

/** The stored configuration with another version; everything else, comments included, stays as it is. */
export function withVersion(clusterConfiguration: string, version: string): string {
  const document = parseDocument(clusterConfiguration);
  if (document.errors.length > 0 || !isMap(document.contents))
    throw new PcgError('KUBE_REJECTED', 'the stored ClusterConfiguration is not YAML');
  document.set('kubernetesVersion', version);
  return document.toString({ lineWidth: 0 });
}

export async function upgradeKubeProxy(
  step: { version: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const client = context.kube();
  const daemonSet = await client.get(KUBE_PROXY, signal);
  const template = asRecord(asRecord(daemonSet?.['spec'])['template']);
  const containers = asRecord(template['spec'])['containers'];
  const [proxy] = Array.isArray(containers) ? containers.map(asRecord) : [];
  const image = proxy?.['image'];
  // Clusters whose CNI replaces kube-proxy have none.
  if (typeof image === 'string')
    await client.patch(
      KUBE_PROXY,
      {
        spec: {
          template: { spec: { containers: [{ name: proxy?.['name'], image: retag(image, step.version) }] } },
        },
      },
      'strategic',
      signal,
    );
  await context.commit((record) => ({ ...record, kubeProxyVersion: step.version }));
  return DONE;
}

/** The same repository with another tag; a port in the registry's name is no tag. */
export function retag(image: string, tag: string): string {
  const [name = image] = image.split('@');
  const colon = name.lastIndexOf(':');
  return `${colon > name.lastIndexOf('/') ? name.slice(0, colon) : name}:${tag}`;
}
