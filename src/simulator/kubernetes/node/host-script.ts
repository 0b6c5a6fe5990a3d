/**
 * Scripts of privileged pods that enter their node (`nsenter -t 1`): what their commands do to the machine. Only
 * words that change something there are known; without hostPID or privileges nsenter is refused, as on Linux.
 */
import type { Json, KubeObject } from '../api/json.ts';
import type { SimCluster } from './cluster.ts';

/** Milliseconds on real hardware. */
const RENEW_MS = 4000;
const PATCH_MS = 30_000;
/** `systemd-run --on-active=10`. */
const REBOOT_AFTER_MS = 10_000;
/** Security updates that a freshly installed machine finds, a kernel among them. */
const UPDATES = 3;

/** Static pods that must restart before new certificates are served. */
const SERVERS = ['etcd', 'kube-apiserver'];

/** Exit code; undefined when the script does not enter the node. */
export async function runHostScript(
  cluster: SimCluster,
  pod: KubeObject,
  container: Json,
  print: (text: string) => void,
  /** The termination message. */
  tell: (text: string) => void,
  signal: AbortSignal,
): Promise<number | undefined> {
  const script = [...(container.command ?? []), ...(container.args ?? [])].join(' ');
  if (!/nsenter -t 1/.test(script)) return undefined;
  if (pod.spec?.hostPID !== true || container.securityContext?.privileged !== true) {
    print('nsenter: reassociate to namespaces failed: Operation not permitted\n');
    return 1;
  }
  if (script.includes('unattended-upgrade')) return await patch(cluster, pod, print, tell, signal);
  if (script.includes('systemctl reboot')) {
    const machine = machineOf(cluster, pod);
    if (machine)
      void cluster.site.pace.sleep(REBOOT_AFTER_MS, cluster.signal).then(
        () => cluster.site.reboot(machine),
        () => {},
      );
    return 0;
  }
  if (!script.includes('kubeadm certs renew all')) return undefined;
  const control = [...cluster.controlPlanes.values()].find(({ nodeName }) => nodeName === pod.spec?.nodeName);
  if (!control || cluster.site.faults.take('renewal-fails', control.machine)) {
    print(
      'error execution phase: failure loading certificate for etcd/ca: the etcd/ca.crt file is missing\n',
    );
    return 10;
  }
  await cluster.site.pace.sleep(RENEW_MS, signal);
  await control.renewFiles();
  const stops = script.includes('crictl stop') && SERVERS.every((name) => script.includes(name));
  // The pod itself lives on: the kubelet restarts static pods, not containerd. What stops is not waited for.
  if (stops) void control.restart(cluster.signal).catch(() => {});
  return 0;
}

const machineOf = (cluster: SimCluster, pod: KubeObject) =>
  cluster.kubelets.get(pod.spec?.nodeName ?? '')?.options.machine;

/** A machine finds its updates once; they want one reboot. */
async function patch(
  cluster: SimCluster,
  pod: KubeObject,
  print: (text: string) => void,
  tell: (text: string) => void,
  signal: AbortSignal,
): Promise<number> {
  const kubelet = cluster.kubelets.get(pod.spec?.nodeName ?? '');
  if (!kubelet || cluster.site.faults.take('patch-fails', kubelet.options.machine)) {
    print('E: Sub-process /usr/bin/dpkg returned an error code (1)\n');
    return 11;
  }
  await cluster.site.pace.sleep(PATCH_MS, signal);
  const { systemId } = kubelet.options.machine;
  const patchedIn = cluster.patched.get(systemId);
  if (patchedIn === undefined) cluster.patched.set(systemId, kubelet.bootId);
  const rebootRequired = patchedIn === undefined || patchedIn === kubelet.bootId;
  tell(JSON.stringify({ upgraded: patchedIn === undefined ? UPDATES : 0, rebootRequired }));
  return 0;
}
