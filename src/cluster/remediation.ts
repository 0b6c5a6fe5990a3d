/**
 * Nodes that were Ready and are not any more: power cycle once, wait, replace when a spare exists. Never while
 * too many nodes are unhealthy at once (then it is the network, not the machines), never a control-plane node
 * while another is not healthy, never while the API server itself is silent.
 */
import type { Scene } from './plan.ts';
import type { NodeSituation } from './situation.ts';
import type { Step } from './steps.ts';

export function unhealthyNodes({ nodes, observed, document }: Scene): NodeSituation[] {
  const afterMs = document.spec.policies.remediation.unhealthyAfterSeconds * 1000;
  return nodes.filter(
    ({ node, situation }) =>
      node.intent.kind === 'keep' &&
      node.failure === undefined &&
      !node.maintenance &&
      node.unhealthySince !== undefined &&
      (situation.kind === 'joined' || situation.kind === 'vanished') &&
      observed.now - node.unhealthySince >= afterMs,
  );
}

export function planRemediation(scene: Scene): Step[] {
  const { document, record, nodes, observed, timings, endpointUp } = scene;
  const policy = document.spec.policies.remediation;
  if (!policy.enabled || !endpointUp || record.stage.kind !== 'running') return [];
  const sick = unhealthyNodes(scene);
  if (sick.length === 0 || (sick.length / Math.max(1, nodes.length)) * 100 > policy.maxUnhealthyPercent)
    return [];
  return sick.flatMap((entry): Step[] => {
    const { node } = entry;
    if (node.role === 'control-plane' && !othersHealthy(scene, entry)) return [];
    if (node.powerCycledAt === undefined) return [{ kind: 'power-cycle', node: node.name }];
    if (observed.now - node.powerCycledAt < timings.powerCycleMs) return [];
    if (record.replacements >= policy.maxReplacements || (observed.spares?.get(node.pool) ?? 0) < 1)
      return [];
    return [{ kind: 'remove-nodes', nodes: [{ name: node.name, reason: 'unhealthy' }] }];
  });
}

function othersHealthy({ nodes }: Scene, self: NodeSituation): boolean {
  const others = nodes.filter(({ node }) => node.role === 'control-plane' && node.name !== self.node.name);
  return (
    others.length >= 2 &&
    others.every(({ node, situation }) => situation.kind === 'ready' && node.intent.kind === 'keep')
  );
}

/** Pools for which the number of free fitting machines must be known before the next decision (X15). */
export function poolsWantingSpares(scene: Scene): string[] {
  const { timings, observed } = scene;
  const replacing = unhealthyNodes(scene)
    .filter(
      ({ node }) =>
        node.powerCycledAt !== undefined && observed.now - node.powerCycledAt >= timings.powerCycleMs,
    )
    .map(({ node }) => node.pool);
  return [...new Set(replacing)];
}
