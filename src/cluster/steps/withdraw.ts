/** Replaced below when drain and etcd doors exist. */
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { withNode } from '../model.ts';
import { markDrained } from './leave.ts';
export async function drainNode(step: { node: string }, context: StepContext): Promise<StepOutcome> {
  await markDrained(step.node, context);
  return DONE;
}
export async function removeEtcdMember(step: { node: string }, context: StepContext): Promise<StepOutcome> {
  const now = context.clock.now();
  await context.commit((record) => withNode(record, step.node, (node) => ({ ...node, etcdRemovedAt: now })));
  return DONE;
}
