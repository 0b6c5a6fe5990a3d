/**
 * plan(input) -> steps: pure, no I/O, no clock, no randomness; tested with literals. It returns everything
 * that may start now; the runner drops steps whose subject is busy or resting after a failure. A step is only
 * planned on facts: an unknown machine or an unreachable API server makes the plan wait, never destroy.
 */
import type { ClusterDocument, Pool } from '../contract/cluster.ts';
import type { ManifestPack } from '../contract/profile.ts';
import { type ComponentFault, isOn, stayingFaults } from './components.ts';
import { planDoubts } from './doubts.ts';
import { endpointAddress, type ClusterRecord } from './model.ts';
import type { Observed } from './observed.ts';
import { nodeAddresses } from './node-address.ts';
import { planDelete } from './plan-delete.ts';
import { backupSetup } from './policies/backup-setup.ts';
import { rebootingNode } from './policies/reboot.ts';
import { duePolicies } from './policies/schedule.ts';
import { planNode } from './plan-node.ts';
import { planRemoval } from './plan-removal.ts';
import { planRemediation } from './remediation.ts';
import { planAddons, planPools, type RolloutPlan, rolloutPlan } from './rollout.ts';
import { type NodeSituation, situations } from './situation.ts';
import type { Step } from './steps.ts';
import { planStrayMembers } from './stray-members.ts';
import { packHash } from './template.ts';
import { EXPIRY, type Timings } from './timings.ts';

export interface PlanInput {
  readonly document: ClusterDocument;
  readonly generation: number;
  readonly record: ClusterRecord;
  readonly observed: Observed;
  readonly timings: Timings;
}

/** PlanInput plus what several planners need of it, computed once. */
export interface Scene extends PlanInput {
  readonly nodes: readonly NodeSituation[];
  readonly initialized: boolean;
  /** The API server answers through the endpoint that nodes use. */
  readonly endpointUp: boolean;
  /** For which the control plane's next node waits: not those of nodes that an approved rollout replaces anyway. */
  readonly blockingFaults: readonly ComponentFault[];
}

export function plan(input: PlanInput): Step[] {
  const { document, record } = input;
  const scene = sceneOf(input);
  if (record.stage.kind === 'deleted') return [];
  if (document.intent.kind !== 'present' || record.stage.kind === 'deleting') return planDelete(scene);
  const actions = planActions(scene);
  if (actions.length > 0) return actions;
  const origin: Step[] = isOriginKnown(scene) ? [] : [{ kind: 'check-origin' }];
  if (record.pki === undefined) return [{ kind: 'prepare' }, ...origin];
  if (record.placementCheckedAt === undefined) return [{ kind: 'check-placement' }, ...origin];
  if (origin.length > 0) return origin;
  if (endpointAddress(record.endpoint) === undefined) return [{ kind: 'reserve-endpoint' }];
  return [
    ...planPools(scene),
    ...planRemediation(scene),
    ...planInit(scene),
    ...planStrayMembers(scene),
    ...scene.nodes.flatMap((entry) =>
      entry.node.intent.kind === 'remove' ? planRemoval(scene, entry) : planNode(scene, entry),
    ),
    ...planDoubts(record),
    ...planLoss(scene),
    ...planEndpoint(scene),
    ...planPacks(scene),
    ...planCertificates(scene),
    ...planBackups(scene),
    ...planPolicies(scene),
    ...planSettle(scene),
  ];
}

/**
 * A state directory that was lost or restored knows less than MAAS does. Until the control plane answers nothing
 * tells us that it exists already, so each process asks MAAS once before it builds anything.
 */
function isOriginKnown({ record, observed }: Scene): boolean {
  return record.initializedAt !== undefined || (record.originCheckedAt ?? -1) >= observed.since;
}

export function sceneOf(input: PlanInput): Scene {
  const { document, record, observed } = input;
  const nodes = situations(record, observed);
  return {
    ...input,
    nodes,
    blockingFaults: blockingFaults(observed, nodes, () => rolloutPlan({ document, nodes, record })),
    initialized: record.initializedAt !== undefined,
    endpointUp: observed.kube.kind === 'reachable' && observed.kube.endpoint,
  };
}

