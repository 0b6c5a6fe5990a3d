/**
 * The status snapshot: phase and progress derived last, from conditions' own sources; tasks per node with
 * attempts, durations, what they wait for, expected end from this site's history (X13). Pure.
 */
import type { ClusterPhase, ClusterStatus, MACHINE_PHASES, NodeStatus, Task } from '../contract/cluster.ts';
import type { Condition } from '../contract/conditions.ts';
import { clones } from './clones.ts';
import { computeConditions } from './conditions.ts';
import type { History } from './history.ts';
import { joinWait } from './join-wait.ts';
import {
  CLUSTER_TASKS,
  endpointAddress,
  heldSystemId,
  NODE_TASKS,
  type NodeRecord,
  type TaskRecord,
} from './model.ts';
import { isAsWanted, type PlanInput, type Scene, sceneOf, wantedPacks } from './plan.ts';
import { nextRun, POLICY_NAMES } from './policies/schedule.ts';
import { missingSpare, planAddons, rolloutPlan } from './rollout.ts';
import type { NodeSituation, Situation } from './situation.ts';

/** Tasks that every node passes on its way in. */
const WAY_IN = ['allocate', 'deploy', 'bootstrap', 'node-ready'] as const;

export interface StatusExtras {
  readonly history: Pick<History, 'usualMs' | 'isSlow'>;
  readonly previous: readonly Condition[];
  /** Task name -> what its step waits for, from the runner. Key `<node>/<task>` or `<task>`. */
  readonly waiting: ReadonlyMap<string, string>;
  readonly queue?: ClusterStatus['queue'];
}

export function statusOf(input: PlanInput, extras: StatusExtras): ClusterStatus {
  const { record, document, generation, observed } = input;
  const scene = sceneOf(input);
  const endpoint = endpointAddress(record.endpoint);
  const eta = expectedEnd(scene, extras);
  const rollout = rolloutStatus(scene);
  const conditions = computeConditions(input, extras.previous);
  const twins = clones(observed.kube);
  return {
    phase: isForgotten(scene, conditions) ? 'Unknown' : phaseOf(scene, extras),
    observedGeneration: generation,
    observedAt: new Date(observed.now).toISOString(),
    conditions,
    ...(endpoint === undefined ? {} : { endpoint: `${endpoint.host}:${endpoint.port}` }),
    kubernetesVersion: document.profile.kubernetes.kubernetesVersion,
    nodes: scene.nodes.map((entry) => nodeStatus(entry, scene, extras, twins)),
    tasks: clusterTasks(scene, extras),
    progress: { ...progressOf(scene), ...(eta === undefined ? {} : { etaAt: new Date(eta).toISOString() }) },
    ...(extras.queue === undefined ? {} : { queue: extras.queue }),
    policies: policyResults(input),
    ...(record.certificatesExpireAt === undefined
      ? {}
      : { certificatesExpireAt: new Date(record.certificatesExpireAt).toISOString() }),
    ...(rollout === undefined ? {} : { rollout }),
    ...(record.problem === undefined ? {} : { error: record.problem }),
    leftovers: [...record.leftovers],
  };
}

function policyResults({ document, record, observed }: PlanInput): ClusterStatus['policies'] {
  return POLICY_NAMES.flatMap((policy) => {
    const result = record.policies[policy];
    const next = nextRun(document, record, policy, observed.now);
    if (result === undefined && next === undefined) return [];
    return [
      {
        policy,
        state: result?.state ?? ('pending' as const),
        summary: { ...result?.summary },
        ...(result?.lastRunAt === undefined ? {} : { lastRunAt: iso(result.lastRunAt) }),
        ...(next === undefined ? {} : { nextRunAt: iso(next) }),
        ...(result?.error === undefined ? {} : { error: result.error }),
      },
    ];
  });
}

/** The API server of a running cluster has been silent for long: nobody knows whether it still runs. */
function isForgotten({ record, observed, timings }: Scene, conditions: readonly Condition[]): boolean {
  const available = conditions.find(({ type }) => type === 'Available');
  return (
    record.stage.kind === 'running' &&
    available?.status === 'Unknown' &&
    observed.now - Date.parse(available.lastTransitionTime) > timings.staleMs
  );
}

