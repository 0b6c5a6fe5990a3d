/** The static pods of a control-plane node, as their mirror pods show them. */
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
