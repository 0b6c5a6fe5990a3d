/**
 * Hashes of what a node or a pack was made from. A node whose template differs from the wanted one is
 * outdated and is replaced by a rollout; labels and taints are not part of it, they change in place.
 */
import { createHash } from 'node:crypto';
import type { ClusterDocument, Pool } from '../contract/cluster.ts';
import type { ManifestPack } from '../contract/profile.ts';

/** JSON with sorted keys, so that equal values have equal texts. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

export function shortHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex').slice(0, 12);
}

/** What the machines of this pool are to be deployed with. */
export function nodeTemplate(document: ClusterDocument, pool: Pool): string {
  const { os, kubernetes } = document.profile;
  return shortHash({
    image: os.image,
    variant: os.variant,
    kubernetes: kubernetes.kubernetesVersion,
    kubeletArgs: kubernetes.kubeletArgs,
    ...(pool.role === 'control-plane' ? { apiServerArgs: kubernetes.apiServerArgs } : {}),
    nodes: document.spec.nodes,
  });
}

/** What control-plane nodes read from the cluster itself when they join: kubeadm's stored configuration. */
export function sharedSettings({ profile, spec }: ClusterDocument): string {
  const { kubernetesVersion, apiServerArgs } = profile.kubernetes;
  return shortHash({ kubernetesVersion, apiServerArgs, imageRepository: spec.nodes.imageRepository });
}

export function packHash(pack: ManifestPack, values: Readonly<Record<string, unknown>>): string {
  return shortHash({
    manifests: pack.manifests,
    version: pack.version,
    values: { ...pack.values, ...values },
  });
}
