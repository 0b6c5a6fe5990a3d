/**
 * A node leaves: its record goes last, its Node object just before, so that a crash in between finds
 * everything again.
 */
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { findNode, withNode } from '../model.ts';

export async function deleteNodeObject(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'released') return DONE;
  const { systemId, hostname } = node.claim;
  const nodes = context.observed.kube.kind === 'reachable' ? context.observed.kube.nodes : [];
  const mine = nodes.find(
    (candidate) =>
      candidate.systemId === systemId || (candidate.systemId === undefined && candidate.name === hostname),
  );
  if (mine) await context.kube().delete(`/api/v1/nodes/${encodeURIComponent(mine.name)}`, signal);
  return await forgetNode(step, context);
}

export async function forgetNode(step: { node: string }, context: StepContext): Promise<StepOutcome> {
  await context.commit((record) => ({
    ...record,
    nodes: record.nodes.filter((node) => node.name !== step.node),
  }));
  await context.event({
    severity: 'info',
    reason: 'NodeRemoved',
    message: `${step.node} has left`,
    node: step.node,
  });
  return DONE;
}

export async function cordonNode(
  step: { node: string; on: boolean },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const name = kubeNodeNamed(step.node, context);
  if (name === undefined) return DONE;
  const path = `/api/v1/nodes/${encodeURIComponent(name)}`;
  await context.kube().patch(path, { spec: { unschedulable: step.on } }, 'merge', signal);
  if (!step.on)
    await context.commit((record) => withNode(record, step.node, ({ drainedAt: _drained, ...node }) => node));
  return DONE;
}

/** The name of a record's Node object, as seen when the step was planned. */
export function kubeNodeNamed(name: string, context: StepContext): string | undefined {
  const node = findNode(context.record(), name);
  if (!node || context.observed.kube.kind !== 'reachable') return undefined;
  const claim = node.claim;
  if (claim.kind === 'none' || claim.kind === 'claiming') return undefined;
  return context.observed.kube.nodes.find(
    (candidate) =>
      candidate.systemId === claim.systemId ||
      (candidate.systemId === undefined && candidate.name === claim.hostname),
  )?.name;
}
