/**
 * All conditions of a cluster, computed in this one file from record and picture. A condition keeps its
 * transition time while its status stays. What could not be observed is Unknown, never the last good value.
 */
import type { ClusterDocument } from '../contract/cluster.ts';
import type { Condition, ConditionReason, ConditionType } from '../contract/conditions.ts';
import { alarmFix, describeAlarms } from '../kube/etcd-alarms.ts';
import { describeFault, faultFix, stayingFaults } from './components.ts';
import { doubtsOf } from './doubts.ts';
import { endpointAddress, type ClusterRecord } from './model.ts';
import type { Observed } from './observed.ts';
import { isStampedByAnother } from './ownership.ts';
import { type PlanInput, type Scene, sceneOf, wantedPacks } from './plan.ts';
import { remedies } from './remediation.ts';
import { missingSpare, rolloutPlan } from './rollout.ts';
import type { NodeSituation } from './situation.ts';
import { RENEW_BY_HAND } from './steps/certificates.ts';
import { strayTrouble } from './stray-members.ts';
import { warnBeforeMs } from './timings.ts';

type Verdict = readonly [status: 'True' | 'False' | 'Unknown', reason: ConditionReason, message: string];

export function computeConditions(input: PlanInput, previous: readonly Condition[]): Condition[] {
  const { document, record, observed } = input;
  const scene = sceneOf(input);
  const staying = scene.nodes.filter(({ node }) => node.intent.kind === 'keep');
  const verdicts: [ConditionType, Verdict][] = [
    ['MachinesAllocated', staleMaas(scene) ?? allocated(scene, staying)],
    ['EndpointReady', endpointReady(record)],
    ['InfrastructureReady', staleMaas(scene) ?? infrastructure(document, staying)],
    ['ControlPlaneInitialized', initialized(record)],
    ['NetworkReady', packs(scene, 'cni')],
    ['ControlPlaneReady', nodesReady(scene, staying, 'control-plane')],
    ['WorkersReady', nodesReady(scene, staying, 'worker')],
    ['AddonsReady', packs(scene, 'addon')],
    ['CertificatesValid', certificates(scene)],
    ['Available', available(record, observed)],
    ['UpToDate', upToDate(scene)],
    ['Deleting', deleting(record, scene.nodes)],
  ];
  const before = new Map(previous.map((condition) => [condition.type, condition]));
  return verdicts.map(([type, [status, reason, message]]) => {
    const old = before.get(type);
    const lastTransitionTime =
      old?.status === status ? old.lastTransitionTime : new Date(observed.now).toISOString();
    return { type, status, reason, message, lastTransitionTime };
  });
}

/** What MAAS said last is shown for a while; then nobody knows. */
function staleMaas({ observed, timings }: Scene): Verdict | undefined {
  if (observed.maasUp) return undefined;
  const last = Math.max(0, ...[...observed.machines.values()].map(({ at }) => at));
  return last > 0 && observed.now - last > timings.staleMs
    ? ['Unknown', 'Stale', `MAAS was last read ${new Date(last).toISOString()}`]
    : undefined;
}

function wanted(document: ClusterDocument, role?: 'control-plane' | 'worker'): number {
  return document.spec.pools
    .filter((pool) => role === undefined || pool.role === role)
    .reduce((sum, pool) => sum + pool.size, 0);
}

function allocated({ document, observed }: Scene, nodes: readonly NodeSituation[]): Verdict {
  const total = wanted(document);
  const lost = nodes.filter(({ situation }) => situation.kind === 'lost').length;
  const held = nodes.filter(
    ({ node, situation }) => node.claim.kind === 'held' && situation.kind !== 'lost',
  ).length;
  const message = `${held} of ${total} machines are allocated`;
  if (lost > 0) return ['False', 'Degraded', `${lost} machines are no longer ours in MAAS`];
  const stranger = nodes.find((entry) => isEstranged(entry, observed));
  if (stranger)
    return [
      'False',
      'Degraded',
      `MAAS no longer has the machine of ${stranger.node.name} as ours, although the node still runs: replace it`,
    ];
  return held >= total ? ['True', 'Succeeded', message] : ['False', 'WaitingForMachines', message];
}

/** Deleted or released in MAAS under a Node that is still there; without a Node the machine counts as lost. */
function isEstranged({ node, situation }: NodeSituation, observed: Observed): boolean {
  const { claim } = node;
  if (claim.kind !== 'held' || !('node' in situation)) return false;
  const reading = observed.machines.get(claim.systemId);
  if (reading === undefined || reading.at < claim.since) return false;
  return reading.machine?.owner === undefined || isStampedByAnother(reading.machine, claim.stamp);
}

