/**
 * What a node that is deployed now must be made of. While a new Kubernetes version waits for its approval, or the
 * control plane is between two versions, that is not simply what is wanted: a kubelet is never newer than an API
 * server, and kubeadm joins a cluster of its own version only.
 */
import type { ClusterDocument } from '../contract/cluster.ts';
import type { ClusterRecord, NodeRecord } from './model.ts';
import { sharedSettings } from './template.ts';

/** The document with the version that fits now; undefined while none does. */
export function documentInForce(
  document: ClusterDocument,
  record: ClusterRecord,
  node: Pick<NodeRecord, 'init' | 'role'>,
): ClusterDocument | undefined {
  const wanted = document.profile.kubernetes.kubernetesVersion;
  const version = versionInForce(record, node) ?? wanted;
  if (version === 'none') return undefined;
  if (version === wanted) return document;
  // The version is part of the image: what is wanted cannot be had in the old version.
  if (document.profile.os.variant === 'prebaked') return undefined;
  const { profile } = document;
  return {
    ...document,
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
  };
}

/** `none`: the control plane is between two versions. Undefined: nothing runs yet that would bind it. */
function versionInForce(
  record: ClusterRecord,
  node: Pick<NodeRecord, 'init' | 'role'>,
): string | 'none' | undefined {
  if (record.initializedAt === undefined)
    return node.init ? undefined : record.nodes.find(({ init }) => init)?.kubernetesVersion;
  const current = record.controlPlaneVersion;
  if (current === undefined || node.role === 'control-plane') return current;
  const servers = record.nodes.filter(
    (other) => other.role === 'control-plane' && other.readyAt !== undefined,
  );
  return servers.every((server) => server.kubernetesVersion === current) ? current : 'none';
}

/** Control-plane nodes that join now would read settings from the cluster that are not the wanted ones. */
export function settingsLag(document: ClusterDocument, record: ClusterRecord): boolean {
  return (
    record.controlPlaneSettings !== undefined && record.controlPlaneSettings !== sharedSettings(document)
  );
}
