/**
 * How many nodes each pool should have and which ones go: scaling, replacing failed nodes, and rolling
 * updates. Expand first starts the new node, then removes an old one; Contract first the other way round. One
 * pool moves at a time, the control plane before workers, and a plan must be approved before anything moves.
 */
import { PcgError, toProblem } from '../base/errors.ts';
import type { Pool } from '../contract/cluster.ts';
import type { ProblemDetails } from '../contract/errors.ts';
import { judgeUpgrade } from '../kube/versions.ts';
import { isOn } from './components.ts';
import type { ClusterRecord, NodeRecord, RemovalReason } from './model.ts';
import type { Scene } from './plan.ts';
import { isEtcdCalm, isHeld } from './plan-node.ts';
import { awaitsSuccessor } from './plan-removal.ts';
import type { NodeSituation } from './situation.ts';
import type { Step } from './steps.ts';
import { nodeTemplate, sharedSettings, shortHash } from './template.ts';

/** Nodes of one pool that a rollout has too many at a time. */
const SURGE = 1;

const NEW_CERTIFICATES = 'its certificates are renewed';

export interface RolloutStep {
  readonly node: string;
  readonly action: 'replace' | 'remove';
  readonly reason: string;
}

export interface RolloutPlan {
  /** Hash of what is wanted; an approval names it. */
  readonly plan: string;
  readonly steps: readonly RolloutStep[];
  readonly approved: boolean;
}

type RolloutView = Pick<Scene, 'document' | 'nodes' | 'record'>;

/** Nodes deployed with something else than what is wanted now; undefined when there are none. */
export function rolloutPlan({ document, nodes, record }: RolloutView): RolloutPlan | undefined {
  if (record.initializedAt === undefined) return undefined;
  const version = document.profile.kubernetes.kubernetesVersion;
  const steps = document.spec.pools.flatMap((pool) => {
    const wanted = nodeTemplate(document, pool);
    return nodes.flatMap(({ node }) => {
      if (node.pool !== pool.name || node.intent.kind !== 'keep') return [];
      const reason = outdatedBecause(node, wanted, version, record);
      return reason === undefined ? [] : [{ node: node.name, action: 'replace' as const, reason }];
    });
  });
  if (steps.length === 0) return undefined;
  const templates = document.spec.pools.map((pool) => nodeTemplate(document, pool));
  const plan = shortHash({ templates, rotate: record.rotateRequestedAt ?? 0 });
  // Whoever asks for new certificates has asked for exactly this.
  const asked = steps.every(({ reason }) => reason === NEW_CERTIFICATES);
  const approved = asked || (record.rollout?.plan === plan && record.rollout.approvedAt !== undefined);
  return { plan, steps, approved };
}

function outdatedBecause(
  node: NodeRecord,
  wanted: string,
  version: string,
  record: Pick<ClusterRecord, 'rotateRequestedAt'>,
): string | undefined {
  if (node.template === undefined) return undefined;
  if (node.template !== wanted)
    return node.kubernetesVersion !== undefined && node.kubernetesVersion !== version
      ? `Kubernetes ${node.kubernetesVersion} -> ${version}`
      : 'image or node settings changed';
  const { rotateRequestedAt } = record;
  const old = rotateRequestedAt !== undefined && node.createdAt < rotateRequestedAt;
  return node.role === 'control-plane' && old ? NEW_CERTIFICATES : undefined;
}

function isOutdated(
  node: NodeRecord,
  pool: Pool,
  { document, record }: Pick<Scene, 'document' | 'record'>,
): boolean {
  const version = document.profile.kubernetes.kubernetesVersion;
  return outdatedBecause(node, nodeTemplate(document, pool), version, record) !== undefined;
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
  const missing = pool.size - staying.length;
  if (missing > 0) {
    const leaving = own.filter(({ node }) => node.intent.kind === 'remove');
    // A control plane takes nobody in while somebody leaves: etcd knows one change at a time. One that is
    // alone stays until its successor is there.
    if (pool.role === 'control-plane' && initialized && leaving.length > 0)
      return leaving.every(({ node }) => awaitsSuccessor(nodes, node)) && staying.length === 0
        ? [{ kind: 'add-nodes', pool: pool.name, role: pool.role, count: 1 }]
        : [];
    // Contract first: the machine that leaves is the one that comes back.
    const contracting = leaving.some(
      ({ node }) => node.intent.kind === 'remove' && node.intent.reason === 'outdated',
    );
    if (strategyOf(pool) === 'contract-first' && contracting) return [];
    return [{ kind: 'add-nodes', pool: pool.name, role: pool.role, count: missing }];
  }
  const surge = isRolling(scene, pool) && strategyOf(pool) === 'expand-first' ? SURGE : 0;
  const excess = -missing - surge;
  if (excess <= 0) return [];
  const victims = chooseVictims(staying, pool.role === 'control-plane' ? 1 : excess, pool, scene);
  if (pool.role === 'control-plane' && !maySafelyShrink(scene, victims)) return [];
  return victims.length === 0 ? [] : [{ kind: 'remove-nodes', nodes: victims }];
}

