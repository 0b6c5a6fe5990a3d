/**
 * How many nodes each pool should have and which ones go: scaling, replacing failed nodes, and rolling
 * updates. Expand first starts the new node, then removes an old one; Contract first the other way round. One
 * pool moves at a time, the control plane before workers, and a plan must be approved before anything moves.
 */
import type { Pool } from '../contract/cluster.ts';
import type { NodeRecord, RemovalReason } from './model.ts';
import type { Scene } from './plan.ts';
import type { NodeSituation } from './situation.ts';
import type { Step } from './steps.ts';
import { nodeTemplate, shortHash } from './template.ts';

/** Workers of one pool that a rollout replaces at the same time. */
const WORKER_SURGE = 1;

export interface RolloutStep {
  readonly node: string;
  readonly action: 'replace' | 'remove';
  readonly reason: string;
}

export interface RolloutPlan {
  /** Hash of the moves; an approval names it. */
  readonly plan: string;
  readonly steps: readonly RolloutStep[];
}

/** Nodes deployed with something else than what is wanted now; undefined when there are none. */
export function rolloutPlan({
  document,
  nodes,
  record,
}: Pick<Scene, 'document' | 'nodes' | 'record'>): RolloutPlan | undefined {
  if (record.initializedAt === undefined) return undefined;
  const steps = document.spec.pools.flatMap((pool) => {
    const wanted = nodeTemplate(document, pool);
    return nodes
      .filter(
        ({ node }) => node.pool === pool.name && node.intent.kind === 'keep' && isOutdated(node, wanted),
      )
      .map(({ node }) => ({
        node: node.name,
        action: 'replace' as const,
        reason: reasonOf(node, document.profile.kubernetes.kubernetesVersion),
      }));
  });
  if (steps.length === 0) return undefined;
  const templates = document.spec.pools.map((pool) => nodeTemplate(document, pool));
  return { plan: shortHash(templates), steps };
}

function isOutdated(node: NodeRecord, wanted: string): boolean {
  return node.template !== undefined && node.template !== wanted;
}

function reasonOf(node: NodeRecord, version: string): string {
  return node.kubernetesVersion !== undefined && node.kubernetesVersion !== version
    ? `Kubernetes ${node.kubernetesVersion} -> ${version}`
    : 'image or node settings changed';
}

export function planPools(scene: Scene): Step[] {
  const { document, record } = scene;
  const steps: Step[] = [];
  const orphaned = record.nodes.filter(
    (node) => node.intent.kind === 'keep' && !document.spec.pools.some((pool) => pool.name === node.pool),
  );
  if (orphaned.length > 0)
    steps.push({ kind: 'remove-nodes', nodes: orphaned.map(({ name }) => ({ name, reason: 'scale-down' })) });
  for (const pool of document.spec.pools) steps.push(...planSize(scene, pool));
  if (steps.length === 0) steps.push(...planRollout(scene));
  return steps;
}

function planSize(scene: Scene, pool: Pool): Step[] {
  const { nodes, initialized } = scene;
  const own = nodes.filter(({ node }) => node.pool === pool.name);
  const staying = own.filter(({ node }) => node.intent.kind === 'keep');
  const surge = isRolling(scene, pool) && pool.rollout === 'expand-first' ? WORKER_SURGE : 0;
  const missing = pool.size - staying.length;
  if (missing > 0) {
    // A control plane grows one member at a time once it exists: a failed joiner must leave before the next comes.
    const leaving = own.some(({ node }) => node.intent.kind === 'remove');
    if (pool.role === 'control-plane' && initialized && leaving && pool.rollout === 'expand-first') return [];
    return [{ kind: 'add-nodes', pool: pool.name, role: pool.role, count: missing }];
  }
  const excess = -missing - surge;
  if (excess <= 0) return [];
  if (pool.role === 'control-plane' && !maySafelyShrink(scene)) return [];
  const victims = chooseVictims(staying, pool.role === 'control-plane' ? 1 : excess, pool, scene);
  return victims.length === 0 ? [] : [{ kind: 'remove-nodes', nodes: victims }];
}

