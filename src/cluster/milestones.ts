/**
 * What an observation teaches the record: the first time a machine was Deployed, a Node joined, a Node was
 * Ready, a machine was given back. Pure: record and picture in, changed record and timeline lines out. A
 * milestone is passed once; a restart cannot pass it again, so every event appears exactly once.
 */
import type { EventDraft } from '../contract/events.ts';
import { clones } from './clones.ts';
import {
  type ClusterRecord,
  finishTask,
  type NodeRecord,
  type NodeTask,
  startTask,
  type TaskRecord,
  withNode,
} from './model.ts';
import type { Observed } from './observed.ts';
import { stampOf, sameStamp } from './ownership.ts';
import { type Situation, situationOf } from './situation.ts';

export interface Duration {
  readonly task: string;
  readonly ms: number;
}

export interface Learned {
  readonly record: ClusterRecord;
  readonly events: readonly Omit<EventDraft, 'cluster'>[];
  /** Finished tasks, for the site's history. */
  readonly durations: readonly Duration[];
}

export function learn(record: ClusterRecord, observed: Observed): Learned {
  const events: Omit<EventDraft, 'cluster'>[] = [];
  const durations: Duration[] = [];
  let next = record;
  const { now } = observed;

  if (record.initializedAt === undefined && observed.kube.kind === 'reachable' && observed.kube.configured) {
    const task = finishTask(record.tasks['initialize-control-plane'], now);
    next = { ...next, initializedAt: now, tasks: { ...next.tasks, 'initialize-control-plane': task } };
    events.push({
      severity: 'info',
      reason: 'ControlPlaneInitialized',
      message: 'the first API server is configured',
    });
  }
  const twins = clones(observed.kube);
  for (const node of record.nodes) {
    const situation = situationOf(node, observed);
    const twin = 'node' in situation ? twins.get(situation.node.name) : undefined;
    const learned = cloned(learnNode(node, situation, observed), situation, twin !== undefined, now);
    if (learned === node) continue;
    next = withNode(next, node.name, () => learned);
    report(node, learned, situation);
    if (twin !== undefined && node.clonedSince === undefined)
      events.push({
        severity: 'warning',
        reason: 'MachineCloned',
        message: twin.message,
        node: node.name,
        error: twin,
      });
  }
  return { record: next, events, durations };

  function report(before: NodeRecord, after: NodeRecord, situation: Situation): void {
    const machine = 'machine' in situation ? situation.machine?.systemId : undefined;
    const say = (reason: string, message: string, task: NodeTask, severity: 'info' | 'warning' = 'info') => {
      const done = after.tasks[task];
      const ms = done?.finishedAt === undefined ? undefined : done.finishedAt - done.startedAt;
      if (ms !== undefined && done?.state === 'succeeded' && before.tasks[task]?.state !== 'succeeded')
        durations.push({ task, ms });
      events.push({
        severity,
        reason,
        message,
        node: after.name,
        task,
        ...(machine === undefined ? {} : { machine }),
        ...(done === undefined ? {} : { attempt: done.attempt }),
        ...(ms === undefined ? {} : { durationMs: ms }),
      });
    };
    if (before.deployedAt === undefined && after.deployedAt !== undefined)
      say('MachineDeployed', `${after.name} runs its operating system`, 'deploy');
    if (before.joinedAt === undefined && after.joinedAt !== undefined)
      say('NodeJoined', `${after.name} joined the cluster`, 'bootstrap');
    if (before.readyAt === undefined && after.readyAt !== undefined)
      say('NodeReady', `${after.name} is Ready`, 'node-ready');
    if (
      before.readyAt !== undefined &&
      before.unhealthySince === undefined &&
      after.unhealthySince !== undefined
    )
      say('NodeNotReady', `${after.name} is no longer Ready`, 'node-ready', 'warning');
    if (before.unhealthySince !== undefined && after.unhealthySince === undefined)
      say('NodeRecovered', `${after.name} is Ready again`, 'node-ready');
    if (before.claim.kind === 'releasing' && after.claim.kind === 'released')
      say('MachineReleased', `${before.claim.hostname} was given back to MAAS`, 'release');
  }
}

function learnNode(node: NodeRecord, situation: Situation, observed: Observed): NodeRecord {
  const { now } = observed;
  switch (situation.kind) {
    case 'booted':
      return deployed(node, now);
    case 'joined':
      return unhealthy(joined(deployed(node, now), now), now);
    case 'ready': {
      const here = joined(deployed(node, now), now);
      const { unhealthySince, powerCycledAt: _cycled, ...healthy } = here;
      const settled = unhealthySince === undefined ? here : healthy;
      if (settled.readyAt !== undefined) return settled;
      return {
        ...settled,
        readyAt: now,
        kubernetesVersion: situation.node.version || settled.kubernetesVersion || '',
        tasks: { ...settled.tasks, 'node-ready': finishTask(settled.tasks['node-ready'], now) },
      };
    }
    case 'vanished':
      return unhealthy(node, now);
    case 'releasing':
      return isReleased(node, observed) ? released(node, now) : node;
    case 'unclaimed':
    case 'claiming':
    case 'unknown':
    case 'lost':
    case 'allocated':
    case 'deploying':
    case 'deploy-failed':
    case 'out-of-order':
    case 'unobserved':
    case 'released':
      return node;
  }
}

/** A Node that is silent or not seen says nothing about its machine. */
function cloned(node: NodeRecord, situation: Situation, isClone: boolean, now: number): NodeRecord {
  if (!('node' in situation) || situation.node.silent || isClone === (node.clonedSince !== undefined))
    return node;
  if (isClone) return { ...node, clonedSince: now };
  const { clonedSince: _ended, ...rest } = node;
  return rest;
}

function deployed(node: NodeRecord, now: number): NodeRecord {
  if (node.deployedAt !== undefined) return node;
  const bootstrap: TaskRecord = startTask(node.tasks.bootstrap, now);
  return {
    ...node,
    deployedAt: now,
    tasks: { ...node.tasks, deploy: finishTask(node.tasks.deploy, now), bootstrap },
  };
}

function joined(node: NodeRecord, now: number): NodeRecord {
  if (node.joinedAt !== undefined) return node;
  return {
    ...node,
    joinedAt: now,
    tasks: {
      ...node.tasks,
      bootstrap: finishTask(node.tasks.bootstrap, now),
      'node-ready': startTask(node.tasks['node-ready'], now),
    },
  };
}

/** Only a node that was Ready once can be unhealthy; before that it is still starting. */
function unhealthy(node: NodeRecord, now: number): NodeRecord {
  return node.readyAt === undefined || node.unhealthySince !== undefined
    ? node
    : { ...node, unhealthySince: now };
}

/** Free again, hidden, or already somebody else's: in each case no longer ours. */
export function isReleased(node: NodeRecord, observed: Observed): boolean {
  const claim = node.claim;
  if (claim.kind !== 'releasing') return false;
  const reading = observed.machines.get(claim.systemId);
  if (reading === undefined || reading.at < claim.since) return false;
  const { machine } = reading;
  if (machine === undefined || machine.owner === undefined) return true;
  return !sameStamp(stampOf(machine), claim.stamp);
}

export function released(node: NodeRecord, now: number): NodeRecord {
  if (node.claim.kind !== 'releasing') return node;
  const { systemId, hostname } = node.claim;
  return {
    ...node,
    claim: { kind: 'released', systemId, hostname, at: now },
    tasks: { ...node.tasks, release: finishTask(node.tasks.release, now) },
  };
}
