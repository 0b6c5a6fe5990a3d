/** The static pods of a control-plane node, as their mirror pods show them. */
import { randomUUID } from 'node:crypto';
import type { KubeObject, OwnerReference } from '../api/json.ts';
import type { KubeletOptions } from './kubelet.ts';

const ETCD_IMAGE = 'etcd:3.6.11-0';

export function staticPods(
  repository: string,
  version: string,
  kubeVip: string | undefined,
): KubeletOptions['staticPods'] {
  const pod = (name: string, image: string) => ({ name, image: `${repository}/${image}`, command: [name] });
  return [
    pod('etcd', ETCD_IMAGE),
    ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map((name) =>
      pod(name, `${name}:${version}`),
    ),
    ...(kubeVip === undefined
      ? []
      : [{ name: 'kube-vip', image: kubeVip, command: ['/kube-vip', 'manager'] }]),
  ];
}

/** What the API server shows of a static pod. */
export function mirrorPod(
  pod: KubeletOptions['staticPods'][number],
  nodeName: string,
  owners: readonly OwnerReference[],
): KubeObject {
  const hash = randomUUID().replaceAll('-', '');
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${pod.name}-${nodeName}`,
      namespace: 'kube-system',
      labels: { component: pod.name, tier: 'control-plane' },
      annotations: {
        'kubernetes.io/config.mirror': hash,
        'kubernetes.io/config.hash': hash,
        'kubernetes.io/config.source': 'file',
      },
      ownerReferences: owners.map((owner) => ({ ...owner, controller: true })),
    },
    spec: {
      nodeName,
      hostNetwork: true,
      priorityClassName: 'system-node-critical',
      tolerations: [{ operator: 'Exists', effect: 'NoExecute' }],
      containers: [{ name: pod.name, image: pod.image, command: pod.command }],
    },
  };
}
