/**
 * Nodes that were Ready and are not any more: power cycle once, wait, replace when a spare exists. Never while
 * too many nodes are unhealthy at once (then it is the network, not the machines), never a control-plane node
 * while another is not healthy, never while the API server itself is silent. What holds it back is said.
 */
import { rebootingNode } from './policies/reboot.ts';
import { problem } from './plan-node.ts';
import type { Scene } from './plan.ts';
import type { NodeSituation } from './situation.ts';
import type { Step } from './steps.ts';

export function unhealthyNodes({ nodes, observed, document, record, timings }: Scene): NodeSituation[] {
  const afterMs = document.spec.policies.remediation.unhealthyAfterSeconds * timings.hardwareSecondMs;
  const rebooting = rebootingNode(record)?.node;
  return nodes.filter(
    ({ node, situation }) =>
      !('node' in situation && situation.node.name === rebooting) &&
      node.intent.kind === 'keep' &&
      node.failure === undefined &&
      !node.maintenance &&
      node.unhealthySince !== undefined &&
      (situation.kind === 'joined' || situation.kind === 'vanished') &&
      // While nobody can become Ready this one cannot either, whatever is done to its machine.
      observed.now - Math.max(node.unhealthySince, observed.crippledAt ?? 0) >= afterMs,
  );
}

/** What is done about one unhealthy node now. */
export type Remedy =
  | { readonly kind: 'act'; readonly step: Step }
  | { readonly kind: 'wait'; readonly why: string }
  /** Nothing more is done by itself. */
  | { readonly kind: 'stop'; readonly why: string };

export function remedies(scene: Scene): { readonly entry: NodeSituation; readonly remedy: Remedy }[] {
  const sick = unhealthyNodes(scene);
  return sick.map((entry) => ({ entry, remedy: remedyOf(scene, entry, sick.length) }));
}

function remedyOf(scene: Scene, entry: NodeSituation, sick: number): Remedy {
  const { document, record, nodes, observed, timings, endpointUp } = scene;
  const policy = document.spec.policies.remediation;
  const { node } = entry;
  const stop = (why: string): Remedy => ({ kind: 'stop', why });
  if (!policy.enabled) return stop('remediation is switched off');
  if (record.stage.kind !== 'running') return { kind: 'wait', why: 'the cluster is not Running yet' };
  if (!endpointUp) return { kind: 'wait', why: 'the endpoint does not answer' };
  if ((sick / Math.max(1, nodes.length)) * 100 > policy.maxUnhealthyPercent)
    return stop(`${sick} of ${nodes.length} nodes are unhealthy: that is not one machine`);
  if (node.role === 'control-plane' && !othersHealthy(scene, entry))
    return stop('another control-plane node is not healthy, or there are too few');
  if (node.powerCycledAt === undefined)
    return { kind: 'act', step: { kind: 'power-cycle', node: node.name } };
  if (observed.now - Math.max(node.powerCycledAt, observed.crippledAt ?? 0) < timings.powerCycleMs)
    return { kind: 'wait', why: 'it was switched off and on' };
  if (record.replacements >= policy.maxReplacements)
    return stop(`${record.replacements} machines were replaced already`);
  const spares = observed.spares?.get(node.pool);
  if (spares === undefined) return { kind: 'wait', why: 'spare machines are counted' };
  if (spares < 1) return stop('no spare machine fits its pool');
  return {
    kind: 'act',
    step: {
      kind: 'fail-node',
      node: node.name,
      problem: problem('NODE_UNHEALTHY', `${node.name} did not become Ready again after a power cycle`),
    },
  };
}

export function planRemediation(scene: Scene): Step[] {
  return remedies(scene).flatMap(({ remedy }) => (remedy.kind === 'act' ? [remedy.step] : []));
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
