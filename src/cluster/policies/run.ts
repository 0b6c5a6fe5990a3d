/**
 * Runs one policy as a step that is repeated until it is done; its progress and its result are part of the
 * record, so a restart continues the same run. A failed run waits for its next time, or for the user.
 */
import { PcgError, toProblem } from '../../base/errors.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import type { ClusterRecord, PolicyRecord } from '../model.ts';
import type { KubeNode } from '../observed.ts';
import { runPolicyPass } from '../policy-runs.ts';
import { deleteBackup } from './backup-removal.ts';
import { backUp, restore } from './backups.ts';
import { type RebootOptions, readRebootProgress, rebootingNode, rebootNodes } from './reboot.ts';
import { isPolicyName, nextRun, type PolicyName } from './schedule.ts';
import { unhealthyMember } from '../steps/certificates.ts';
import { holdRules } from '../steps/withdraw.ts';
import { snapshotEtcd } from './snapshot.ts';

/** Copying volumes and the whole conformance suite take hours on good days. */
const SLOW: ReadonlySet<string> = new Set<PolicyName>(['backup', 'restore', 'conformance']);
const SLOW_FACTOR = 4;
const MINUTE_MS = 60_000;

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
    own.state === 'running'
      ? own
      : { ...own, state: 'running', startedAt, summary: {}, ...windowOf(context, name, own) },
  );
  try {
    if (
      name !== 'patching' &&
      clock.now() - startedAt > timings.policyRunDeadlineMs * (SLOW.has(name) ? SLOW_FACTOR : 1)
    )
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
    // An API server that is silent or busy is no verdict on the policy.
    if (error instanceof PcgError && error.code.startsWith('KUBE_') && error.retryable) throw error;
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

/** `2026-01-31T23-59-59-000Z` */
function timeLabel(at: number): string {
  return new Date(at).toISOString().replace(/[:.]/g, '-');
}

async function perform(
  name: PolicyName,
  context: StepContext,
  startedAt: number,
  signal: AbortSignal,
): Promise<PolicyStep> {
  if (name === 'etcd-snapshot')
    return { kind: 'done', summary: await snapshotEtcd(context, timeLabel(startedAt), signal) };
  const { kube } = context.observed;
  if (kube.kind !== 'reachable') {
    const away = rebootingNode(context.record());
    if (away === undefined) throw new PcgError('KUBE_UNREACHABLE', 'no API server answers');
    throw new PcgError(
      'NODE_UNHEALTHY',
      `${away.node} did not come back after its reboot, and no API server answers`,
    );
  }
  // Workers first: what a bad package breaks is then not the control plane.
  const nodes = [...kube.nodes].sort((a, b) => Number(a.controlPlane) - Number(b.controlPlane));
  const { policies } = context.document.spec;
  const run = startedAt.toString(36);
  if (name === 'backup') return await backUp(context, run, signal);
  if (name === 'restore') return await restore(context, startedAt, run, signal);
  if (name === 'delete-backup') return await deleteBackup(context, startedAt, run, signal);
  const before = context.record().policies[name]?.summary ?? {};
  if (name === 'patching' && before['reboots'] !== undefined)
    return await reboot(context, nodes, before, run, signal);
  const outcome = await runPolicyPass(
    context.kube(),
    {
      policy: name,
      run: { id: run },
      kubernetesVersion: context.document.profile.kubernetes.kubernetesVersion,
      closed: isClosed(context),
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
  const { clock, timings } = context;
  const options: RebootOptions = {
    run,
    nowMs: clock.now(),
    drainDeadlineMs: timings.drainDeadlineMs,
    rebootDeadlineMs: timings.rebootDeadlineMs,
    closed: isClosed(context),
    hold: holdRules(context),
    sickMember: () => unhealthyMember(context, signal),
  };
  const progress = readRebootProgress(summary['reboots']);
  const outcome = await rebootNodes(context.kube(), nodes, progress, options, signal);
  const { reboots: _done, ...rest } = summary;
  switch (outcome.kind) {
    case 'later':
      return { ...outcome, progress: { ...summary, reboots: outcome.progress } };
    case 'failed':
      throw new PcgError(outcome.code, outcome.message, {
        details: { rebooted: outcome.progress.rebooted, waiting: outcome.progress.wanting },
      });
    case 'done': {
      const early = Array.isArray(rest['postponed']) ? rest['postponed'] : [];
      const postponed = [...new Set([...early, ...outcome.postponed])];
      return { kind: 'done', summary: { ...rest, rebooted: outcome.rebooted, postponed } };
    }
  }
}

/** Only scheduled runs have a window; it counts from the time that the schedule names. */
function windowOf(context: StepContext, name: PolicyName, own: PolicyRecord): { windowEndsAt?: number } {
  const { document, clock } = context;
  const { windowMinutes } = document.spec.policies.patching;
  if (name !== 'patching' || windowMinutes === undefined || own.requestedAt !== undefined) return {};
  const due = nextRun(document, context.record(), name, clock.now()) ?? clock.now();
  return { windowEndsAt: Math.min(due, clock.now()) + windowMinutes * MINUTE_MS };
}

function isClosed(context: StepContext): boolean {
  const end = context.record().policies['patching']?.windowEndsAt;
  return end !== undefined && context.clock.now() >= end;
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
    ({
      requestedAt,
      startedAt: _started,
      restore: _what,
      doomed,
      windowEndsAt: _window,
      error: _error,
      ...own
    }) => {
      const left = doomed?.slice(1) ?? [];
      return {
        ...own,
        ...result,
        ...(left.length > 0 && requestedAt !== undefined ? { doomed: left, requestedAt } : {}),
        lastRunAt: context.clock.now(),
      };
    },
  );
}
