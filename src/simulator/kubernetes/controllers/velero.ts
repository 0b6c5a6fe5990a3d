/**
 * Velero: judges storage locations and schedules, makes the backups of schedules in UTC, and carries out backups and
 * restores and deletions while its server runs. What a backup holds is kept as objects; there is no bucket behind this
 * double.
 */
import { Cron } from 'croner';
import { type Json, type KubeObject, clone, sameJson } from '../api/json.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';

const NAMESPACE = 'velero';
/** Hardware time that a backup, restore or deletion takes. */
const WORK_MS = 20_000;
/** Namespaced kinds that come back with a restore. */
const SAVED = [R.configmaps, R.secrets, R.serviceaccounts, R.services, R.deployments, R.statefulsets];
const TERMINAL = new Set(['Completed', 'PartiallyFailed', 'Failed', 'FailedValidation', 'Deleting']);

/** Content of finished backups by uid. */
const contents = new WeakMap<SimCluster, Map<string, KubeObject[]>>();

/** When a DeleteBackupRequest was taken up, by uid; it has no such field. */
const deletions = new WeakMap<SimCluster, Map<string, number>>();

export function runVelero(cluster: SimCluster): void {
  const { core } = cluster;
  const resource = (plural: string) =>
    core.registry.all().find((type) => type.group === 'velero.io' && type.plural === plural);
  const server = core.store.get(R.deployments, NAMESPACE, 'velero');
  if (!(server?.status?.availableReplicas > 0)) return;
  const stores = ['backupstoragelocations', 'schedules', 'backups', 'restores', 'deletebackuprequests'].map(
    resource,
  );
  const [locations, schedules, backups, restores, requests] = stores.map((type) => type?.storage);
  if (!locations || !schedules || !backups || !restores || !requests) return;
  for (const location of core.store.list(locations)) judgeLocation(cluster, locations, location);
  for (const schedule of core.store.list(schedules)) runSchedule(cluster, schedules, backups, schedule);
  for (const backup of core.store.list(backups))
    advance(cluster, backups, backup, () => backUp(cluster, locations, backup));
  for (const restore of core.store.list(restores))
    advance(cluster, restores, restore, () => bringBack(cluster, backups, restore));
  for (const request of core.store.list(requests))
    if (request.status?.phase !== 'Processed') takeAway(cluster, { requests, backups, restores }, request);
}

