/**
 * A machine failed: first the evidence (X5), then quarantine (X6), then a replacement while the limit allows.
 * Beyond the limit nothing is destroyed: the machine stays for inspection and the cluster says why it stopped.
 */
import { describeError, PcgError, toProblem } from '../../base/errors.ts';
import type { ProblemDetails } from '../../contract/errors.ts';

import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { collectEvidence } from '../evidence.ts';
import {
  type ClusterRecord,
  failTask,
  findNode,
  type NodeRecord,
  type NodeTask,
  type RemovalReason,
  withNode,
} from '../model.ts';
import { verifyOwnership } from '../ownership.ts';

export async function failNode(
  step: { node: string; problem: ProblemDetails },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held' || node.failure || node.intent.kind === 'remove') return DONE;
  const { systemId, hostname, stamp } = node.claim;
  const owned = await verifyOwnership(context.maas, systemId, stamp, signal);
  if (owned.kind === 'ours') {
    context.saw(owned.machine);
    // The picture was older than the machine: look again before believing in a failure.
    if (step.problem.code === 'MACHINE_LOST' && isAlive(owned.machine.status)) return DONE;
    if (step.problem.code === 'DEPLOY_FAILED' && owned.machine.status === 'deploying') return DONE;
  }
  const data = owned.kind === 'ours' ? await evidence(systemId, context, signal) : {};
  const account = context.account.id;
  const blameless = step.problem.details?.['waitedForTurn'] === true;
  if (step.problem.code !== 'MACHINE_LOST' && !blameless)
    await context.quarantine.add(
      { account, systemId, hostname, reason: `${step.problem.code}: ${step.problem.message}` },
      context.clock.now(),
      context.timings.quarantineMs,
    );
  context.account.candidates.remove(systemId);
  await context.event({
    severity: 'error',
    reason: 'MachineFailed',
    message: step.problem.message,
    node: node.name,
    machine: systemId,
    task: taskOf(node),
    error: step.problem,
    data,
  });
  const after = await context.commit((record) => decide(record, node, step.problem, context));
  if (findNode(after, node.name)?.failure)
    await context.event({
      severity: 'error',
      reason: 'TooManyFailedMachines',
      message: after.problem?.message ?? step.problem.message,
      node: node.name,
      ...(after.problem === undefined ? {} : { error: after.problem }),
    });
  return DONE;
}

function isAlive(status: string): boolean {
  return status === 'allocated' || status === 'deploying' || status === 'deployed';
}

async function evidence(
  systemId: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  try {
    return { evidence: await collectEvidence(context.maas, systemId, signal) };
  } catch (error) {
    signal.throwIfAborted();
    return { evidenceError: describeError(error) }; // a failure without evidence is still a failure
  }
}

function taskOf(node: NodeRecord): NodeTask {
  if (node.deployedAt === undefined) return 'deploy';
  return node.joinedAt === undefined ? 'bootstrap' : 'node-ready';
}

/** A node that ran is drained before it goes; the others carry nothing. */
const REASONS: Partial<Record<ProblemDetails['code'], RemovalReason>> = {
  MACHINE_LOST: 'lost',
  NODE_UNHEALTHY: 'unhealthy',
};

function decide(
  record: ClusterRecord,
  node: NodeRecord,
  cause: ProblemDetails,
  context: StepContext,
): ClusterRecord {
  const now = context.clock.now();
  const { enabled, maxReplacements } = context.document.spec.policies.remediation;
  const limit = enabled ? maxReplacements : 0;
  const task = taskOf(node);
  const failed = (current: NodeRecord): NodeRecord => ({
    ...current,
    tasks: { ...current.tasks, [task]: failTask(current.tasks[task], now, cause) },
  });
  const blameless = cause.details?.['waitedForTurn'] === true;
  const excused = limit > 0 && isOfEarlierTry(record, node);
  // A joiner that waited in vain takes another turn with whatever machine; the control plane's own limit bounds it.
  if (record.replacements < limit || excused || (blameless && record.problem === undefined)) {
    const reason = REASONS[cause.code] ?? 'failed';
    return {
      ...withNode(record, node.name, (current) => ({
        ...failed(current),
        init: current.init && record.initializedAt !== undefined,
        intent: { kind: 'remove', reason, since: now },
      })),
      replacements: record.replacements + (blameless || excused ? 0 : 1),
    };
  }
  const problem =
    limit === 0
      ? cause
      : toProblem(
          new PcgError(
            'TOO_MANY_FAILED_MACHINES',
            `${limit} machines were replaced and ${node.name} failed too: ${cause.message}`,
            {
              details: { cause, node: node.name, replaced: record.replacements },
              fix: `${cause.fix} Then retry the cluster.`,
            },
          ),
        );
  return { ...withNode(record, node.name, (current) => ({ ...failed(current), failure: cause })), problem };
}

/** Its installation began before the user's `retry`, which answers for all of them: the limit counts what came after. */
function isOfEarlierTry({ retriedAt }: ClusterRecord, node: NodeRecord): boolean {
  const began = node.tasks.deploy?.startedAt;
  return retriedAt !== undefined && began !== undefined && began <= retriedAt && node.joinedAt === undefined;
}

/** Deploying longer than any machine should: abort makes it Allocated again, then it counts as failed. */
export async function abortDeploy(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held') return DONE;
  const owned = await verifyOwnership(context.maas, node.claim.systemId, node.claim.stamp, signal);
  if (owned.kind === 'ours' && owned.machine.status === 'deploying') {
    const outcome = await context.maas.machines.abort(
      node.claim.systemId,
      'pcg: the deployment exceeded its deadline',
      signal,
    );
    if (outcome.kind === 'accepted') context.saw(outcome.machine);
  } else if (owned.kind === 'ours' && owned.machine.status !== 'allocated') {
    context.saw(owned.machine);
    return DONE; // it made it after all, or MAAS gave up first: the next look says which
  }
  const error = new PcgError('DEPLOY_TIMEOUT', `${node.claim.hostname} did not finish installing in time`);
  return await failNode({ node: node.name, problem: toProblem(error) }, context, signal);
}

/** Said for as long as it is so: a cluster without its control plane is not one that is being built or updated. */
export async function reportLoss(
  step: { of: 'machines' | 'answers' },
  context: StepContext,
): Promise<StepOutcome> {
  const { name } = context.record();
  if (step.of === 'machines')
    throw new PcgError('CONTROL_PLANE_LOST', `no machine of ${name} is left that ran its control plane`);
  throw new PcgError(
    'KUBE_UNREACHABLE',
    `the control plane of ${name} came up and does not answer any more`,
    {
      retryable: false,
      fix: 'Look at the power and the console of its control-plane machines in MAAS, or delete the cluster and create it anew.',
    },
  );
}
