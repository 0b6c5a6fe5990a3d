/**
 * A node leaves: its record goes last, its Node object just before, so that a crash in between finds
 * everything again.
 */
import { cordonNode as cordon, deleteNode, nodePath } from '../../kube/nodes.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { findNode, withNode } from '../model.ts';
import { readNode } from '../observe.ts';
import type { KubeNode } from '../observed.ts';

export async function deleteNodeObject(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'released') return DONE;
  const mine = await currentNode(node.claim, context, signal);
  if (mine) await deleteNode(context.kube(), mine.name, signal);
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
  await cordon(context.kube(), name, step.on, signal);
  if (!step.on)
    await context.commit((record) => withNode(record, step.node, ({ drainedAt: _drained, ...node }) => node));
  return DONE;
}

/** A machine's Node object as it is now: kubeadm may have registered it after the picture was taken. */
export async function currentNode(
  claim: { readonly systemId: string; readonly hostname: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<KubeNode | undefined> {
  const { kube } = context.observed;
  const known = kube.kind === 'reachable' ? kube.nodes.find((node) => isOf(node, claim)) : undefined;
  if (known) {
    const object = await context.kube().get(nodePath(known.name), signal);
    return object && readNode(object);
  }
  const { items } = await context.kube().list('/api/v1/nodes', signal);
  return items.map(readNode).find((node) => isOf(node, claim));
}

function isOf(node: KubeNode, { systemId, hostname }: { systemId: string; hostname: string }): boolean {
  return node.systemId === systemId || (node.systemId === undefined && node.name === hostname);
}

/** The name of a record's Node object, as seen when the step was planned. */
export function kubeNodeNamed(name: string, context: StepContext): string | undefined {
  const node = findNode(context.record(), name);
  if (!node || context.observed.kube.kind !== 'reachable') return undefined;
  const claim = node.claim;
  if (claim.kind === 'none' || claim.kind === 'claiming') return undefined;
  return context.observed.kube.nodes.find((candidate) => isOf(candidate, claim))?.name;
}