const stamp = ({ site }: SimCluster) => new Date(site.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');

function setStatus({ core }: SimCluster, storage: string, object: KubeObject, status: Json): void {
  if (sameJson(object.status ?? {}, status)) return;
  core.edit(storage, object.metadata, (draft) => {
    draft.status = status;
  });
}

function judgeLocation(cluster: SimCluster, storage: string, location: KubeObject): void {
  const { spec } = location;
  const secret = cluster.core.store.get(R.secrets, NAMESPACE, spec.credential?.name ?? 'cloud-credentials');
  const text = Buffer.from(
    String(secret?.data?.[spec.credential?.key ?? 'cloud'] ?? ''),
    'base64',
  ).toString();
  const [first] = cluster.controlPlanes.values();
  const away =
    location.status?.phase !== 'Available' &&
    first &&
    cluster.site.faults.take('backup-target-away', first.machine);
  const usable = /^aws_access_key_id=\S+$/m.test(text) && /^aws_secret_access_key=\S+$/m.test(text) && !away;
  const phase = usable ? 'Available' : 'Unavailable';
  if (location.status?.phase === phase && phase === 'Available') return;
  setStatus(cluster, storage, location, {
    phase,
    ...(usable
      ? {}
      : {
          message:
            'BackupStorageLocation "pcg" is unavailable: rpc error: code = Unknown desc = no such host',
        }),
  });
}

function runSchedule(cluster: SimCluster, storage: string, backups: string, schedule: KubeObject): void {
  const { core, site } = cluster;
  let cron: Cron;
  try {
    cron = new Cron(schedule.spec.schedule, { paused: true, timezone: 'UTC' });
  } catch (error) {
    const validationErrors = [`invalid schedule: ${String(error)}`];
    setStatus(cluster, storage, schedule, {
      ...schedule.status,
      phase: 'FailedValidation',
      validationErrors,
    });
    return;
  }
  const last = schedule.status?.lastBackup ?? schedule.metadata.creationTimestamp ?? stamp(cluster);
  const due = cron.nextRun(new Date(last));
  if (!due || due.getTime() > site.clock.now()) {
    setStatus(cluster, storage, schedule, { ...schedule.status, phase: 'Enabled' });
    return;
  }
  const time = stamp(cluster);
  const name = `${schedule.metadata.name}-${time.replace(/\D/g, '')}`;
  core.ensure(backups, {
    apiVersion: 'velero.io/v1',
    kind: 'Backup',
    metadata: { name, namespace: NAMESPACE, labels: { 'velero.io/schedule-name': schedule.metadata.name } },
    spec: clone(schedule.spec.template),
  });
  setStatus(cluster, storage, schedule, { ...schedule.status, phase: 'Enabled', lastBackup: time });
}

/** New -> InProgress -> what `finish` says. */
function advance(cluster: SimCluster, storage: string, object: KubeObject, finish: () => Json): void {
  const { site } = cluster;
  const status = object.status ?? {};
  if (TERMINAL.has(status.phase)) return;
  if (status.startTimestamp === undefined) {
    setStatus(cluster, storage, object, {
      phase: 'InProgress',
      startTimestamp: new Date(site.clock.now()).toISOString(),
    });
    return;
  }
  if ((site.clock.now() - Date.parse(status.startTimestamp)) * site.pace.speed < WORK_MS) return;
  setStatus(cluster, storage, object, { ...status, ...finish(), completionTimestamp: stamp(cluster) });
}

function backUp(cluster: SimCluster, locations: string, backup: KubeObject): Json {
  const { core, site } = cluster;
  const { spec } = backup;
  const location = core.store.get(locations, NAMESPACE, spec.storageLocation);
  if (location?.status?.phase !== 'Available')
    return {
      phase: 'FailedValidation',
      validationErrors: [
        `backup can't be created because backup storage location ${spec.storageLocation} is currently in Unavailable`,
      ],
    };
  const wanted: string[] = spec.includedNamespaces ?? ['*'];
  const chosen = (namespace: string | undefined) => wanted.includes('*') || wanted.includes(namespace ?? '');
  const saved = SAVED.flatMap((kind) => core.store.list(kind)).filter(({ metadata }) =>
    chosen(metadata.namespace),
  );
  const known = contents.get(cluster) ?? new Map<string, KubeObject[]>();
  contents.set(cluster, known);
  known.set(
    backup.metadata.uid ?? '',
    saved.map((object) => clone(object)),
  );
  const [first] = cluster.controlPlanes.values();
  if (first && site.faults.take('backup-partially-fails', first.machine))
    return { phase: 'PartiallyFailed', errors: 1, failureReason: 'pod volume backup failed' };
  return { phase: 'Completed' };
}

/** What is missing comes back; what exists stays as it is. */
function bringBack(cluster: SimCluster, backups: string, restore: KubeObject): Json {
  const { core } = cluster;
  const backup = core.store.get(backups, NAMESPACE, restore.spec.backupName);
  const saved = contents.get(cluster)?.get(backup?.metadata.uid ?? '');
  if (!backup || !saved || !['Completed', 'PartiallyFailed'].includes(backup.status?.phase))
    return {
      phase: 'FailedValidation',
      validationErrors: [`backup ${restore.spec.backupName} cannot be restored`],
    };
  const wanted: string[] = restore.spec.includedNamespaces ?? ['*'];
  let warnings = 0;
  for (const { apiVersion, kind, metadata, status: _status, ...rest } of saved) {
    const { namespace, name, labels, annotations } = metadata;
    if (namespace === undefined || !(wanted.includes('*') || wanted.includes(namespace))) continue;
    const type = core.registry
      .all()
      .find((candidate) => candidate.kind === kind && SAVED.includes(candidate.storage as never));
    if (type === undefined || core.store.get(type.storage, namespace, name)) {
      warnings += 1;
      continue;
    }
    core.ensure(R.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
    const back = {
      apiVersion,
      kind,
      metadata: { namespace, name, ...(labels ? { labels } : {}), ...(annotations ? { annotations } : {}) },
      ...rest,
    } as KubeObject;
    if (back.spec?.clusterIP) delete back.spec.clusterIP;
    if (back.spec?.clusterIPs) delete back.spec.clusterIPs;
    core.ensure(type.storage, back);
  }
  return { phase: 'Completed', warnings };
}

/** New -> InProgress -> gone with its backup and the backup's restores, or Processed with errors. */
function takeAway(
  cluster: SimCluster,
  kinds: { readonly requests: string; readonly backups: string; readonly restores: string },
  request: KubeObject,
): void {
  const { core, site } = cluster;
  const { requests, backups, restores } = kinds;
  const ended = (why: string) => setStatus(cluster, requests, request, { phase: 'Processed', errors: [why] });
  const name = request.spec.backupName;
  const backup = core.store.get(backups, NAMESPACE, name);
  if (!backup) return ended('backup not found');
  const { phase } = backup.status ?? {};
  if (!TERMINAL.has(phase)) return ended('backup is still in progress');
  const begun = deletions.get(cluster) ?? new Map<string, number>();
  deletions.set(cluster, begun);
  const uid = request.metadata.uid ?? '';
  const since = begun.get(uid);
  if (since === undefined) {
    begun.set(uid, site.clock.monotonic());
    setStatus(cluster, requests, request, { phase: 'InProgress' });
    return setStatus(cluster, backups, backup, { ...backup.status, phase: 'Deleting' });
  }
  if ((site.clock.monotonic() - since) * site.pace.speed < WORK_MS) return;
  begun.delete(uid);
  const [first] = cluster.controlPlanes.values();
  if (first && site.faults.take('backup-deletion-fails', first.machine))
    return ended('error deleting backup from object storage: AccessDenied');
  const about = (storage: string) => core.store.list(storage).filter(({ spec }) => spec?.backupName === name);
  for (const [storage, gone] of [
    [restores, about(restores)],
    [backups, [backup]],
    [requests, about(requests)],
  ] as const)
    for (const { metadata } of gone) core.store.delete(storage, NAMESPACE, metadata.name);
  contents.get(cluster)?.delete(backup.metadata.uid ?? '');
}
