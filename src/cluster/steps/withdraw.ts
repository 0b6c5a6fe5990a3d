/**
 * A node is emptied and taken out of etcd while its kubelet still serves. One drain pass per call, so a crash
 * loses nothing; budgets are respected until the drain's deadline, then pods are deleted. The etcd member goes
 * only when quorum stays, judged by the etcd client on a fresh picture, and does not come back (join-fence.ts).
 */
import { toProblem } from '../../base/errors.ts';
import type { ProblemDetails } from '../../contract/errors.ts';
import { DRAIN_PAUSE_MS, drainBlocked, drainPass, type HoldRules } from '../../kube/drain.ts';
import type { EtcdMember } from '../../kube/etcd.ts';
import { cordonNode } from '../../kube/nodes.ts';
import { belongsTo } from '../../kube/quorum.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { isFence, raiseFence } from '../join-fence.ts';
import { findNode, type NodeRecord, withNode } from '../model.ts';
import type { KubeNode } from '../observed.ts';
import { currentNode } from './leave.ts';

export async function drainNode(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const { clock, timings } = context;
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held') return DONE;
  const kubeNode = await currentNode(node.claim, context, signal);
  if (kubeNode === undefined) return await drained(node, context, 'no node'); // no Node, no pods
  const client = context.kube();
  if (!kubeNode.unschedulable) await cordonNode(client, kubeNode.name, true, signal);
  const since =
    node.intent.kind === 'remove' ? node.intent.since : (node.tasks.drain?.startedAt ?? clock.now());
  const force = clock.now() - since > timings.drainDeadlineMs;
  const outcome = await drainPass(
    client,
    kubeNode.name,
    { unreachable: kubeNode.silent, force, nowMs: clock.now(), hold: holdRules(context) },
    signal,
  );
  // The scheduler may have placed a pod while it did not know of the cordon yet: it is there by the next pass.
  if (outcome.kind === 'drained' && !kubeNode.unschedulable)
    return {
      kind: 'later',
      waitingFor: 'pods that were on their way to it',
      afterMs: Math.min(SETTLE_MS, timings.activeMs),
    };
  if (outcome.kind === 'drained') return await drained(node, context);
  // Pods whose finalizers never end must not hold a machine for ever either.
  if (clock.now() - since > 2 * timings.drainDeadlineMs) {
    if (node.intent.kind === 'keep') throw drainBlocked(kubeNode.name, outcome);
    if (!outcome.blocked.some(({ reason }) => FOR_A_PERSON.has(reason))) return await drained(node, context);
  }
  const [blocked] = outcome.blocked;
  await tell(node, blocked && toProblem(drainBlocked(kubeNode.name, outcome)), context);
  return {
    kind: 'later',
    waitingFor: blocked
      ? `${blocked.namespace}/${blocked.name}: ${blocked.message}`
      : `${outcome.leaving.length} pods to end`,
    afterMs: Math.min(DRAIN_PAUSE_MS, timings.activeMs),
  };
}

/** From the cordon until nothing more is bound to the node. */
const SETTLE_MS = 1000;
/** Nothing ends these but a person: no deadline does. */
const FOR_A_PERSON: ReadonlySet<string> = new Set(['unmanaged', 'local-data']);

/** The cluster's own rules for every drain of its nodes. */
export function holdRules({ document }: Pick<StepContext, 'document'>): HoldRules {
  const { unmanagedPods, localData } = document.spec.policies.drain;
  return { unmanaged: unmanagedPods === 'hold', localData: localData === 'hold' };
}

/** What holds the drain back is the task's error while it lasts, and one line of the timeline. */
async function tell(
  node: NodeRecord,
  error: ProblemDetails | undefined,
  context: StepContext,
): Promise<void> {
  const before = findNode(context.record(), node.name)?.tasks.drain;
  if (before === undefined || before.error?.message === error?.message) return;
  await context.commit((record) =>
    withNode(record, node.name, (current) => {
      const { error: _old, ...task } = current.tasks.drain ?? before;
      return { ...current, tasks: { ...current.tasks, drain: error ? { ...task, error } : task } };
    }),
  );
  if (error && before.error === undefined)
    await context.event({
      severity: 'warning',
      reason: 'DrainBlocked',
      message: error.message,
      node: node.name,
      task: 'drain',
      error,
    });
}

async function drained(
  node: NodeRecord,
  context: StepContext,
  was: 'a node' | 'no node' = 'a node',
): Promise<StepOutcome> {
  const now = context.clock.now();
  await tell(node, undefined, context);
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({ ...current, drainedAt: now })),
  );
  if (was === 'a node')
    await context.event({
      severity: 'info',
      reason: 'NodeDrained',
      message: `${node.name} carries no workloads any more`,
      node: node.name,
      task: 'drain',
    });
  return DONE;
}

export async function removeEtcdMember(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held' && node?.claim.kind !== 'released') return DONE;
  const { hostname, systemId } = node.claim;
  const isOff = node.claim.kind === 'released';
  // Before the look at the members: whoever is marked by now is in it.
  const kubeNode = isOff ? undefined : await currentNode(node.claim, context, signal);
  // The bootstrap script may have taken an address that MAAS does not know.
  const addresses = [
    ...(context.observed.machines.get(systemId)?.machine?.ipAddresses ?? []),
    ...(kubeNode?.internalIp === undefined ? [] : [kubeNode.internalIp]),
  ];
  await using etcd = await context.etcd();
  const isOwn = (member: EtcdMember) => belongsTo(member, { name: hostname, addresses });
  const members = await etcd.members(signal);
  const own = members.filter(isOwn);
  for (const member of own) await etcd.remove(member.id, signal);
  if (isOff) for (const fence of members.filter(isFence)) await etcd.remove(fence.id, signal);
  else if (mayStillJoin(node, kubeNode)) {
    await raiseFence(etcd, signal);
    // It may have come in between the look and the fence, even as a voter.
    if ((await etcd.members(signal)).some(isOwn))
      return { kind: 'later', waitingFor: 'its etcd member, which came in meanwhile', afterMs: 0 };
  }
  const now = context.clock.now();
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({ ...current, etcdRemovedAt: now })),
  );
  if (own.length > 0)
    await context.event({
      severity: 'info',
      reason: 'EtcdMemberRemoved',
      message: `${hostname} is no longer a member of etcd`,
      node: node.name,
      machine: systemId,
    });
  return DONE;
}

/** kubeadm marks a Node after its etcd member was promoted; until then it may be at work, whatever was taken from it. */
function mayStillJoin({ token }: NodeRecord, kubeNode: KubeNode | undefined): boolean {
  return token.grantedAt !== undefined && kubeNode?.controlPlane !== true;
}
