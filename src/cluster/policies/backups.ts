/**
 * Backups and restores by Velero, followed until they end; deletions are in backup-removal.ts. Scheduled backups are made
 * by Velero itself, with or without the gateway; here they are found and reported. Requested ones are named by their
 * run, so a pass can be repeated after any crash and starts nothing twice.
 */
import { PcgError } from '../../base/errors.ts';
import type { KubeClient, KubeObject } from '../../kube/client.ts';
import { asRecord, asText } from '../../kube/errors.ts';
import type { StepContext } from '../context.ts';
import type { PolicyStep } from './run.ts';
import { backupNow, restoreNow, SCHEDULE_LABEL, VELERO_NAME, VELERO_NAMESPACE } from './velero-objects.ts';

export const ROOT = `/apis/velero.io/v1/namespaces/${VELERO_NAMESPACE}`;
/** Backups named in the status: what can be restored. */
const LISTED = 20;
/** Velero copies the bucket's list into the cluster once a minute; a backup may be asked for before that. */
const SYNC_SECONDS = 180;

export async function backUp(context: StepContext, run: string, signal: AbortSignal): Promise<PolicyStep> {
  const client = context.kube();
  const record = context.record();
  if (record.velero === undefined || record.velero.hash === '')
    return { kind: 'later', waitingFor: 'Velero to be set up' };
  if (record.policies['backup']?.requestedAt !== undefined) {
    const backup = await ensure(
      client,
      backupNow(context.document.spec.policies.backups, run),
      'backups',
      signal,
    );
    return await follow(client, 'backup', backup, signal);
  }
  const newest = (await listBackups(client, signal, `${SCHEDULE_LABEL}=${VELERO_NAME}`))[0];
  if (newest === undefined || newest.metadata.name === record.velero.lastScheduled)
    return { kind: 'later', waitingFor: 'Velero to start the scheduled backup' };
  const lastScheduled = newest.metadata.name;
  const seen = () =>
    context.commit((now) => (now.velero ? { ...now, velero: { ...now.velero, lastScheduled } } : now));
  try {
    const step = await follow(client, 'backup', newest, signal);
    if (step.kind === 'done') await seen();
    return step;
  } catch (error) {
    if (!(error instanceof PcgError && error.code === 'BACKUP_FAILED')) throw error;
    await seen();
    throw error;
  }
}

export async function restore(
  context: StepContext,
  startedAt: number,
  run: string,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const client = context.kube();
  const asked = context.record().policies['restore']?.restore;
  if (asked === undefined) throw new PcgError('INVALID_INPUT', 'no backup was named', { field: 'backup' });
  const known = await client.get(`${ROOT}/backups/${encodeURIComponent(asked.backup)}`, signal);
  if (known === undefined) return await awaitBackup(context, asked.backup, startedAt, signal);
  const wanted = restoreNow(asked.backup, asked.namespaces, run);
  const step = await follow(client, 'restore', await ensure(client, wanted, 'restores', signal), signal);
  return step.kind === 'done' ? { kind: 'done', summary: { ...step.summary, from: asked.backup } } : step;
}

/** One that another cluster has put into the bucket appears when Velero has read the bucket's list. Throws NOT_FOUND. */
export async function awaitBackup(
  context: StepContext,
  name: string,
  startedAt: number,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const { clock, timings } = context;
  if (clock.now() - startedAt < SYNC_SECONDS * timings.hardwareSecondMs)
    return { kind: 'later', waitingFor: `backup ${name} to appear` };
  throw new PcgError('NOT_FOUND', `there is no backup ${name}`, {
    field: 'backup',
    details: { backups: await available(context.kube(), signal) },
  });
}

/** The object as it is, created when it was not there: named by its run, so that nothing is asked for twice. */
export async function ensure(
  client: KubeClient,
  wanted: KubeObject,
  plural: string,
  signal: AbortSignal,
): Promise<KubeObject> {
  const created = await client.create(wanted, signal);
  if (created !== 'exists') return created;
  return (await client.get(`${ROOT}/${plural}/${wanted.metadata.name}`, signal)) ?? wanted;
}

/** Throws BACKUP_FAILED when Velero gave up on it. */
async function follow(
  client: KubeClient,
  what: 'backup' | 'restore',
  object: KubeObject,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const status = asRecord(object['status']);
  const phase = asText(status['phase'], 'New');
  const { name } = object.metadata;
  const summary = { [what]: name, phase, errors: status['errors'] ?? 0, warnings: status['warnings'] ?? 0 };
  switch (phase) {
    case 'Completed':
      return { kind: 'done', summary: { ...summary, backups: await available(client, signal) } };
    case 'PartiallyFailed':
    case 'Failed':
    case 'FailedValidation': {
      const reasons = Array.isArray(status['validationErrors']) ? status['validationErrors'] : [];
      const why = [asText(status['failureReason']), ...reasons.map(String)].filter((text) => text !== '');
      throw new PcgError('BACKUP_FAILED', [`${what} ${name} is ${phase}`, ...why].join(': '), {
        details: { ...summary, backups: await available(client, signal) },
      });
    }
    default:
      return { kind: 'later', waitingFor: `${what} ${name} (${phase})` };
  }
}

/** Newest first: name, phase, when it ended, and why Velero could not delete it when its time was over. */
export async function available(client: KubeClient, signal: AbortSignal): Promise<object[]> {
  const backups = await listBackups(client, signal);
  const { items: deletions } = await client.list(`${ROOT}/deletebackuprequests`, signal);
  return backups.slice(0, LISTED).map(({ metadata, ...rest }) => {
    const status = asRecord(rest['status']);
    const failed = deletions
      .filter((deletion) => asRecord(deletion['spec'])['backupName'] === metadata.name)
      .flatMap(deletionErrors);
    return {
      name: metadata.name,
      phase: asText(status['phase'], 'New'),
      completedAt: asText(status['completionTimestamp']),
      ...(failed.length === 0 ? {} : { deletion: failed.join('; ') }),
    };
  });
}

/** Why a DeleteBackupRequest has failed; Velero has one last phase for both ends. */
export function deletionErrors(deletion: KubeObject): string[] {
  const { phase, errors } = asRecord(deletion['status']);
  return phase === 'Processed' && Array.isArray(errors) ? errors.map(String) : [];
}

async function listBackups(
  client: KubeClient,
  signal: AbortSignal,
  selector?: string,
): Promise<KubeObject[]> {
  const query = selector === undefined ? '' : `?labelSelector=${encodeURIComponent(selector)}`;
  const { items } = await client.list(`${ROOT}/backups${query}`, signal);
  const age = ({ metadata }: KubeObject) => `${metadata.creationTimestamp ?? ''}/${metadata.name}`;
  return items.sort((a, b) => (age(a) < age(b) ? 1 : -1));
}