function endpointReady(record: ClusterRecord): Verdict {
  const address = endpointAddress(record.endpoint);
  if (address) return ['True', 'Succeeded', `${address.host}:${address.port}`];
  if (record.endpoint.kind === 'released') return ['False', 'ReleasingMachines', 'the address was released'];
  return ['False', 'WaitingForEndpoint', 'the address is not reserved yet'];
}

const RUNNING_OS: ReadonlySet<string> = new Set(['booted', 'joined', 'ready', 'unobserved', 'vanished']);

function infrastructure(document: ClusterDocument, nodes: readonly NodeSituation[]): Verdict {
  const total = wanted(document);
  const unknown = nodes.filter(({ situation }) => situation.kind === 'unknown').length;
  const up = nodes.filter(({ situation }) => RUNNING_OS.has(situation.kind)).length;
  const failed = nodes.find(({ node }) => node.failure !== undefined);
  if (failed) return ['False', 'Failed', `${failed.node.name}: ${failed.node.failure?.message ?? ''}`];
  const message = `${up} of ${total} machines run their operating system`;
  if (up >= total) return ['True', 'Succeeded', message];
  return unknown > 0
    ? ['Unknown', 'Stale', `${unknown} machines were not observed recently`]
    : ['False', 'WaitingForDeploy', message];
}

function initialized(record: ClusterRecord): Verdict {
  return record.initializedAt === undefined
    ? ['False', 'WaitingForBootstrap', 'no API server is configured yet']
    : ['True', 'Succeeded', 'the first API server was configured'];
}

function packs({ document, record, observed }: Scene, layer: 'cni' | 'addon'): Verdict {
  const own = wantedPacks(document).filter((pack) => pack.layer === layer);
  if (own.length === 0) return ['True', 'NotRequested', 'the profile has none'];
  const waiting = own.filter((pack) => record.packs[pack.name]?.readyAt === undefined);
  const [first] = waiting;
  if (!first && observed.kube.kind === 'unreachable') return ['Unknown', 'Unreachable', observed.kube.reason];
  if (!first) return ['True', 'Succeeded', `${own.map((pack) => pack.name).join(', ')} available`];
  const task = record.packs[first.name]?.task;
  if (task?.error) return ['False', 'Failed', task.error.message];
  const reason = record.initializedAt === undefined ? 'WaitingForControlPlane' : 'InProgress';
  return ['False', reason, `${first.name} is not available yet`];
}

function nodesReady(
  scene: Scene,
  nodes: readonly NodeSituation[],
  role: 'control-plane' | 'worker',
): Verdict {
  const { document, record, observed } = scene;
  const total = wanted(document, role);
  if (total === 0) return ['True', 'NotRequested', 'no such nodes wanted'];
  const own = nodes.filter(({ node }) => node.role === role);
  const ready = own.filter(({ situation }) => situation.kind === 'ready').length;
  const message = `${ready} of ${total} nodes are Ready`;
  const alarm = role === 'control-plane' ? describeAlarms(observed.etcdAlarms) : undefined;
  if (alarm !== undefined)
    return ['False', 'Degraded', `${message}; ${alarm}; ${alarmFix(observed.etcdAlarms)}`];
  const trouble = role === 'control-plane' ? controlPlaneTrouble(scene) : undefined;
  if (ready >= total && trouble !== undefined) return ['False', 'Degraded', `${message}; ${trouble}`];
  const unread = observed.kube.kind === 'reachable' ? observed.kube.componentsUnread : undefined;
  if (ready >= total && role === 'control-plane' && unread !== undefined)
    return ['Unknown', 'Unreachable', `${message}; its static pods cannot be read: ${unread}`];
  if (ready >= total) return ['True', 'Succeeded', message];
  if (record.initializedAt !== undefined && observed.kube.kind !== 'reachable')
    return ['Unknown', 'Unreachable', 'the API server does not answer'];
  const sick = remedies(scene).filter(({ entry }) => entry.node.role === role);
  const stopped = sick.find(({ remedy }) => remedy.kind === 'stop') ?? sick[0];
  if (stopped) {
    const { entry, remedy } = stopped;
    const name = entry.node.name;
    if (remedy.kind === 'act') return ['False', 'Remediating', `${message}; ${name} is repaired`];
    return [
      'False',
      remedy.kind === 'stop' ? 'Degraded' : 'Remediating',
      `${message}; ${name}: ${remedy.why}`,
    ];
  }
  return [
    'False',
    record.initializedAt === undefined ? 'WaitingForControlPlane' : 'WaitingForNodes',
    trouble === undefined ? message : `${message}; ${trouble}`,
  ];
}

