/** kubeadm's preflight: what the machine must have and what must not lie on it already. */
import type { BootedMachine } from '../../ports.ts';
import type { Json } from '../api/json.ts';
import type { NodeFile } from './cloud-config.ts';
import { KubeadmError } from './kubeadm-config.ts';

export type Files = ReadonlyMap<string, NodeFile>;

/** kubeadm's minimum for a control-plane node. */
const MIN_CPUS = 2;
const MIN_MEMORY_MB = 1700;
const STATIC_PODS = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'etcd'];

/** Throws KubeadmError with all `[ERROR Name]: ...` lines that are not ignored. */
export function preflight(
  kind: 'init' | 'control-plane' | 'worker',
  machine: BootedMachine,
  files: Files,
  document: Json,
): void {
  const ignored = new Set(
    (document?.nodeRegistration?.ignorePreflightErrors ?? []).map((name: string) => name.toLowerCase()),
  );
  const errors: string[] = [];
  const error = (name: string, text: string) => {
    if (!ignored.has(name.toLowerCase()) && !ignored.has('all')) errors.push(`\t[ERROR ${name}]: ${text}`);
  };
  if (kind !== 'worker') {
    if (machine.cpuCount < MIN_CPUS)
      error(
        'NumCPU',
        `the number of available CPUs ${machine.cpuCount} is less than the required ${MIN_CPUS}`,
      );
    if (machine.memoryMiB < MIN_MEMORY_MB)
      error('Mem', `the system RAM (${machine.memoryMiB} MB) is less than the minimum ${MIN_MEMORY_MB} MB`);
    for (const name of STATIC_PODS) {
      const path = `/etc/kubernetes/manifests/${name}.yaml`;
      if (files.has(path))
        error(`FileAvailable--etc-kubernetes-manifests-${name}.yaml`, `${path} already exists`);
    }
  }
  if (kind !== 'init')
    for (const name of ['kubelet.conf', 'bootstrap-kubelet.conf'])
      if (files.has(`/etc/kubernetes/${name}`))
        error(`FileAvailable--etc-kubernetes-${name}`, `/etc/kubernetes/${name} already exists`);
  if (kind === 'worker' && files.has('/etc/kubernetes/pki/ca.crt'))
    error('FileAvailable--etc-kubernetes-pki-ca.crt', '/etc/kubernetes/pki/ca.crt already exists');
  if ([...files.keys()].some((path) => path.startsWith('/var/lib/etcd/')) && kind !== 'worker')
    error('DirAvailable--var-lib-etcd', '/var/lib/etcd is not empty');
  if (errors.length > 0)
    throw new KubeadmError(
      `error execution phase preflight: [preflight] Some fatal errors occurred:\n${errors.join('\n')}\n[preflight] If you know what you are doing, you can make a check non-fatal with \`--ignore-preflight-errors=...\``,
    );
}
