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

export function runOperators({ core }: SimCluster): void {
  for (const pod of core.store.values(R.pods)) {
    if (!['Running', 'Succeeded'].includes(pod.status?.phase)) continue;
    for (const program of PROGRAMS) if (runs(pod, program)) register(core, program);
  }
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
