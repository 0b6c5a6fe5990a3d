/**
 * The end of a cluster. Nothing here may block for ever on MAAS: a machine that MAAS does not release keeps
 * the cluster in Deleting with its cause, and force delete reports what it could not confirm as leftovers.
 */
import { withDeadline } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import type { ClusterStatus } from '../../contract/cluster.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { doubtsOf } from '../doubts.ts';
import { releaseEndpoint } from '../endpoint.ts';
import { type ClusterRecord, heldSystemId } from '../model.ts';
import { release } from './release.ts';
import { settleClaim, settleDoubt } from './settle-doubt.ts';

export async function beginDelete(
  step: { reason: 'delete' | 'abort' | 'force' },
  context: StepContext,
): Promise<StepOutcome> {
  const since = context.clock.now();
  let began = false;
  await context.commit((record) => {
    if (record.stage.kind === 'deleting' || record.stage.kind === 'deleted') return record;
    began = true;
    const { problem: _old, problemStep: _step, ...rest } = record;
    return { ...rest, stage: { kind: 'deleting', since, reason: step.reason } };
  });
  if (began)
    await context.event({
      severity: 'info',
      reason: step.reason === 'abort' ? 'ClusterAborting' : 'ClusterDeleting',
      message: 'every machine and address of the cluster is being released',
    });
  return DONE;
}

export async function finishDelete(context: StepContext): Promise<StepOutcome> {
  await close(context, [], 'ClusterDeleted', 'every machine and address was released');
  return DONE;
}

/** One bounded round on MAAS, then the end, whatever the answers were. */
export async function forceDelete(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const { clock, timings } = context;
  const failures = new Map<string, string>();
  const attempt = async (id: string, work: (limited: AbortSignal) => Promise<unknown>) => {
    try {
      await withDeadline(clock, timings.forceDeleteMs, `releasing ${id}`, signal, (limited) =>
        Promise.race([work(limited), rejected(limited)]),
      );
    } catch (error) {
      signal.throwIfAborted();
      failures.set(id, describeError(error));
    }
  };
  await Promise.all([
    ...context.record().nodes.map((node) =>
      attempt(node.name, async (limited) => {
        await settleClaim({ node: node.name }, context);
        await release({ node: node.name }, context, limited);
      }),
    ),
    attempt('endpoint', (limited) => releaseEndpoint(context, limited)),
  ]);
  const doubts = doubtsOf(context.record()).map(({ stamp: { node, operation } }) =>
    attempt(node, (limited) => settleDoubt({ operation }, context, limited)),
  );
  await Promise.all(doubts);
  const leftovers = leftBehind(context.record(), failures);
  const message =
    leftovers.length === 0 ? 'nothing is left behind' : `${leftovers.length} things are left behind`;
  await close(context, leftovers, 'ClusterForceDeleted', message);
  return DONE;
}

/** A work that ignores its signal must not hold up the end. */
function rejected(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** What the record still holds in MAAS, and why; `failures` by node name, or `endpoint`. */
export function leftBehind(
  record: ClusterRecord,
  failures: ReadonlyMap<string, string> = new Map(),
): ClusterStatus['leftovers'] {
  const machines = record.nodes.flatMap((node) => {
    const id = heldSystemId(node);
    if (id === undefined) return [];
    const name =
      node.claim.kind === 'held' || node.claim.kind === 'releasing' ? node.claim.hostname : node.name;
    const reason =
      failures.get(node.name) ??
      (node.claim.kind === 'releasing'
        ? 'MAAS has not confirmed its release'
        : 'its allocation was never confirmed');
    return [{ kind: 'machine' as const, id, name, reason }];
  });
  for (const { stamp, systemId, machines: seen } of doubtsOf(record))
    for (const id of seen.length > 0 ? seen : [systemId]) {
      const reason = failures.get(stamp.node) ?? 'its allocation was never confirmed';
      machines.push({ kind: 'machine', id, name: stamp.node, reason });
    }
  const { endpoint } = record;
  const reason = failures.get('endpoint') ?? 'MAAS has not confirmed its release';
  switch (endpoint.kind) {
    case 'vip':
      return [...machines, { kind: 'address', id: endpoint.host, name: endpoint.host, reason }];
    case 'reserving':
      return [...machines, { kind: 'address', id: endpoint.ip, name: endpoint.ip, reason }];
    case 'dns':
      return [...machines, { kind: 'dns', id: endpoint.host, name: endpoint.host, reason }];
    case 'none':
    case 'external':
    case 'released':
      return machines;
  }
}

async function close(
  context: StepContext,
  leftovers: ClusterStatus['leftovers'],
  reason: string,
  message: string,
): Promise<void> {
  const at = context.clock.now();
  await context.commit((record) => {
    const { pki: _keys, problem: _problem, problemStep: _step, ...rest } = record; // nobody needs the keys any more
    return { ...rest, stage: { kind: 'deleted', at }, leftovers };
  });
  await context.event({
    severity: leftovers.length === 0 ? 'info' : 'warning',
    reason,
    message,
    ...(leftovers.length === 0 ? {} : { data: { leftovers } }),
  });
}