/** What is wrong although all nodes may be Ready, and what to do. */
function controlPlaneTrouble(scene: Scene): string | undefined {
  const [fault] = stayingFaults(scene.observed.kube, scene.nodes);
  if (fault) return `${describeFault(fault)}: ${faultFix(fault)}`;
  const stray = strayTrouble(scene);
  return stray && `${stray.message}. ${stray.fix}`;
}

function certificates({ record, document, observed: { now } }: Scene): Verdict {
  const policy = document.spec.policies.certificates;
  const expires = record.certificatesExpireAt;
  if (record.pki === undefined) return ['Unknown', 'Pending', 'no keys yet'];
  if (expires === undefined) return ['True', 'Succeeded', 'made by the gateway'];
  const failed = record.nodes.find(({ renewal }) => renewal !== undefined)?.renewal;
  const end = `first certificate expires ${new Date(expires).toISOString()}`;
  const text = failed === undefined ? end : `${end}; ${failed.error.message}`;
  if (expires <= now) return ['False', 'Failed', text];
  const soon = expires - now < warnBeforeMs(policy);
  if (soon && !policy.renewInPlace) return ['True', 'Expiring', `${text}; ${RENEW_BY_HAND}`];
  return ['True', soon || failed !== undefined ? 'Expiring' : 'Succeeded', text];
}

function available(record: ClusterRecord, observed: Observed): Verdict {
  if (record.initializedAt === undefined) return ['False', 'WaitingForControlPlane', 'no API server yet'];
  switch (observed.kube.kind) {
    case 'none':
      return ['False', 'WaitingForControlPlane', 'no API server yet'];
    case 'unreachable':
      return ['Unknown', 'Unreachable', observed.kube.reason];
    case 'reachable':
      return observed.kube.endpoint
        ? ['True', 'Succeeded', 'the API answers through the endpoint']
        : ['False', 'WaitingForEndpoint', 'the API answers on a node, but not through the endpoint'];
  }
}

function upToDate(scene: Scene): Verdict {
  const { document, nodes } = scene;
  const rollout = rolloutPlan(scene);
  if (rollout) {
    const lacking = missingSpare(scene);
    if (lacking) return ['False', 'WaitingForMachines', lacking.message];
    const message = `${rollout.steps.length} nodes are to be replaced`;
    const trouble = describeAlarms(scene.observed.etcdAlarms) ?? scene.blockingFaults.map(describeFault)[0];
    if (rollout.approved && trouble !== undefined)
      return ['False', 'WaitingForControlPlane', `${message}; ${trouble}`];
    return ['False', rollout.approved ? 'RollingOut' : 'WaitingForApproval', message];
  }
  for (const pool of document.spec.pools) {
    const count = nodes.filter(({ node }) => node.pool === pool.name && node.intent.kind === 'keep').length;
    if (count < pool.size)
      return ['False', 'ScalingUp', `pool ${pool.name} has ${count} of ${pool.size} nodes`];
    if (count > pool.size)
      return ['False', 'ScalingDown', `pool ${pool.name} has ${count} nodes, ${pool.size} wanted`];
  }
  if (nodes.some(({ node }) => node.intent.kind === 'remove'))
    return ['False', 'ScalingDown', 'nodes are leaving'];
  return ['True', 'Succeeded', 'every node runs the wanted specification'];
}

function deleting(record: ClusterRecord, nodes: readonly NodeSituation[]): Verdict {
  switch (record.stage.kind) {
    case 'deleting': {
      const left = nodes.filter(
        ({ situation }) => situation.kind !== 'released' && situation.kind !== 'unclaimed',
      ).length;
      return [
        'True',
        record.stage.reason === 'abort' ? 'Aborting' : 'ReleasingMachines',
        left === 0 && doubtsOf(record).length > 0
          ? 'MAAS may still carry out an allocation whose answer was lost'
          : `${left} machines are still to be released`,
      ];
    }
    case 'deleted':
      return ['True', 'Succeeded', 'deleted'];
    case 'provisioning':
    case 'running':
      return ['False', 'NotRequested', ''];
  }
}