/** Worst first: failed, not Ready yet, outdated, not healthy, in the fullest zone, youngest. */
export function chooseVictims(
  candidates: readonly NodeSituation[],
  count: number,
  pool: Pool,
  scene: Pick<Scene, 'document' | 'record' | 'observed'>,
): { name: string; reason: RemovalReason }[] {
  const zones = new Map<string, number>();
  const zoneOf = ({ node }: NodeSituation) => (node.claim.kind === 'held' ? node.claim.zone : '');
  for (const entry of candidates) zones.set(zoneOf(entry), (zones.get(zoneOf(entry)) ?? 0) + 1);
  const outdated = new Set(
    candidates.filter(({ node }) => isOutdated(node, pool, scene)).map(({ node }) => node.name),
  );
  const { kube } = scene.observed;
  const faults = kube.kind === 'reachable' ? kube.componentFaults : [];
  const rank = (entry: NodeSituation) =>
    (entry.node.failure ? 0 : 8) +
    (entry.node.readyAt === undefined ? 0 : 4) +
    (outdated.has(entry.node.name) ? 0 : 2) +
    (entry.situation.kind === 'ready' && !faults.some((fault) => isOn(fault, entry)) ? 1 : 0);
  return [...candidates]
    .sort(
      (a, b) =>
        rank(a) - rank(b) ||
        (zones.get(zoneOf(b)) ?? 0) - (zones.get(zoneOf(a)) ?? 0) ||
        b.node.createdAt - a.node.createdAt ||
        (a.node.name < b.node.name ? 1 : -1),
    )
    .slice(0, count)
    .map(({ node }) => ({
      name: node.name,
      reason: node.failure ? 'failed' : outdated.has(node.name) ? 'outdated' : 'scale-down',
    }));
}

/** Quorum: a member may go only when every other one is healthy and nobody else is on the way in or out. */
export function maySafelyShrink(scene: Scene, victims: readonly { readonly name: string }[]): boolean {
  const { nodes, initialized, blockingFaults } = scene;
  const { etcdAlarms, kube } = scene.observed;
  if (!initialized) return true;
  const control = nodes.filter(({ node }) => node.role === 'control-plane');
  const calm = control.every(
    ({ node, situation }) =>
      node.intent.kind === 'keep' && (situation.kind === 'ready' || node.failure !== undefined),
  );
  const leaving = nodes.filter(({ node }) => victims.some(({ name }) => name === node.name));
  const sound = blockingFaults.every((fault) => leaving.some((entry) => isOn(fault, entry)));
  const read = kube.kind === 'reachable' && kube.componentsUnread === undefined;
  return calm && isEtcdCalm(scene) && sound && read && etcdAlarms.length === 0;
}

/** The pool that rolls now: the control plane first, then workers in the order of the spec. */
function rollingPool(scene: Scene): Pool | undefined {
  const { document, nodes } = scene;
  if (rolloutPlan(scene)?.approved !== true) return undefined;
  const ordered = [...document.spec.pools].sort(
    (a, b) => Number(a.role === 'worker') - Number(b.role === 'worker'),
  );
  return ordered.find((pool) =>
    nodes.some(
      ({ node }) =>
        node.pool === pool.name && (isOutdated(node, pool, scene) || node.intent.kind === 'remove'),
    ),
  );
}

/** A single control-plane node cannot leave before another is there, whatever the pool says. */
function strategyOf(pool: Pool): Pool['rollout'] {
  return pool.role === 'control-plane' && pool.size === 1 ? 'expand-first' : pool.rollout;
}

export function isRolling(scene: Scene, pool: Pool): boolean {
  return rollingPool(scene)?.name === pool.name;
}

