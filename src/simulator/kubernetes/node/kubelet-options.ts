/** What a kubeadm file says about the kubelet of its node. */
import type { BootedMachine } from '../../ports.ts';
import type { Json } from '../api/json.ts';
import { isIpv4, KubeadmError } from './kubeadm-config.ts';
import type { KubeletOptions } from './kubelet.ts';

const CONTROL_PLANE = 'node-role.kubernetes.io/control-plane';
/** Label prefixes that a kubelet may give itself in the kubernetes.io domains; others make it refuse to start. */
const OWN_LABELS =
  /^(kubelet\.kubernetes\.io\/|node\.kubernetes\.io\/|kubernetes\.io\/(hostname|arch|os)$|topology\.kubernetes\.io\/(zone|region)$|beta\.kubernetes\.io\/(arch|os|instance-type)$|failure-domain\.beta\.kubernetes\.io\/|node\.kubernetes\.io\/instance-type$)/;
/** Flags of the kubelet that exist; another one keeps it in a crash loop. */
const KNOWN_FLAGS = new Set(
  'node-ip node-labels provider-id cloud-provider hostname-override register-with-taints max-pods v cgroup-driver container-runtime-endpoint pod-infra-container-image eviction-hard eviction-soft kube-reserved system-reserved fail-swap-on feature-gates rotate-certificates rotate-server-certificates root-dir image-gc-high-threshold image-gc-low-threshold node-status-update-frequency resolv-conf tls-cipher-suites tls-min-version read-only-port protect-kernel-defaults streaming-connection-idle-timeout serialize-image-pulls allowed-unsafe-sysctls cpu-manager-policy topology-manager-policy container-log-max-size container-log-max-files event-qps pod-max-pids anonymous-auth authorization-mode volume-plugin-dir image-credential-provider-config image-credential-provider-bin-dir'.split(
    ' ',
  ),
);

export const kubeletFailed = (why: string) =>
  new KubeadmError(
    `error execution phase kubelet-start: failed while waiting for the kubelet to start: The HTTP call equal to 'curl -sSL http://127.0.0.1:10248/healthz' returned error: Get "http://127.0.0.1:10248/healthz": context deadline exceeded (kubelet: ${why})`,
  );

/** Throws KubeadmError when this kubelet would not start. */
export function kubeletOptions(
  machine: BootedMachine,
  registration: Json,
  node: { version: string; controlPlane: boolean; local: boolean; staticPods: KubeletOptions['staticPods'] },
): KubeletOptions {
  const args = new Map<string, string>();
  for (const { name, value } of registration?.kubeletExtraArgs ?? []) args.set(name, value);
  for (const flag of args.keys()) if (!KNOWN_FLAGS.has(flag)) throw kubeletFailed(`unknown flag: --${flag}`);
  const nodeIp = args.get('node-ip') ?? machine.ip;
  if (!isIpv4(nodeIp)) throw kubeletFailed(`bad --node-ip "${nodeIp}"`);
  if (nodeIp !== machine.ip)
    throw kubeletFailed(`node IP: "${nodeIp}" not found in the host's network interfaces`);
  const labels: Record<string, string> = {};
  for (const pair of (args.get('node-labels') ?? '').split(',').filter(Boolean)) {
    const [key = '', value = ''] = pair.split('=');
    const domain = key.includes('/') ? key.split('/')[0] : '';
    if (/(^|\.)(kubernetes|k8s)\.io$/.test(domain ?? '') && !OWN_LABELS.test(key))
      throw kubeletFailed(
        `unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [${key}]`,
      );
    labels[key] = value;
  }
  const own: Json[] | undefined = registration?.taints;
  const taints = own ?? (node.controlPlane ? [{ key: CONTROL_PLANE, effect: 'NoSchedule' }] : []);
  return {
    machine,
    nodeName: registration?.name ?? args.get('hostname-override') ?? machine.hostname,
    nodeIp,
    version: node.version,
    labels,
    taints: taints.map((taint: Json) => ({ ...taint })),
    providerId: args.get('provider-id'),
    maxPods: Number(args.get('max-pods') ?? 110),
    local: node.local,
    staticPods: node.staticPods,
  };
}
