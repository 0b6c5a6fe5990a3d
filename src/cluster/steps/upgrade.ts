/**
 * What a replacement-style upgrade needs before the first new control-plane node: a snapshot of etcd, RBAC objects that
 * only `kubeadm upgrade` would make, and the stored ClusterConfiguration that joining nodes read.
 */
import { type Document, isMap, parseDocument } from 'yaml';
import { PcgError } from '../../base/errors.ts';
import type { ResolvedProfile } from '../../contract/profile.ts';
import { asRecord } from '../../kube/errors.ts';
import { upgradeRbac } from '../../kube/rbac.ts';
import { assertUpgrade } from '../../kube/versions.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { apiServerExtraArgs, LOCAL_MODE, needsLocalMode } from '../kubeadm.ts';
import { mergeNodeSettings } from '../site-settings.ts';
import { sharedSettings } from '../template.ts';
import { saveBefore } from './upgrade-snapshot.ts';

const KUBEADM_CONFIG = '/api/v1/namespaces/kube-system/configmaps/kubeadm-config';

export async function prepareUpgrade(
  step: { version: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const { document, site } = context;
  const current = context.record().controlPlaneVersion;
  if (current !== undefined) assertUpgrade(current, step.version);
  const client = context.kube();
  if (current !== undefined) await saveBefore(current, step.version, context, signal);
  // A snapshot takes minutes, in which the upgrade may have been given up: there is no way back from what follows.
  if (context.outdated.aborted) return { kind: 'later', waitingFor: 'what is wanted now', afterMs: 0 };
  // Created when absent only: an administrator may have narrowed what exists.
  for (const object of upgradeRbac(step.version)) await client.create(object, signal);
  const config = await client.get(KUBEADM_CONFIG, signal);
  const text = asRecord(config?.['data'])['ClusterConfiguration'];
  if (typeof text !== 'string')
    throw new PcgError('KUBE_REJECTED', 'the cluster has no kubeadm-config', { retryable: true });
  const { imageRepository } = mergeNodeSettings(site, document.spec.nodes);
  const changed = withSettings(text, document.profile, imageRepository);
  await context.commit((record) => ({ ...record, preparing: true }));
  await client.patch(KUBEADM_CONFIG, { data: { ClusterConfiguration: changed } }, 'merge', signal);
  await context.commit(({ preparing: _done, ...record }) => ({
    ...record,
    controlPlaneVersion: step.version,
    controlPlaneSettings: sharedSettings(document),
  }));
  await context.event({
    severity: 'info',
    reason: 'UpgradePrepared',
    message: `control-plane nodes that join from now on run ${step.version} with the settings of the profile`,
  });
  return DONE;
}

/**
 * The stored configuration with the version, the API server's arguments, the feature gate and the image repository
 * that are wanted now; everything else, comments included, stays as it is.
 */
export function withSettings(
  clusterConfiguration: string,
  profile: ResolvedProfile,
  imageRepository = 'registry.k8s.io',
): string {
  // Go's reader takes yes, no, on and off for booleans.
  const document: Document = parseDocument(clusterConfiguration, { version: '1.1' });
  if (document.errors.length > 0 || !isMap(document.contents))
    throw new PcgError('KUBE_REJECTED', 'the stored ClusterConfiguration is not YAML');
  const { kubernetesVersion } = profile.kubernetes;
  document.set('kubernetesVersion', kubernetesVersion);
  document.setIn(['apiServer', 'extraArgs'], document.createNode(apiServerExtraArgs(profile)));
  if (needsLocalMode(kubernetesVersion)) document.setIn(['featureGates', LOCAL_MODE], true);
  else if (document.hasIn(['featureGates', LOCAL_MODE])) document.deleteIn(['featureGates', LOCAL_MODE]);
  document.set('imageRepository', imageRepository);
  return document.toString({ lineWidth: 0 });
}
