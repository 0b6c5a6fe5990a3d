/** What containers do in this double: which pod is a CNI, which ends by itself, which image cannot be pulled. */
import type { Json, KubeObject } from '../api/json.ts';

const CNI_NAMES = [
  'calico-node',
  'cilium',
  'kube-flannel-ds',
  'kube-flannel',
  'canal',
  'weave-net',
  'kube-router',
  'antrea-agent',
];
const CNI_CONFIG_DIRECTORY = '/etc/cni/net.d';

/** A pod that brings the node's network: one of the known names, or a host-network pod that writes CNI configuration. */
export function isCniPod(pod: KubeObject): boolean {
  const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller);
  if (owner?.kind !== 'DaemonSet') return false;
  const labels = Object.values(pod.metadata.labels ?? {});
  if (CNI_NAMES.includes(owner.name) || labels.some((value) => CNI_NAMES.includes(value))) return true;
  const mounts = (pod.spec?.volumes ?? []).some((volume: Json) =>
    String(volume.hostPath?.path ?? '').startsWith(CNI_CONFIG_DIRECTORY),
  );
  return pod.spec?.hostNetwork === true && mounts;
}

/** Pods whose restart policy lets them end: those of Jobs, and bare ones. */
export const completesByItself = (pod: KubeObject) => pod.spec?.restartPolicy !== 'Always';

/** Why the container cannot start: an image that says so in its name, as no registry is behind this double. */
export function runtimeOf(pod: KubeObject): { problem: string | undefined } {
  for (const container of pod.spec?.containers ?? []) {
    if (/\s|^$|[A-Z].*\//.test(container.image)) return { problem: 'InvalidImageName' };
    if (/(does-not-exist|no-such-image)/.test(container.image)) return { problem: 'ImagePullBackOff' };
  }
  return { problem: undefined };
}
