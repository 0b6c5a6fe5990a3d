/** What Velero is told: where backups go, when they are made, one backup, restore or deletion on demand. Pure data. */
import { createHash } from 'node:crypto';
import type { BackupCredentials, BackupTarget, Policies } from '../../contract/policies.ts';
import type { KubeObject } from '../../kube/client.ts';

export const VELERO_NAMESPACE = 'velero';
/** Name of our BackupStorageLocation and Schedule. */
export const VELERO_NAME = 'pcg';
/** Velero puts this on every backup that a Schedule has made. */
export const SCHEDULE_LABEL = 'velero.io/schedule-name';
/** Velero finds the deletions of a backup by these, and takes for granted that they have labels at all. */
const BACKUP_NAME_LABEL = 'velero.io/backup-name';
const BACKUP_UID_LABEL = 'velero.io/backup-uid';
const LABEL_MAX = 63;
const CREDENTIALS_SECRET = 'pcg-backup-target';

type Backups = Policies['backups'];

/** Secret, storage location and, unless the schedule is `never`, the Schedule. */
export function backupObjects(
  backups: Backups,
  target: BackupTarget,
  credentials: BackupCredentials,
): KubeObject[] {
  const scheduled: KubeObject[] =
    backups.schedule === 'never'
      ? []
      : [
          velero('Schedule', VELERO_NAME, {
            schedule: backups.schedule,
            useOwnerReferencesInBackup: false, // a schedule that goes leaves its backups
            template: backupSpec(backups),
          }),
        ];
  return [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: CREDENTIALS_SECRET, namespace: VELERO_NAMESPACE },
      type: 'Opaque',
      stringData: {
        cloud: `[default]\naws_access_key_id=${credentials.accessKeyId}\naws_secret_access_key=${credentials.secretAccessKey}\n`,
      },
    },
    velero('BackupStorageLocation', VELERO_NAME, {
      provider: 'aws',
      default: true,
      accessMode: 'ReadWrite',
      backupSyncPeriod: '1m',
      objectStorage: { bucket: target.bucket, ...(target.prefix === '' ? {} : { prefix: target.prefix }) },
      config: { region: target.region, s3ForcePathStyle: 'true', s3Url: target.url },
      credential: { name: CREDENTIALS_SECRET, key: 'cloud' },
    }),
    ...scheduled,
  ];
}

/** One backup now. */
export function backupNow(backups: Backups, run: string): KubeObject {
  return velero('Backup', `pcg-${run}`, backupSpec(backups));
}

/** `namespaces` empty = all that are in the backup. What exists in the cluster stays as it is. */
export function restoreNow(backup: string, namespaces: readonly string[], run: string): KubeObject {
  return velero('Restore', `pcg-${run}`, {
    backupName: backup,
    includedNamespaces: namespaces.length === 0 ? ['*'] : [...namespaces],
    restorePVs: true,
    existingResourcePolicy: 'none',
    itemOperationTimeout: '4h',
  });
}

/** What is in the bucket goes too, which deleting the Backup object would not do: Velero would list it again. */
export function deletionOf(backup: { readonly name: string; readonly uid: string }, run: string): KubeObject {
  const request = velero('DeleteBackupRequest', `pcg-${run}`, { backupName: backup.name });
  const labels = { [BACKUP_NAME_LABEL]: labelOf(backup.name), [BACKUP_UID_LABEL]: backup.uid };
  return { ...request, metadata: { ...request.metadata, labels } };
}

/** A name that is too long for a label ends with the first digits of its hash, as Velero shortens it. */
function labelOf(name: string): string {
  if (name.length <= LABEL_MAX) return name;
  return `${name.slice(0, LABEL_MAX - 6)}${createHash('sha256').update(name).digest('hex').slice(0, 6)}`;
}

function velero(kind: string, name: string, spec: Record<string, unknown>): KubeObject {
  return { apiVersion: 'velero.io/v1', kind, metadata: { name, namespace: VELERO_NAMESPACE }, spec };
}

function backupSpec(backups: Backups): Record<string, unknown> {
  return {
    includedNamespaces: backups.namespaces,
    // Left out = auto: Velero takes cluster resources along with all namespaces.
    ...(backups.includeClusterResources === 'auto'
      ? {}
      : { includeClusterResources: backups.includeClusterResources === 'always' }),
    storageLocation: VELERO_NAME,
    // Bare metal has no cloud snapshots: volumes are copied file by file.
    snapshotVolumes: false,
    defaultVolumesToFsBackup: true,
    ttl: `${backups.ttlHours}h0m0s`,
    csiSnapshotTimeout: '10m',
    itemOperationTimeout: '4h',
  };
}
