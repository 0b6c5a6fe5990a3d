/**
 * Scripts of privileged pods that enter their node (`nsenter -t 1`): what their commands do to the machine. Only
 * words that change something there are known; without hostPID or privileges nsenter is refused, as on Linux.
 */
import type { Json, KubeObject } from '../api/json.ts';
import type { SimCluster } from './cluster.ts';

/** Milliseconds on real hardware. */
const RENEW_MS = 4000;

/** Static pods that must restart before new certificates are served. */
const SERVERS = ['etcd', 'kube-apiserver'];

/** Exit code; undefined when the script does not enter the node. */
export async function runHostScript(
  cluster: SimCluster,
  pod: KubeObject,
  container: Json,
  print: (text: string) => void,
  signal: AbortSignal,
): Promise<number | undefined> {
  const script = [...(container.command ?? []), ...(container.args ?? [])].join(' ');
  if (!/nsenter -t 1/.test(script)) return undefined;
  if (pod.spec?.hostPID !== true || container.securityContext?.privileged !== true) {
    print('nsenter: reassociate to namespaces failed: Operation not permitted\n');
    return 1;
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