/** Pools whose next move is a new node beside the old ones; in a preview, all that would have such a move. */
export function poolsExpanding(scene: Scene): string[] {
  const { document, nodes } = scene;
  const rollout = rolloutPlan(scene);
  if (!rollout) return [];
  const rolling = rollout.approved ? [rollingPool(scene)] : document.spec.pools;
  return rolling.flatMap((pool) => {
    if (pool === undefined || strategyOf(pool) !== 'expand-first') return [];
    const own = nodes.filter(({ node }) => node.pool === pool.name);
    const due = rollout.approved || own.some(({ node }) => isOutdated(node, pool, scene));
    return due && own.length - pool.size < SURGE ? [pool.name] : [];
  });
}

/** X15: Expand first needs a machine to expand to. Said before anything moves; undefined while it is not known. */
export function missingSpare(scene: Scene): ProblemDetails | undefined {
  const name = poolsExpanding(scene).find((pool) => scene.observed.spares?.get(pool) === 0);
  const pool = scene.document.spec.pools.find((candidate) => candidate.name === name);
  if (!pool) return undefined;
  const alone = pool.role === 'control-plane' && pool.size === 1;
  return toProblem(
    new PcgError('NO_SPARE_MACHINE', `pool ${pool.name} has no spare machine to expand to`, {
      details: { pool: pool.name },
      ...(alone
        ? {
            fix: `Add a Ready machine that fits pool ${pool.name}: a lone control plane leaves only after its successor is there.`,
          }
        : {}),
    }),
  );
}

function planRollout(scene: Scene): Step[] {
  const { document, nodes, observed, record, endpointUp } = scene;
  const version = document.profile.kubernetes.kubernetesVersion;
  const current = record.controlPlaneVersion;
  if (!endpointUp) return [];
  // Said before anybody approves anything: this upgrade will never be carried out.
  if (current !== undefined && judgeUpgrade(current, version).kind === 'refused')
    return [{ kind: 'prepare-upgrade', version }];
  // What etcd holds cannot be changed, or not be trusted: a person decides first.
  if (observed.etcdAlarms.length > 0) return [];
  const pool = rollingPool(scene);
  // Cut off in the middle and given up since: nodes that join must find what the others were made of.
  if (record.preparing && rolloutPlan(scene) === undefined) return [{ kind: 'prepare-upgrade', version }];
  if (!pool) return planAddons(scene);
  // Nothing is prepared for a rollout that cannot start.
  const expands = poolsExpanding(scene).includes(pool.name);
  if (expands && (observed.spares?.get(pool.name) ?? 0) < 1) return [];
  if (pool.role === 'control-plane' && !isPrepared(scene)) return [{ kind: 'prepare-upgrade', version }];
  const addons = pool.role === 'worker' ? planAddons(scene) : [];
  if (addons.length > 0) return addons;
  const own = nodes.filter(({ node }) => node.pool === pool.name);
  const moving = own.some(
    ({ node, situation }) =>
      node.intent.kind === 'remove' || (situation.kind !== 'ready' && node.failure === undefined),
  );
  const waits = pool.role === 'control-plane' && (isHeld(scene) || !isEtcdCalm(scene));
  if (moving || waits) return [];
  const outdated = own.filter(({ node }) => isOutdated(node, pool, scene));
  const [victim] = chooseVictims(outdated, 1, pool, scene);
  if (!victim) return [];
  if (strategyOf(pool) === 'contract-first' || own.length - pool.size >= SURGE) {
    if (pool.role === 'control-plane' && !maySafelyShrink(scene, [victim])) return [];
    return [{ kind: 'remove-nodes', nodes: [{ name: victim.name, reason: 'outdated' }] }];
  }
  return [{ kind: 'add-nodes', pool: pool.name, role: pool.role, count: SURGE }];
}

/** What joining control-plane nodes read from the cluster is what is wanted. */
function isPrepared({ document, record }: Scene): boolean {
  return (
    record.controlPlaneVersion === document.profile.kubernetes.kubernetesVersion &&
    record.controlPlaneSettings === sharedSettings(document)
  );
}

/** kube-proxy and CoreDNS follow once every API server is new; kubelets may lag behind them. */
export function planAddons({ document, record, nodes }: Scene): Step[] {
  const version = document.profile.kubernetes.kubernetesVersion;
  if (record.addonsVersion === version || record.controlPlaneVersion !== version) return [];
  const control = nodes.filter(({ node }) => node.role === 'control-plane');
  const all = control.every(({ node }) => node.kubernetesVersion === version && node.intent.kind === 'keep');
  return all ? [{ kind: 'upgrade-addons', version }] : [];
}
