/**
 * Runs one policy as a step that is repeated until it is done; its progress and its result are part of the
 * record, so a restart continues the same run. A failed run waits for its next time, or for the user.
 */
import { PcgError, toProblem } from '../../base/errors.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import type { ClusterRecord, PolicyRecord } from '../model.ts';
import type { KubeNode } from '../observed.ts';
import { runPolicyPass } from '../policy-runs.ts';
import { backUp, restore } from './backups.ts';
import { readRebootProgress, rebootNodes } from './reboot.ts';
import { isPolicyName, type PolicyName } from './schedule.ts';
import { snapshotEtcd } from './snapshot.ts';

/** Copying volumes and the whole conformance suite take hours on good days. */
const SLOW: ReadonlySet<string> = new Set<PolicyName>(['backup', 'restore', 'conformance']);
const SLOW_FACTOR = 4;

export type PolicyStep =
  | { readonly kind: 'done'; readonly summary: Readonly<Record<string, unknown>> }
  /** `progress` replaces the summary, so that the next call goes on from there. */
  | { readonly kind: 'later'; readonly waitingFor: string; readonly progress?: object };

export async function runPolicy(
  step: { policy: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const { clock, timings } = context;
  const name = step.policy;
  if (!isPolicyName(name)) return DONE;
  const startedAt = context.record().policies[name]?.startedAt ?? clock.now();
  await update(context, name, (own) =>
    own.state === 'running' ? own : { ...own, state: 'running', startedAt, summary: {} },
  );
  try {
    if (clock.now() - startedAt > timings.policyRunDeadlineMs * (SLOW.has(name) ? SLOW_FACTOR : 1))
      throw new PcgError('DEADLINE', `${name} did not finish in time`);
    const outcome = await perform(name, context, startedAt, signal);
    if (outcome.kind === 'later') {
      const { progress } = outcome;
      if (progress) await update(context, name, (own) => ({ ...own, summary: { ...progress } }));
      return { kind: 'later', waitingFor: outcome.waitingFor, afterMs: timings.activeMs };
    }
    await finish(context, name, { state: 'succeeded', summary: outcome.summary });
    await context.event({
      severity: 'info',
      reason: 'PolicyFinished',
      message: `${name} has run`,
      durationMs: clock.now() - startedAt,
      data: { policy: name, summary: outcome.summary },
    });
  } catch (error) {
    signal.throwIfAborted();
    // The API server's silence is no verdict on the policy.
    if (error instanceof PcgError && error.code === 'KUBE_UNREACHABLE') throw error;
    const problem = toProblem(error);
    await finish(context, name, { state: 'failed', error: problem });
    await context.event({
      severity: 'warning',
      reason: 'PolicyFailed',
      message: problem.message,
      error: problem,
      data: { policy: name },
    });
  }
  return DONE;
}

async function perform(
  name: PolicyName,
  context: StepContext,
  startedAt: number,
  signal: AbortSignal,
): Promise<PolicyStep> {
  if (name === 'etcd-snapshot')
    return { kind: 'done', summary: await snapshotEtcd(context, startedAt, signal) };
  const { kube } = context.observed;
  const nodes = kube.kind === 'reachable' ? kube.nodes : [];
  const { policies } = context.document.spec;
  const run = startedAt.toString(36);
  if (name === 'backup') return await backUp(context, run, signal);
  if (name === 'restore') return await restore(context, startedAt, run, signal);
  const before = context.record().policies[name]?.summary ?? {};
  if (name === 'patching' && before['reboots'] !== undefined)
    return await reboot(context, nodes, before, run, signal);
  const outcome = await runPolicyPass(
    context.kube(),
    {
      policy: name,
      run: { id: run },
      kubernetesVersion: context.document.profile.kubernetes.kubernetesVersion,
      nodes: nodes
        .filter(({ ready }) => ready)
        .map((node) => ({ name: node.name, role: node.controlPlane ? 'control-plane' : 'worker' })),
    },
    signal,
  );
  switch (outcome.kind) {
    case 'running':
      return { kind: 'later', waitingFor: outcome.waitingFor };
    case 'failed':
      throw new PcgError('ADDON_NOT_READY', `${name}: ${outcome.message}`, { details: outcome.summary });
    case 'done': {
      const { summary } = outcome;
      const wanting =
        name === 'patching' ? readRebootProgress({ wanting: summary['rebootRequired'] }).wanting : [];
      if (wanting.length === 0 || !policies.patching.rebootIfRequired) return { kind: 'done', summary };
      return { kind: 'later', waitingFor: 'nodes to reboot', progress: { ...summary, reboots: { wanting } } };
    }
  }
}

async function reboot(
  context: StepContext,
  nodes: readonly KubeNode[],
  summary: Readonly<Record<string, unknown>>,
  run: string,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const progress = readRebootProgress(summary['reboots']);
  const options = { run, nowMs: context.clock.now() };
  const outcome = await rebootNodes(context.kube(), nodes, progress, options, signal);
  if (outcome.kind === 'later') return { ...outcome, progress: { ...summary, reboots: outcome.progress } };
  const { reboots: _done, ...rest } = summary;
  return { kind: 'done', summary: rest };
}

const EMPTY: PolicyRecord = { state: 'waiting', summary: {} };

async function update(
  context: StepContext,
  name: PolicyName,
  change: (own: PolicyRecord) => PolicyRecord,
): Promise<void> {
  await context.commit((record): ClusterRecord => {
    const before = record.policies[name] ?? EMPTY;
    const after = change(before);
    return after === before ? record : { ...record, policies: { ...record.policies, [name]: after } };
  });
}

async function finish(context: StepContext, name: PolicyName, result: Partial<PolicyRecord>): Promise<void> {
  await update(
    context,
    name,
    ({ requestedAt: _asked, startedAt: _started, restore: _what, error: _error, ...own }) => ({
      ...own,
      ...result,
      lastRunAt: context.clock.now(),
    }),
  );
}
