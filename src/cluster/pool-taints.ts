/** The taints of a pool's nodes: its own, and on a control plane that carries no workloads the one that says so. */
import type { Pool } from '../contract/cluster.ts';
import type { NodeTaint } from '../kube/nodes.ts';

export const CONTROL_PLANE_TAINT: NodeTaint = {
  key: 'node-role.kubernetes.io/control-plane',
  effect: 'NoSchedule',
};

/** As they register, and as they are kept: `allowWorkers` may change on a living cluster. */
export function taintsOfPool(pool: Pool): NodeTaint[] {
  const own = pool.taints.map(({ key, value, effect }) => ({
    key,
    effect,
    ...(value === '' ? {} : { value }),
  }));
  return pool.role === 'control-plane' && !pool.allowWorkers ? [CONTROL_PLANE_TAINT, ...own] : own;
}
