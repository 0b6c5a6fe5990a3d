/**
 * Programs that bring their own CustomResourceDefinitions when they run: which image registers which. Known by
 * image and command, as nothing really runs here.
 */
import type { Json, KubeObject } from '../api/json.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';

interface Program {
  readonly image: RegExp;
  /** A word of the command line without which the program registers nothing. */
  readonly argument?: RegExp;
  readonly group: string;
  readonly version: string;
  /** Kind, plural, scope. */
  readonly kinds: readonly (readonly [string, string, 'Namespaced' | 'Cluster'])[];
}

const PROGRAMS: readonly Program[] = [
  {
    image: /\/cilium\/operator-generic[:@]/,
    group: 'cilium.io',
    version: 'v2',
    kinds: [
      ['CiliumNode', 'ciliumnodes', 'Cluster'],
      ['CiliumIdentity', 'ciliumidentities', 'Cluster'],
      ['CiliumEndpoint', 'ciliumendpoints', 'Namespaced'],
      ['CiliumNetworkPolicy', 'ciliumnetworkpolicies', 'Namespaced'],
    ],
  },
  {
    image: /\/tigera\/operator[:@]/,
    argument: /^--?manage-crds(=true)?$/,
    group: 'operator.tigera.io',
    version: 'v1',
    kinds: [
      ['Installation', 'installations', 'Cluster'],
      ['APIServer', 'apiservers', 'Cluster'],
      ['TigeraStatus', 'tigerastatuses', 'Cluster'],
    ],
  },
  {
    image: /\/velero\/velero[:@]/,
    argument: /^--crds-only$/,
    group: 'velero.io',
    version: 'v1',
    kinds: [
      ['Backup', 'backups', 'Namespaced'],
      ['BackupRepository', 'backuprepositories', 'Namespaced'],
      ['BackupStorageLocation', 'backupstoragelocations', 'Namespaced'],
      ['DeleteBackupRequest', 'deletebackuprequests', 'Namespaced'],
      ['DownloadRequest', 'downloadrequests', 'Namespaced'],
      ['PodVolumeBackup', 'podvolumebackups', 'Namespaced'],
      ['PodVolumeRestore', 'podvolumerestores', 'Namespaced'],
      ['Restore', 'restores', 'Namespaced'],
      ['Schedule', 'schedules', 'Namespaced'],
      ['ServerStatusRequest', 'serverstatusrequests', 'Namespaced'],
      ['VolumeSnapshotLocation', 'volumesnapshotlocations', 'Namespaced'],
    ],
  },
];

export function runOperators(cluster: SimCluster): void {
  const { core } = cluster;
  let calico = false;
  for (const pod of core.store.values(R.pods)) {
    if (!['Running', 'Succeeded'].includes(pod.status?.phase)) continue;
    for (const program of PROGRAMS) {
      if (!runs(pod, program)) continue;
      register(core, program);
      calico ||= program.group === 'operator.tigera.io';
    }
  }
  if (calico) installCalico(cluster);
}

function runs(pod: KubeObject, { image, argument }: Program): boolean {
  return (pod.spec?.containers ?? []).some((container: Json) => {
    const words: string[] = [...(container.command ?? []), ...(container.args ?? [])];
    return (
      image.test(container.image) && (argument === undefined || words.some((word) => argument.test(word)))
    );
  });
}

function register(core: SimCluster['core'], { group, version, kinds }: Program): void {
  for (const [kind, plural, scope] of kinds)
    core.ensure(R.crds, {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: `${plural}.${group}` },
      spec: {
        group,
        scope,
        names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
        versions: [
          {
            name: version,
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
          },
        ],
      },
    });
}

/**
 * What Calico's operator makes of its Installation: the node agents. It refuses a pool outside of the pod network
 * that kubeadm was given, as the real one does.
 */
function installCalico({ core, configuration }: SimCluster): void {
  const installation = core.store.get('operator.tigera.io/installations', undefined, 'default');
  if (!installation) return;
  const [pool] = installation.spec?.calicoNetwork?.ipPools ?? [];
  if (!pool || !isInside(pool.cidr, configuration.networking?.podSubnet)) return;
  core.ensure(R.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'calico-system' } });
  core.ensure(R.serviceaccounts, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'calico-node', namespace: 'calico-system' },
  });
  core.ensure(R.daemonsets, {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'calico-node', namespace: 'calico-system' },
    spec: {
      selector: { matchLabels: { 'k8s-app': 'calico-node' } },
      template: {
        metadata: { labels: { 'k8s-app': 'calico-node' } },
        spec: {
          hostNetwork: true,
          serviceAccountName: 'calico-node',
          tolerations: [{ operator: 'Exists' }],
          containers: [
            { name: 'calico-node', image: `${installation.spec.registry ?? 'quay.io/'}calico/node:v3.31.3` },
          ],
          volumes: [{ name: 'cni-net-dir', hostPath: { path: '/etc/cni/net.d' } }],
        },
      },
    },
  });
}

/** Both are IPv4 networks; `outer` may be a list, of which the first counts. */
function isInside(inner: unknown, outer: unknown): boolean {
  const read = (text: unknown) => {
    const [address = '', prefix = '0'] = String(text).split(',')[0]?.split('/') ?? [];
    const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    return { value, prefix: Number(prefix) };
  };
  const [a, b] = [read(inner), read(outer)];
  const size = 2 ** (32 - b.prefix);
  return a.prefix >= b.prefix && Math.floor(a.value / size) === Math.floor(b.value / size);
}
