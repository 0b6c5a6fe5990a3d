/**
 * RBAC objects that the gateway creates itself: the least that kube-vip needs, and what `kubeadm init` would
 * create but joining newer nodes into an older cluster does not.
 */
import type { KubeObject } from './client.ts';
import { parseVersion } from './versions.ts';

/** Leases of kube-system and nothing else: kube-vip only elects who answers for the endpoint address. */
export function kubeVipRbac(): KubeObject[] {
  const metadata = { name: 'kube-vip', namespace: 'kube-system' };
  return [
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata,
      rules: [
        {
          apiGroups: ['coordination.k8s.io'],
          resources: ['leases'],
          verbs: ['get', 'list', 'watch', 'create', 'update', 'patch'],
        },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'kube-vip' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'kube-vip' }],
    },
  ];
}

/** The portal's viewers act as group `pcg:viewer`: they may read workloads, never secrets. */
export function portalViewerBinding(): KubeObject {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'pcg:viewer' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'pcg:viewer' }],
  };
}

/**
 * Bindings that must exist before a control plane is replaced by nodes of `targetVersion`. Patch releases of
 * May 2026 and 1.37 took the API server's kubelet client out of the admin group; without the binding
 * `kubectl logs` and `exec` break after the rollout. From 1.38 on kubeadm looks after it itself.
 */
export function upgradeRbac(targetVersion: string): KubeObject[] {
  return parseVersion(targetVersion).minor >= 38 ? [] : [APISERVER_KUBELET_CLIENT, CLUSTER_ADMINS];
}

const APISERVER_KUBELET_CLIENT: KubeObject = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: 'kubeadm:apiserver-kubelet-client' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:kubelet-api-admin' },
  subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'kube-apiserver-kubelet-client' }],
};

const CLUSTER_ADMINS: KubeObject = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: 'kubeadm:cluster-admins' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
  subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'kubeadm:cluster-admins' }],
};
