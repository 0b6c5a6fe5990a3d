/**
 * Tells Velero where backups go and when, as soon as the cluster runs: a first backup must not wait for what could
 * have been wrong for days. The credentials are opened here, written into the cluster's Secret, and forgotten.
 */
import { PcgError, toProblem } from '../../base/errors.ts';
import type { ClusterDocument } from '../../contract/cluster.ts';
import { applyObjects } from '../../kube/apply.ts';
import type { KubeClient, KubeObject } from '../../kube/client.ts';
import { asRecord, asText } from '../../kube/errors.ts';
import { type InventoryEntry, inventoryOf, pruneObjects } from '../../kube/inventory.ts';
import { judgeReadiness } from '../../kube/readiness.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { shortHash } from '../template.ts';
import { openCredentials } from './credentials.ts';
import { savesWorkloads } from './schedule.ts';
import { backupObjects, VELERO_NAME, VELERO_NAMESPACE } from './velero-objects.ts';

const FIELD_MANAGER = 'pcg-policies/backups';
const DEFINITIONS = ['backups', 'restores', 'schedules', 'backupstoragelocations'];

/** Hash of what Velero has to know; empty when it has nothing to do. */
export function backupSetup(document: ClusterDocument): string {
  const { policies } = document.spec;
  if (!savesWorkloads(policies)) return '';
  const { etcdSnapshots: _own, workloads: _on, ...told } = policies.backups;
  return shortHash(told);
}

export async function setUpBackups(
  step: { readonly hash: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  try {
    const missing = step.hash === '' ? undefined : await tellVelero(step.hash, context, signal);
    if (step.hash === '') await withdraw(context, signal);
    await note(context, missing);
    if (missing === undefined) return DONE;
    return { kind: 'later', waitingFor: missing.message, afterMs: context.timings.blockedRetryMs };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof PcgError && error.code === 'KUBE_UNREACHABLE') throw error;
    await note(context, error);
    // A policy's trouble is the policy's: the cluster itself is well.
    return { kind: 'later', waitingFor: 'backups to be set up', afterMs: context.timings.blockedRetryMs };
  }
}

/** Undefined when Velero has accepted everything; else what it lacks. */
async function tellVelero(
  hash: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<PcgError | undefined> {
  const client = context.kube();
  const missing = await veleroMissing(client, signal);
  if (missing !== undefined) return missing;
  const { backups } = context.document.spec.policies;
  const credentials = openCredentials(context);
  if (backups.target === undefined || credentials === undefined)
    return new PcgError('BACKUP_TARGET_FAILED', 'the backup target has no credentials for this gateway', {
      field: 'spec.policies.backups.target.credentials',
    });
  const objects = backupObjects(backups, backups.target, credentials);
  const before = context.record().velero?.inventory ?? [];
  await remember(context, { hash: '', inventory: union(before, inventoryOf(objects)) });
  await applyObjects(
    client,
    objects,
    { clock: context.clock, fieldManager: FIELD_MANAGER, force: true },
    signal,
  );
  await pruneObjects(client, before, objects, FIELD_MANAGER, signal);
  const refused = await verdict(client, objects, signal);
  if (refused !== undefined) return refused;
  await remember(context, { hash, inventory: inventoryOf(objects) });
  await context.event({
    severity: 'info',
    reason: 'BackupsSetUp',
    message: `Velero keeps backups at ${backups.target.url}/${backups.target.bucket}`,
  });
  return undefined;
}

async function withdraw(context: StepContext, signal: AbortSignal): Promise<void> {
  await pruneObjects(context.kube(), context.record().velero?.inventory ?? [], [], FIELD_MANAGER, signal);
  await context.commit(({ velero: _gone, ...record }) => {
    const { backup: _backup, ...policies } = record.policies;
    return { ...record, policies };
  });
  await context.event({
    severity: 'info',
    reason: 'BackupsWithdrawn',
    message: 'Velero makes no more backups; those that exist stay in the bucket',
  });
}

async function veleroMissing(client: KubeClient, signal: AbortSignal): Promise<PcgError | undefined> {
  const not = (what: string) =>
    new PcgError('ADDON_NOT_READY', `Velero is not ready: ${what}`, {
      fix: 'Add the Velero pack to the profile of the cluster, or switch spec.policies.backups.workloads off.',
    });
  for (const plural of DEFINITIONS) {
    const name = `${plural}.velero.io`;
    const crd = await client.get(`/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`, signal);
    if (crd === undefined) return not(`there is no ${name}`);
    const state = judgeReadiness(crd);
    if (state.kind !== 'ready') return not(`${name}: ${state.why}`);
  }
  const server = await client.get(`/apis/apps/v1/namespaces/${VELERO_NAMESPACE}/deployments/velero`, signal);
  if (server === undefined) return not('there is no Deployment velero/velero');
  const state = judgeReadiness(server);
  return state.kind === 'ready' ? undefined : not(`Deployment velero/velero: ${state.why}`);
}

/** What Velero says about the bucket and the schedule. */
async function verdict(
  client: KubeClient,
  objects: readonly KubeObject[],
  signal: AbortSignal,
): Promise<PcgError | undefined> {
  const status = async (plural: string) =>
    asRecord(
      (
        await client.get(`/apis/velero.io/v1/namespaces/${VELERO_NAMESPACE}/${plural}/${VELERO_NAME}`, signal)
      )?.['status'],
    );
  const location = await status('backupstoragelocations');
  if (location['phase'] !== 'Available')
    return new PcgError(
      'BACKUP_TARGET_FAILED',
      `Velero: the backup target is ${asText(location['phase'], 'not looked at yet')}: ${asText(location['message'])}`.replace(
        /: $/,
        '',
      ),
      { field: 'spec.policies.backups.target' },
    );
  if (!objects.some(({ kind }) => kind === 'Schedule')) return undefined;
  const schedule = await status('schedules');
  if (schedule['phase'] !== 'FailedValidation') return undefined;
  const why = Array.isArray(schedule['validationErrors']) ? schedule['validationErrors'].map(String) : [];
  return new PcgError('INVALID_INPUT', `Velero refuses the schedule: ${why.join('; ')}`, {
    field: 'spec.policies.backups.schedule',
  });
}

async function remember(
  context: StepContext,
  velero: { readonly hash: string; readonly inventory: readonly InventoryEntry[] },
): Promise<void> {
  await context.commit((record) => ({ ...record, velero: { ...record.velero, ...velero } }));
}

function union(one: readonly InventoryEntry[], two: readonly InventoryEntry[]): InventoryEntry[] {
  return [...new Map([...one, ...two].map((entry) => [JSON.stringify(entry), entry])).values()];
}

/** The policy's line in the status says what is missing, until it is not; a run that is on keeps its own state. */
async function note(context: StepContext, error: unknown): Promise<void> {
  await context.commit((record) => {
    const own = record.policies['backup'];
    if (error === undefined && own?.error === undefined) return record;
    const { error: _old, ...rest } = own ?? { state: 'waiting' as const, summary: {} };
    const problem = error === undefined ? {} : { error: toProblem(error) };
    return { ...record, policies: { ...record.policies, backup: { ...rest, ...problem } } };
  });
}
