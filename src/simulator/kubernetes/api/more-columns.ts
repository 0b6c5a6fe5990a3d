/** Columns of networks, storage, schedules and limits. */
import { AGE, type Column, count, NAME, printLabels, shortAge } from './column.ts';
import type { Json, KubeObject } from './json.ts';

const column = (name: string, cell: (object: KubeObject) => Json): Column => ({ name, cell });
const NONE = '<none>';
const list = (items: Json, read: (item: Json) => Json) => (items ?? []).map(read).join(',');

/** The first three, as kubectl shortens. */
function shortened(texts: string[]): string {
  if (texts.length === 0) return NONE;
  return texts.length > 3 ? `${texts.slice(0, 3).join(',')} + ${texts.length - 3} more...` : texts.join(',');
}

const MODES: Record<string, string> = { ReadWriteOnce: 'RWO', ReadOnlyMany: 'ROX', ReadWriteMany: 'RWX' };
const modes = (object: KubeObject) =>
  list(object.status?.accessModes ?? object.spec?.accessModes, (mode) => MODES[mode] ?? mode);

function metrics(autoscaler: KubeObject): string {
  const texts = (autoscaler.spec?.metrics ?? []).map(
    (metric: Json) =>
      `${metric.resource?.name}: <unknown>/${metric.resource?.target?.averageUtilization ?? '<auto>'}%`,
  );
  return texts.join(', ') || NONE;
}

export const MORE_COLUMNS: Record<string, readonly Column[]> = {
  EndpointSlice: [
    NAME,
    column('AddressType', (slice) => slice.addressType),
    column('Ports', (slice) => list(slice.ports, ({ port }) => port) || '<unset>'),
    column('Endpoints', (slice) =>
      shortened((slice.endpoints ?? []).flatMap(({ addresses }: Json) => addresses)),
    ),
    AGE,
  ],
  Endpoints: [
    NAME,
    column('Endpoints', ({ subsets }) =>
      shortened(
        (subsets ?? []).flatMap(({ addresses, ports }: Json) =>
          (addresses ?? []).flatMap(({ ip }: Json) => (ports ?? []).map(({ port }: Json) => `${ip}:${port}`)),
        ),
      ),
    ),
    AGE,
  ],
  Ingress: [
    NAME,
    column('Class', ({ spec }) => spec?.ingressClassName ?? NONE),
    column('Hosts', ({ spec }) => list(spec?.rules, ({ host }) => host ?? '*') || '*'),
    column('Address', ({ status }) =>
      list(status?.loadBalancer?.ingress, ({ ip, hostname }) => ip ?? hostname),
    ),
    column('Ports', ({ spec }) => (spec?.tls?.length > 0 ? '80, 443' : '80')),
    AGE,
  ],
  NetworkPolicy: [
    NAME,
    column('Pod-Selector', ({ spec }) => printLabels(spec?.podSelector?.matchLabels)),
    AGE,
  ],
  PersistentVolumeClaim: [
    NAME,
    column('Status', ({ status }) => status?.phase ?? 'Pending'),
    column('Volume', ({ spec }) => spec?.volumeName ?? ''),
    column('Capacity', ({ status }) => status?.capacity?.storage ?? ''),
    column('Access Modes', modes),
    column('StorageClass', ({ spec }) => spec?.storageClassName ?? ''),
    AGE,
  ],
  PersistentVolume: [
    NAME,
    column('Capacity', ({ spec }) => spec?.capacity?.storage),
    column('Access Modes', modes),
    column('Reclaim Policy', ({ spec }) => spec?.persistentVolumeReclaimPolicy ?? 'Retain'),
    column('Status', ({ status }) => status?.phase ?? 'Available'),
    column('Claim', ({ spec }) => (spec?.claimRef ? `${spec.claimRef.namespace}/${spec.claimRef.name}` : '')),
    column('StorageClass', ({ spec }) => spec?.storageClassName ?? ''),
    AGE,
  ],
  StorageClass: [
    NAME,
    column('Provisioner', ({ provisioner }) => provisioner),
    column('ReclaimPolicy', ({ reclaimPolicy }) => reclaimPolicy ?? 'Delete'),
    column('VolumeBindingMode', ({ volumeBindingMode }) => volumeBindingMode ?? 'Immediate'),
    column('AllowVolumeExpansion', ({ allowVolumeExpansion }) => String(allowVolumeExpansion === true)),
    AGE,
  ],
  CronJob: [
    NAME,
    column('Schedule', ({ spec }) => spec?.schedule),
    column('Timezone', ({ spec }) => spec?.timeZone ?? NONE),
    column('Suspend', ({ spec }) => (spec?.suspend === true ? 'True' : 'False')),
    count('Active', ({ status }) => status?.active?.length),
    {
      name: 'Last Schedule',
      cell: ({ status }, now) => (status?.lastScheduleTime ? shortAge(status.lastScheduleTime, now) : NONE),
    },
    AGE,
  ],
  HorizontalPodAutoscaler: [
    NAME,
    column('Reference', ({ spec }) => `${spec?.scaleTargetRef?.kind}/${spec?.scaleTargetRef?.name}`),
    column('Targets', metrics),
    column('MinPods', ({ spec }) => String(spec?.minReplicas ?? '<unset>')),
    count('MaxPods', ({ spec }) => spec?.maxReplicas),
    count('Replicas', ({ status }) => status?.currentReplicas),
    AGE,
  ],
  ResourceQuota: [
    NAME,
    column('Request', ({ spec, status }) =>
      Object.entries(spec?.hard ?? {})
        .map(([name, hard]) => `${name}: ${status?.used?.[name] ?? 0}/${String(hard)}`)
        .join(', '),
    ),
    AGE,
  ],
  PriorityClass: [
    NAME,
    count('Value', ({ value }) => value),
    column('Global-Default', ({ globalDefault }) => String(globalDefault === true)),
    AGE,
  ],
};
