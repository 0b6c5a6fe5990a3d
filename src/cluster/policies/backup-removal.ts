/**
 * Deletes one backup by a DeleteBackupRequest, followed to its end. Velero deletes a request that has succeeded together
 * with its backup, so what is being deleted is written down before it is asked for: then its absence means success.
 */
import { PcgError } from '../../base/errors.ts';
import { asText } from '../../kube/errors.ts';
import type { StepContext } from '../context.ts';
import type { ClusterRecord } from '../model.ts';
import { available, awaitBackup, deletionErrors, ensure, ROOT } from './backups.ts';
import type { PolicyStep } from './run.ts';
import { deletionOf } from './velero-objects.ts';

/** Throws NOT_FOUND, and BACKUP_FAILED with Velero's reasons. */
export async function deleteBackup(
  context: StepContext,
  startedAt: number,
  run: string,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const client = context.kube();
  const own = context.record().policies['delete-backup'];
  const name = own?.doomed?.[0];
  if (name === undefined) throw new PcgError('INVALID_INPUT', 'no backup was named', { field: 'backup' });
  const backup = await client.get(`${ROOT}/backups/${encodeURIComponent(name)}`, signal);
  const uid = asText(own?.summary['uid']);
  if (uid === '') {
    if (backup === undefined) return await awaitBackup(context, name, startedAt, signal);
    return {
      kind: 'later',
      waitingFor: `Velero to delete ${name}`,
      progress: { backup: name, uid: backup.metadata.uid ?? 'unknown' },
    };
  }
  const wanted = deletionOf({ name, uid }, run);
  if (backup === undefined) {
    // Velero has taken its requests away; one that was asked for again at that very moment finds no backup any more.
    await client.delete(`${ROOT}/deletebackuprequests/${wanted.metadata.name}`, signal);
    const backups = await available(client, signal);
    await context.commit((record) => withBackups(record, backups));
    return { kind: 'done', summary: { deleted: name, backups } };
  }
  const request = await ensure(client, wanted, 'deletebackuprequests', signal);
  const errors = deletionErrors(request);
  if (errors.length === 0) return { kind: 'later', waitingFor: `Velero to delete ${name}` };
  throw new PcgError('BACKUP_FAILED', `backup ${name} could not be deleted: ${errors.join('; ')}`, {
    fix: 'Repair what Velero names (a backup that is under way ends first), then delete the backup again.',
    details: { backup: name, errors, backups: await available(client, signal) },
  });
}

/** What the last backup listed can be restored; what is deleted cannot. */
function withBackups(record: ClusterRecord, backups: readonly object[]): ClusterRecord {
  const last = record.policies['backup'];
  if (last === undefined) return record;
  const { error, summary } = last;
  const details = error?.details;
  const listed = {
    ...last,
    summary: 'backups' in summary ? { ...summary, backups } : summary,
    ...(error !== undefined && details !== undefined && 'backups' in details
      ? { error: { ...error, details: { ...details, backups } } }
      : {}),
  };
  return { ...record, policies: { ...record.policies, backup: listed } };
}