/** Worst first: failed, without Node, outdated, in the fullest zone, youngest. */
export function chooseVictims(
  candidates: readonly NodeSituation[],
  count: number,
  pool: Pool,
  { document }: Pick<Scene, 'document'>,
): { name: string; reason: RemovalReason }[] {
  const wanted = nodeTemplate(document, pool);
  const zones = new Map<string, number>();
  const zoneOf = ({ node }: NodeSituation) => (node.claim.kind === 'held' ? node.claim.zone : '');
  for (const entry of candidates) zones.set(zoneOf(entry), (zones.get(zoneOf(entry)) ?? 0) + 1);
  const rank = (entry: NodeSituation) =>
    (entry.node.failure ? 0 : 8) +
    (entry.node.readyAt === undefined ? 0 : 4) +
    (isOutdated(entry.node, wanted) ? 0 : 2) +
    (entry.situation.kind === 'ready' ? 1 : 0);
  return [...candidates]
    .sort(
      (a, b) =>
        rank(a) - rank(b) ||
        (zones.get(zoneOf(b)) ?? 0) - (zones.get(zoneOf(a)) ?? 0) ||
        b.node.createdAt - a.node.createdAt ||
        (a.node.name < b.node.name ? 1 : -1),
    )
    .slice(0, count)
    .map((entry) => ({
      name: entry.node.name,
      reason: entry.node.failure ? 'failed' : isOutdated(entry.node, wanted) ? 'outdated' : 'scale-down',
    }));
}

/** Quorum: a healthy member may go only when every other member is healthy and nobody else is on the way in or out. */
export function maySafelyShrink({ nodes, observed, initialized }: Scene): boolean {
  if (!initialized) return true;
  const control = nodes.filter(({ node }) => node.role === 'control-plane');
  const calm = control.every(
    ({ node, situation }) =>
      node.intent.kind === 'keep' && (situation.kind === 'ready' || node.failure !== undefined),
  );
  const voting = observed.etcd?.members.every((member) => !member.learner && member.healthy) ?? true;
  return calm && voting;
}

/** The pool that rolls now: the control plane first, then workers in the order of the spec. */
function rollingPool(scene: Scene): Pool | undefined {
  const { document, nodes, record } = scene;
  const preview = rolloutPlan(scene);
  if (!preview || record.rollout?.plan !== preview.plan || record.rollout.approvedAt === undefined)
    return undefined;
  const ordered = [...document.spec.pools].sort(
    (a, b) => Number(a.role === 'worker') - Number(b.role === 'worker'),
  );
  return ordered.find((pool) => {
    const wanted = nodeTemplate(document, pool);
    return nodes.some(
      ({ node }) => node.pool === pool.name && (isOutdated(node, wanted) || node.intent.kind === 'remove'),
    );
  });
}

export function isRolling(scene: Scene, pool: Pool): boolean {
  return rollingPool(scene)?.name === pool.name;
}

function planRollout(scene: Scene): Step[] {
  const { document, nodes, observed } = scene;
  const pool = rollingPool(scene);
  if (!pool || observed.kube.kind !== 'reachable') return [];
  const own = nodes.filter(({ node }) => node.pool === pool.name);
  const moving = own.some(
    ({ node, situation }) =>
      node.intent.kind === 'remove' || (situation.kind !== 'ready' && node.failure === undefined),
  );
  if (moving) return [];
  const wanted = nodeTemplate(document, pool);
  const outdated = own.filter(({ node }) => isOutdated(node, wanted));
  if (outdated.length === 0) return [];
  const [victim] = chooseVictims(outdated, 1, pool, scene);
  if (!victim) return [];
  const spare = own.length - pool.size;
  if (pool.rollout === 'contract-first' || spare >= WORKER_SURGE) {
    if (pool.role === 'control-plane' && !maySafelyShrink(scene)) return [];
    return [{ kind: 'remove-nodes', nodes: [{ name: victim.name, reason: 'outdated' }] }];
  }
  // X15: Expand first needs a machine to expand to; without one nothing starts.
  if ((observed.spares?.get(pool.name) ?? 1) < 1) return [];
  return [{ kind: 'add-nodes', pool: pool.name, role: pool.role, count: WORKER_SURGE }];
}