function blockingFaults(
  { kube }: Observed,
  nodes: readonly NodeSituation[],
  rolloutOf: () => RolloutPlan | undefined,
): readonly ComponentFault[] {
  const faults = stayingFaults(kube, nodes);
  // It compares the templates of all nodes: not for every look at a cluster that is well.
  const rollout = faults.length === 0 ? undefined : rolloutOf();
  if (rollout?.approved !== true) return faults;
  const going = new Set(rollout.steps.map(({ node }) => node));
  return faults.filter((fault) => !nodes.some((entry) => isOn(fault, entry) && going.has(entry.node.name)));
}

/** One-off requests that were not acted on yet, oldest first, one at a time. */
function planActions({ document, record }: Scene): Step[] {
  const next = document.actions.find((action) => !record.actions.includes(action.id));
  return next ? [{ kind: 'acknowledge-action', id: next.id }] : [];
}

/** While the control plane is not initialised exactly one of its nodes runs init. */
function planInit({ record, initialized }: Scene): Step[] {
  if (initialized) return [];
  const candidates = record.nodes.filter(
    (node) => node.role === 'control-plane' && node.intent.kind === 'keep',
  );
  if (candidates.length === 0 || candidates.some((node) => node.init)) return [];
  // A joiner that was deployed already carries a join configuration; only an undeployed node can be chosen.
  const fresh = candidates.find((node) => node.tasks.deploy === undefined && node.failure === undefined);
  return fresh ? [{ kind: 'elect-init', node: fresh.name }] : [];
}

/**
 * etcd lives on the machines of nodes that ran init or were let in; when none of them is left nothing brings it back.
 * While the cluster comes up nobody would say so either when such a machine stays silent: repairs begin once it runs.
 */
function planLoss({ initialized, observed, nodes, record, timings }: Scene): Step[] {
  if (!initialized || observed.kube.kind === 'reachable') return [];
  const remains = nodes.some(({ node, situation }) => {
    const member = node.init || node.joinedAt !== undefined || node.token.grantedAt !== undefined;
    return node.role === 'control-plane' && member && node.claim.kind === 'held' && situation.kind !== 'lost';
  });
  if (!remains) return [{ kind: 'report-loss', of: 'machines' }];
  const silentMs = observed.now - (observed.kubeSilentSince ?? observed.now);
  return record.stage.kind === 'provisioning' && silentMs > timings.initDeadlineMs
    ? [{ kind: 'report-loss', of: 'answers' }]
    : [];
}

function planEndpoint({ record, observed, nodes, timings }: Scene): Step[] {
  const steps: Step[] = [];
  if (record.rightsGrantedAt === undefined && observed.kube.kind === 'reachable')
    steps.push({ kind: 'grant-rights' });
  const { initializedAt, stage } = record;
  // The API server answers on its own address: something else is at the endpoint, or nothing may be.
  if (
    observed.kube.kind === 'reachable' &&
    !observed.kube.endpoint &&
    stage.kind === 'provisioning' &&
    initializedAt !== undefined &&
    observed.now - initializedAt > timings.initDeadlineMs
  )
    steps.push({ kind: 'report-endpoint' });
  if (record.endpoint.kind === 'dns') {
    const addresses = nodes
      .filter(({ node, situation }) => {
        const up = situation.kind === 'booted' || situation.kind === 'joined' || situation.kind === 'ready';
        const serves = node.init || node.joinedAt !== undefined;
        return node.role === 'control-plane' && node.intent.kind === 'keep' && up && serves;
      })
      .flatMap(({ situation }) => {
        const told = 'node' in situation ? situation.node.internalIp : undefined;
        const machine = 'machine' in situation ? situation.machine : undefined;
        return told ?? (machine ? nodeAddresses(machine, record.endpoint).slice(0, 1) : []);
      })
      .sort();
    const known = record.endpoint.addresses.join(' ');
    // Never an empty set: a passing outage must not take the name away from a working API server.
    if (addresses.length > 0 && addresses.join(' ') !== known)
      steps.push({ kind: 'publish-endpoint', addresses });
  }
  return steps;
}

export function wantedPacks(document: ClusterDocument): ManifestPack[] {
  return [document.profile.cni, ...document.profile.addons];
}

