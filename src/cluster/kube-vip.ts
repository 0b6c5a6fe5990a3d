/**
 * kube-vip as a static pod of every control-plane node: whoever holds the lease answers ARP for the endpoint
 * address. It speaks to the local API server only, with its own certificate that may do nothing but leases, so no
 * admin credential lies in the pod and there is no waiting for kubeadm's own bindings during init.
 */
import { stringify } from 'yaml';
import { renderKubeconfig } from '../kube/kubeconfig.ts';
import type { ClusterPki } from '../kube/pki.ts';

export const KUBE_VIP_IMAGE = 'ghcr.io/kube-vip/kube-vip:v1.2.3';
export const KUBE_VIP_LEASE = 'plndr-cp-lock';
export const KUBE_VIP_MANIFEST_PATH = '/etc/kubernetes/manifests/kube-vip.yaml';
export const KUBE_VIP_KUBECONFIG_PATH = '/etc/kubernetes/kube-vip.conf';
/** Replaced on the machine by the interface that routes to the endpoint. */
export const NODE_INTERFACE_PLACEHOLDER = '__NODE_INTERFACE__';

/** Seconds. Longer than kube-vip's 5/3/1, which flap when an etcd disk is slow (rotating disks). */
const LEASE = { duration: 15, renew: 10, retry: 2 };

export function renderKubeVipManifest(endpoint: { host: string; port: number }): string {
  const environment: Record<string, string> = {
    vip_arp: 'true',
    port: String(endpoint.port),
    vip_interface: NODE_INTERFACE_PLACEHOLDER,
    vip_subnet: '32',
    dns_mode: 'first',
    cp_enable: 'true',
    cp_namespace: 'kube-system',
    svc_enable: 'false',
    vip_leaderelection: 'true',
    vip_leasename: KUBE_VIP_LEASE,
    vip_leaseduration: String(LEASE.duration),
    vip_renewdeadline: String(LEASE.renew),
    vip_retryperiod: String(LEASE.retry),
    address: endpoint.host,
    prometheus_server: ':2112',
  };
  return stringify(
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'kube-vip', namespace: 'kube-system' },
      spec: {
        hostNetwork: true,
        priorityClassName: 'system-node-critical',
        hostAliases: [{ ip: '127.0.0.1', hostnames: ['kubernetes'] }],
        containers: [
          {
            name: 'kube-vip',
            image: KUBE_VIP_IMAGE,
            imagePullPolicy: 'IfNotPresent',
            args: ['manager'],
            env: [
              { name: 'vip_nodename', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
              ...Object.entries(environment).map(([name, value]) => ({ name, value })),
            ],
            securityContext: {
              allowPrivilegeEscalation: false,
              capabilities: { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] },
            },
            // kube-vip looks for its credential at this path unless it runs with a service account.
            volumeMounts: [{ name: 'kubeconfig', mountPath: '/etc/kubernetes/admin.conf', readOnly: true }],
          },
        ],
        volumes: [{ name: 'kubeconfig', hostPath: { path: KUBE_VIP_KUBECONFIG_PATH, type: 'File' } }],
      },
    },
    { lineWidth: 0, version: '1.1' },
  );
}

/** `/etc/kubernetes/kube-vip.conf` of a control-plane node. */
export function renderKubeVipKubeconfig(clusterName: string, pki: ClusterPki, port: number): string {
  return renderKubeconfig({
    clusterName,
    user: 'kube-vip',
    server: `https://127.0.0.1:${port}`,
    caPem: pki.ca.certPem,
    credential: pki.kubeVip,
  });
}