export function phaseOf(scene: Scene, extras: Pick<StatusExtras, 'queue'>): ClusterPhase {
  const { record, observed } = scene;
  switch (record.stage.kind) {
    case 'deleted':
      return 'Deleted';
    case 'deleting':
      return 'Deleting';
    case 'provisioning':
      if (record.problem) return 'Failed';
      if (extras.queue) return 'Queued';
      return record.pki === undefined ? 'Pending' : 'Provisioning';
    case 'running':
      // Neither side answers: whatever we said last is not known to hold.
      if (!observed.maasUp && observed.kube.kind !== 'reachable') return 'Unknown';
      if (record.problem) return 'Failed';
      return isAsWanted(scene) || !isMoving(scene) ? 'Running' : 'Updating';
  }
}

/** Something is on its way in or out; a node that is merely not Ready is no update. */
function isMoving(scene: Scene): boolean {
  const { document, record, nodes } = scene;
  const leaving = record.nodes.some((node) => node.intent.kind === 'remove');
  const arriving = nodes.some(({ node }) => node.intent.kind === 'keep' && node.readyAt === undefined);
  const rolling = rolloutPlan(scene)?.approved === true || planAddons(scene).length > 0;
  const resized = document.spec.pools.some(
    (pool) => record.nodes.filter((node) => node.pool === pool.name).length !== pool.size,
  );
  return (
    rolling ||
    leaving ||
    arriving ||
    resized ||
    wantedPacks(document).some((pack) => record.packs[pack.name]?.readyAt === undefined)
  );
}

export function progressOf({ document, record, nodes }: Scene): { done: number; total: number } {
  if (record.stage.kind === 'deleting' || record.stage.kind === 'deleted') {
    const done = nodes.filter(
      ({ situation }) => situation.kind === 'released' || situation.kind === 'unclaimed',
    ).length;
    const endpoint = record.endpoint.kind === 'released' || record.endpoint.kind === 'none' ? 1 : 0;
    return { done: done + endpoint, total: nodes.length + 1 };
  }
  const packs = wantedPacks(document);
  const wanted = document.spec.pools.reduce((sum, pool) => sum + pool.size, 0);
  const total = wanted * WAY_IN.length + 2 + packs.length;
  let done = endpointAddress(record.endpoint) ? 1 : 0;
  if (record.initializedAt !== undefined) done += 1;
  done += packs.filter((pack) => record.packs[pack.name]?.readyAt !== undefined).length;
  for (const { node, situation } of nodes) {
    if (node.intent.kind === 'keep') done += stepsDone(node, situation);
  }
  return { done: Math.min(done, total), total };
}

function stepsDone(node: NodeRecord, situation: Situation): number {
  if (situation.kind === 'ready') return WAY_IN.length;
  if (node.joinedAt !== undefined) return 3;
  if (node.deployedAt !== undefined) return 2;
  return node.claim.kind === 'held' ? 1 : 0;
}

/** The slowest node's remaining tasks at this site's usual speed; undefined when history cannot tell. */
function expectedEnd({ nodes, observed, record }: Scene, { history }: StatusExtras): number | undefined {
  if (record.stage.kind !== 'provisioning' && record.stage.kind !== 'running') return undefined;
  let latest: number | undefined;
  for (const { node } of nodes) {
    if (node.intent.kind === 'remove' || node.readyAt !== undefined) continue;
    let end = observed.now;
    for (const name of WAY_IN) {
      const task = node.tasks[name];
      if (task?.state === 'succeeded') continue;
      const usual = history.usualMs(name);
      if (usual === undefined) return undefined;
      const elapsed = task === undefined ? 0 : observed.now - task.startedAt;
      end += Math.max(0, usual - elapsed);
    }
    latest = Math.max(latest ?? 0, end);
  }
  return latest;
}

const iso = (ms: number) => new Date(ms).toISOString();

function taskStatus(name: string, key: string, task: TaskRecord, now: number, extras: StatusExtras): Task {
  const waitingFor = task.state === 'succeeded' ? undefined : (extras.waiting.get(key) ?? task.waitingFor);
  const running = task.finishedAt === undefined;
  const usual = extras.history.usualMs(name);
  return {
    name,
    state: task.state === 'running' && waitingFor !== undefined ? 'waiting' : task.state,
    attempt: task.attempt,
    startedAt: iso(task.startedAt),
    ...(task.finishedAt === undefined ? {} : { finishedAt: iso(task.finishedAt) }),
    ...(waitingFor === undefined ? {} : { waitingFor }),
    ...(task.nextAttemptAt === undefined ? {} : { nextAttemptAt: iso(task.nextAttemptAt) }),
    ...(running && usual !== undefined ? { etaAt: iso(task.startedAt + usual) } : {}),
    ...(running && extras.history.isSlow(name, now - task.startedAt) ? { slowerThanUsual: true } : {}),
    ...(task.error === undefined ? {} : { error: task.error }),
  };
}

