/** Faults of the Kubernetes double by name; whether one strikes now is decided by the list shared with the MAAS double. */

export const KUBERNETES_FAULTS = {
  'init-fails': 'kubeadm init gives up waiting for the kubelet',
  'join-hangs': 'kubeadm join never ends',
  'cni-never-ready': 'the CNI pod of a node never becomes ready',
  'pdb-blocks': 'an eviction is refused with 429 although the budget would allow it',
  'api-flaps': 'an API server restarts: connections are cut, the port is closed for 20 s',
  'vip-taken': 'somebody else on the segment answers for the virtual address',
  'cloned-image': 'the image carries a machine-id: all nodes that are made from it report the same',
  'node-dies': 'the kernel of a node panics: everything on it stops, MAAS still shows it powered on',
  'scheduler-crash-loops':
    'the scheduler of a control-plane node crashes again at each heartbeat of the node, and places no pod meanwhile',
  'etcd-nospace':
    'etcd raises the alarm NOSPACE for its member on a node and takes no writes while this rule stands',
  'etcd-corrupt':
    'etcd raises the alarm CORRUPT for its member on a node while this rule stands; reads and writes go on',
  'certificates-expire': 'the leaf certificates that kubeadm makes on a node end in 20 days',
  'renewal-fails': 'kubeadm certs renew on a node ends with an error',
  'slow-etcd': 'a write takes two seconds longer',
  'patch-fails': 'dpkg ends with an error while packages are upgraded by policy',
  'reboot-hangs': 'a node that is told to reboot by policy never comes back',
  'backup-partially-fails': 'Velero cannot copy a volume: the backup ends PartiallyFailed',
  'backup-deletion-fails':
    'Velero cannot delete what is in the bucket: its DeleteBackupRequest is Processed with errors',
  'backup-target-away': 'Velero cannot reach the bucket: its location is Unavailable',
} as const;

export type KubernetesFault = keyof typeof KUBERNETES_FAULTS;

export interface KubernetesFaults {
  /** Whether the fault strikes this machine now; consumes a count. */
  take(name: KubernetesFault, at: { readonly hostname: string; readonly systemId: string }): boolean;
}

export const noFaults: KubernetesFaults = { take: () => false };