/** The CNI as soon as the API server is configured; add-ons in order, each after the one before is available. */
function planPacks({ document, record, observed, nodes, initialized }: Scene): Step[] {
  if (!initialized || observed.kube.kind !== 'reachable') return [];
  for (const pack of wantedPacks(document)) {
    const hash = packHash(pack, document.spec.packValues[pack.name] ?? {});
    const applied = record.packs[pack.name];
    // Add-ons run as ordinary workloads: they wait for a node that may carry them.
    if (
      pack.layer === 'addon' &&
      !nodes.some(({ node, situation }) => situation.kind === 'ready' && carries(document, node.pool))
    )
      return [];
    if (applied?.hash !== hash || applied.readyAt === undefined)
      return [{ kind: 'apply-pack', pack: pack.name, hash }];
  }
  // Last: what takes over from a pack that left is there before that pack goes.
  const wanted = new Set(wantedPacks(document).map(({ name }) => name));
  const left = Object.keys(record.packs).filter((name) => !wanted.has(name));
  return left.map((pack) => ({ kind: 'remove-pack', pack }));
}

function carries(document: ClusterDocument, poolName: string): boolean {
  const pool = document.spec.pools.find((candidate) => candidate.name === poolName);
  if (pool === undefined) return true;
  const hasWorkers = document.spec.pools.some((other) => other.role === 'worker' && other.size > 0);
  return pool.role === 'worker' || pool.allowWorkers || !hasWorkers;
}

/** Looked at now and then, and anew after control-plane nodes came; renewed one node at a time, at rest. */
function planCertificates(scene: Scene): Step[] {
  const { record, observed, nodes, endpointUp, timings } = scene;
  if (record.stage.kind !== 'running' || !endpointUp) return [];
  const checked = record.certificatesCheckedAt;
  const newest = Math.max(
    0,
    ...nodes.map(({ node }) => (node.role === 'control-plane' ? (node.readyAt ?? 0) : 0)),
  );
  const due =
    checked === undefined || checked < newest || observed.now - checked >= timings.certificateCheckMs;
  if (due) return [{ kind: 'check-certificates' }];
  const ending = nodes.find(
    ({ node }) =>
      node.certificatesExpireAt !== undefined && node.certificatesExpireAt - observed.now < EXPIRY.renewMs,
  );
  const { renewInPlace } = scene.document.spec.policies.certificates;
  return ending && renewInPlace && isAsWanted(scene)
    ? [{ kind: 'renew-certificates', node: ending.node.name }]
    : [];
}

/** As soon as the cluster runs, long before the first backup is due. */
function planBackups({ document, record, endpointUp }: Scene): Step[] {
  if (record.stage.kind !== 'running' || !endpointUp) return [];
  const hash = backupSetup(document);
  return hash === (record.velero?.hash ?? '') && (hash !== '' || record.velero === undefined)
    ? []
    : [{ kind: 'set-up-backups', hash }];
}

/** The only control plane was rebooted and does not come back: nobody but the clock can say so. */
function isRebootLost({ record, observed, timings }: Scene): boolean {
  const away = rebootingNode(record);
  return away !== undefined && observed.now - away.since > timings.rebootDeadlineMs;
}

/** Policies run on a cluster at rest, one at a time. */
function planPolicies(scene: Scene): Step[] {
  const { document, record, observed } = scene;
  if (record.stage.kind !== 'running') return [];
  if (!scene.endpointUp) return isRebootLost(scene) ? [{ kind: 'run-policy', policy: 'patching' }] : [];
  const [due] = duePolicies(document, record, observed.now);
  // A run that has begun goes on while its own reboots make nodes NotReady.
  const begun = due !== undefined && record.policies[due]?.state === 'running';
  return due !== undefined && (begun || isAsWanted(scene)) ? [{ kind: 'run-policy', policy: due }] : [];
}

/** Everything is as wanted: the cluster runs. */
function planSettle(scene: Scene): Step[] {
  const { record, generation } = scene;
  if (!isAsWanted(scene)) return [];
  return record.stage.kind === 'running' && record.generation === generation && record.replacements === 0
    ? []
    : [{ kind: 'settle' }];
}

export function isAsWanted(scene: Scene): boolean {
  const { document, record, nodes, initialized, endpointUp } = scene;
  const complete = document.spec.pools.every(
    (pool: Pool) =>
      record.nodes.filter((node) => node.pool === pool.name && node.intent.kind === 'keep').length ===
      pool.size,
  );
  const allReady = nodes.every(
    ({ node, situation }) => node.intent.kind === 'keep' && situation.kind === 'ready',
  );
  const packsReady = wantedPacks(document).every((pack) => record.packs[pack.name]?.readyAt !== undefined);
  // A rollout that waits for its approval changes nothing yet; one that runs is not done.
  const rolling = rolloutPlan(scene)?.approved === true || planAddons(scene).length > 0;
  return initialized && endpointUp && complete && allReady && packsReady && !rolling;
}
