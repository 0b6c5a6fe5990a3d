/**
 * The snapshot of etcd before a new minor of Kubernetes: there is no way back from one except a restore. It is taken
 * once per generation, before anything of the upgrade takes effect, and an upgrade whose snapshot fails does not begin.
 */
import { PcgError, toProblem } from '../../base/errors.ts';
import { parseVersion } from '../../kube/versions.ts';
import type { StepContext } from '../context.ts';
import type { ClusterRecord } from '../model.ts';
import { snapshotEtcd } from '../policies/snapshot.ts';

/**
 * Throws UPGRADE_NOT_SAVED; the snapshot of a version replaces an earlier one, so that repeats do not pile up. Ends
 * early, and without one, when the upgrade is not wanted any more.
 */
export async function saveBefore(
  current: string,
  version: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<void> {
  try {
    await saveOnce(current, version, context, AbortSignal.any([signal, context.outdated]));
  } catch (error) {
    if (signal.aborted || !context.outdated.aborted) throw error;
  }
}

async function saveOnce(
  current: string,
  version: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const { generation } = context;
  if (parseVersion(current).minor === parseVersion(version).minor) return;
  if (isSaved(context.record(), version, generation)) return;
  const without = whyNot(context);
  const summary = without === undefined ? await save(version, context, signal) : undefined;
  if (summary === undefined)
    await context.event({
      severity: 'warning',
      reason: 'EtcdNotSaved',
      message: `the upgrade to ${version} begins without a snapshot of etcd: ${without}`,
    });
  else
    await context.event({
      severity: 'info',
      reason: 'EtcdSaved',
      message: `etcd was saved before the upgrade to ${version}: ${String(summary['name'])} in ${String(summary['place'])}`,
      data: { ...summary },
    });
  await context.commit((record) => ({ ...record, savedBefore: { version, generation } }));
}

/** One of an earlier generation shows a cluster that may have changed since: the upgrade was given up in between. */
function isSaved({ savedBefore }: ClusterRecord, version: string, generation: number): boolean {
  return savedBefore?.version === version && savedBefore.generation === generation;
}

function whyNot({ document, snapshots }: StepContext): string | undefined {
  if (!document.spec.policies.backups.etcdSnapshots) return 'policies.backups.etcdSnapshots is false';
  return snapshots === undefined ? 'this gateway has no directory for snapshots' : undefined;
}

async function save(
  version: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<Readonly<Record<string, unknown>>> {
  try {
    return await snapshotEtcd(context, `before-${version}`, signal);
  } catch (cause) {
    signal.throwIfAborted();
    throw notSaved(version, cause);
  }
}

function notSaved(version: string, cause: unknown): PcgError {
  const { code, message, fix, retryable } = toProblem(cause);
  return new PcgError(
    'UPGRADE_NOT_SAVED',
    `the upgrade to ${version} has not begun, since etcd could not be saved: ${message}`,
    {
      fix: `${fix} The upgrade then begins by itself; policies.backups.etcdSnapshots: false lets it begin without a snapshot.`,
      retryable,
      details: { cause: code },
      cause,
    },
  );
}