function clusterTasks({ document, record, observed }: Scene, extras: StatusExtras): Task[] {
  const tasks = CLUSTER_TASKS.flatMap((name) => {
    const task = record.tasks[name];
    return task === undefined ? [] : [taskStatus(name, name, task, observed.now, extras)];
  });
  for (const pack of wantedPacks(document)) {
    const task = record.packs[pack.name]?.task;
    if (task) tasks.push(taskStatus(`apply-${pack.name}`, `apply-${pack.name}`, task, observed.now, extras));
  }
  return tasks;
}

type MachinePhase = (typeof MACHINE_PHASES)[number];

function machinePhase(node: NodeRecord, situation: Situation): MachinePhase {
  if (node.failure) return 'Failed';
  switch (situation.kind) {
    case 'unclaimed':
    case 'claiming':
      return 'Pending';
    case 'unknown':
    case 'unobserved':
      return 'Unknown';
    case 'lost':
    case 'deploy-failed':
    case 'out-of-order':
      return 'Failed';
    case 'allocated':
      return 'Allocated';
    case 'deploying':
      return 'Deploying';
    case 'booted':
      return node.init ? 'Bootstrapping' : 'Joining';
    case 'joined':
      return node.readyAt === undefined ? 'Joining' : 'NotReady';
    case 'vanished':
      return 'NotReady';
    case 'ready':
      return node.intent.kind === 'remove' && node.drainedAt === undefined ? 'Draining' : 'Ready';
    case 'releasing':
      return 'Releasing';
    case 'released':
      return 'Released';
  }
}

function nodeStatus(
  { node, situation }: NodeSituation,
  scene: Scene,
  extras: StatusExtras,
  twins: ReturnType<typeof clones>,
): NodeStatus {
  const { observed } = scene;
  const systemId = heldSystemId(node) ?? (node.claim.kind === 'released' ? node.claim.systemId : undefined);
  const claim = node.claim;
  const machine = systemId === undefined ? undefined : observed.machines.get(systemId)?.machine;
  const ours = claim.kind === 'held' || claim.kind === 'releasing';
  const error = node.failure ?? ('node' in situation ? twins.get(situation.node.name) : undefined);
  return {
    name: node.name,
    pool: node.pool,
    role: node.role,
    phase: machinePhase(node, situation),
    ...(systemId === undefined ? {} : { systemId }),
    ...('hostname' in claim ? { hostname: claim.hostname } : {}),
    ...(ours ? { zone: claim.zone } : {}),
    // Before the deployment MAAS shows the address of the last commissioning.
    addresses: ours && machine && node.deployedAt !== undefined ? [...machine.ipAddresses] : [],
    ...(ours && machine ? { maasStatus: machine.statusName, maasMessage: machine.statusMessage } : {}),
    ...(node.kubernetesVersion === undefined ? {} : { kubernetesVersion: node.kubernetesVersion }),
    maintenance: node.maintenance,
    tasks: nodeTasks(node, situation, scene, extras),
    ...(error === undefined ? {} : { error }),
  };
}

function nodeTasks(node: NodeRecord, situation: Situation, scene: Scene, extras: StatusExtras): Task[] {
  return NODE_TASKS.flatMap((name) => {
    const task = node.tasks[name];
    if (task === undefined) return [];
    const key = `${node.name}/${name}`;
    const status = taskStatus(name, key, task, scene.observed.now, extras);
    const waits =
      name === 'bootstrap' && task.finishedAt === undefined ? joinWait(node, situation, scene) : undefined;
    return [waits === undefined ? status : { ...status, state: 'waiting' as const, ...waits }];
  });
}

function rolloutStatus(scene: Scene): ClusterStatus['rollout'] {
  const preview = rolloutPlan(scene);
  if (!preview) return undefined;
  const error = missingSpare(scene);
  const state = preview.approved ? (error ? 'blocked' : 'running') : 'preview';
  return {
    plan: preview.plan,
    state,
    ...(error === undefined ? {} : { error }),
    steps: preview.steps.map((step) => ({ ...step })),
  };
}
