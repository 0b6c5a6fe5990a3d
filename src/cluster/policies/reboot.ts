/**
 * Nodes that patching left waiting for a reboot, one at a time: cordon, drain, reboot, a new boot id, Ready, back to
 * work. What is done is written down before it is done, so that a restart goes on in the middle. The round ends at
 * the first node that cannot be drained, does not reboot or does not come back.
 */
import type { KubeClient } from '../../kube/client.ts';
import { drainPass, type HoldRules } from '../../kube/drain.ts';
import { asRecord, asText } from '../../kube/errors.ts';
import { cordonNode } from '../../kube/nodes.ts';
import type { ErrorCode } from '../../contract/errors.ts';
import type { ClusterRecord } from '../model.ts';
import type { KubeNode } from '../observed.ts';
import { rebootJob } from '../policies-manifests.ts';
import { followJob } from '../policy-runs.ts';

/** The node that is away or about to be. */
export interface RebootingNode {
  readonly node: string;
  /** Before the reboot: the answer of the Job that reboots dies with the machine. */
  readonly bootId: string;
  readonly stage: 'drain' | 'reboot';
  /** Wall clock milliseconds at which the stage began. */
  readonly since: number;
  /** Somebody else had cordoned it: it stays so. */
  readonly wasCordoned: boolean;
}

export interface RebootProgress {
  readonly wanting: readonly string[];
  readonly rebooted: readonly string[];
  readonly current?: RebootingNode;
  /** Another node is not Ready since then. */
  readonly waitingSince?: number;
}

export type RebootStep =
  /** `postponed`: the maintenance window closed before their turn. */
  | { readonly kind: 'done'; readonly rebooted: readonly string[]; readonly postponed: readonly string[] }
  | { readonly kind: 'later'; readonly waitingFor: string; readonly progress: RebootProgress }
  | {
      readonly kind: 'failed';
      readonly code: ErrorCode;
      readonly message: string;
      readonly progress: RebootProgress;
    };

export interface RebootOptions {
  readonly run: string;
  /** Wall clock, milliseconds. */
  readonly nowMs: number;
  readonly drainDeadlineMs: number;
  /** From the order to reboot to Ready again; servers test their memory for minutes. */
  readonly rebootDeadlineMs: number;
  /** The maintenance window is over: no further node is begun. */
  readonly closed: boolean;
  /** Pods that only a person may end: they keep their node from its reboot. */
  readonly hold: HoldRules;
  /** Name of an etcd member that is not healthy; asked before a control-plane node goes away. */
  readonly sickMember: () => Promise<string | undefined>;
}

const texts = (value: unknown) =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];

export function readRebootProgress(value: unknown): RebootProgress {
  const { wanting, rebooted, current, waitingSince } = asRecord(value);
  const known = readCurrent(current);
  return {
    wanting: texts(wanting),
    rebooted: texts(rebooted),
    ...(known === undefined ? {} : { current: known }),
    ...(typeof waitingSince === 'number' ? { waitingSince } : {}),
  };
}

function readCurrent(value: unknown): RebootingNode | undefined {
  const { node, bootId, stage, since, wasCordoned } = asRecord(value);
  if (typeof node !== 'string' || typeof since !== 'number') return undefined;
  return {
    node,
    bootId: asText(bootId),
    stage: stage === 'reboot' ? 'reboot' : 'drain',
    since,
    wasCordoned: wasCordoned === true,
  };
}

/** The Node that patching is rebooting now: it is away on purpose. */
export function rebootingNode(record: ClusterRecord): RebootingNode | undefined {
  const patching = record.policies['patching'];
  if (patching?.state !== 'running') return undefined;
  const { current } = readRebootProgress(patching.summary['reboots']);
  return current?.stage === 'reboot' ? current : undefined;
}

export async function rebootNodes(
  client: KubeClient,
  nodes: readonly KubeNode[],
  progress: RebootProgress,
  options: RebootOptions,
  signal: AbortSignal,
): Promise<RebootStep> {
  const { current, wanting, rebooted } = progress;
  if (current === undefined) return beginNext(nodes, progress, options);
  const node = nodes.find(({ name }) => name === current.node);
  if (!node) return later(`${current.node} has left`, { wanting: without(wanting, current.node), rebooted });
  if (current.stage === 'drain') return await drain(client, node, current, progress, options, signal);
  return await reboot(client, node, current, progress, options, signal);
}

function beginNext(nodes: readonly KubeNode[], progress: RebootProgress, options: RebootOptions): RebootStep {
  const { wanting, rebooted } = progress;
  const { nowMs } = options;
  const [next] = wanting;
  if (next === undefined || options.closed) return { kind: 'done', rebooted, postponed: wanting };
  const node = nodes.find(({ name }) => name === next);
  if (!node) return later(`${next} has left`, { wanting: without(wanting, next), rebooted });
  // Never more than one node away: whoever is not Ready comes back first.
  const sick = nodes.find(({ ready }) => !ready);
  if (sick) {
    const waitingSince = progress.waitingSince ?? nowMs;
    if (nowMs - waitingSince > options.rebootDeadlineMs)
      return failed('NODE_UNHEALTHY', `${sick.name} is not Ready: ${next} was not rebooted`, progress);
    return later(`${sick.name} to be Ready`, { ...progress, waitingSince });
  }
  const current: RebootingNode = {
    node: next,
    bootId: node.bootId ?? '',
    stage: 'drain',
    since: nowMs,
    wasCordoned: node.unschedulable,
  };
  return later(`${next} to be drained`, { wanting, rebooted, current });
}

async function drain(
  client: KubeClient,
  node: KubeNode,
  current: RebootingNode,
  progress: RebootProgress,
  options: RebootOptions,
  signal: AbortSignal,
): Promise<RebootStep> {
  const { name } = node;
  const { nowMs, hold } = options;
  await cordonNode(client, name, true, signal);
  const pass = await drainPass(client, name, { unreachable: false, force: false, nowMs, hold }, signal);
  const late = nowMs - current.since > options.drainDeadlineMs;
  if (pass.kind === 'draining') {
    const [blocked] = pass.blocked;
    const why = blocked
      ? `${blocked.namespace}/${blocked.name}: ${blocked.message}`
      : `${pass.leaving.length} pods are leaving ${name}`;
    if (!late) return later(why, progress);
    await backToWork(client, current, signal);
    return failed('DRAIN_BLOCKED', `${name} could not be drained: ${why}`, progress);
  }
  const sick = node.controlPlane ? await options.sickMember() : undefined;
  if (sick === undefined)
    return later(`${name} to reboot`, {
      ...progress,
      current: { ...current, stage: 'reboot', since: nowMs },
    });
  if (!late) return later(`etcd member ${sick} to be healthy`, progress);
  await backToWork(client, current, signal);
  return failed(
    'ETCD_QUORUM_AT_RISK',
    `${name} was not rebooted: etcd member ${sick} is not healthy`,
    progress,
  );
}

async function reboot(
  client: KubeClient,
  node: KubeNode,
  current: RebootingNode,
  progress: RebootProgress,
  options: RebootOptions,
  signal: AbortSignal,
): Promise<RebootStep> {
  const { name } = node;
  const late = options.nowMs - current.since > options.rebootDeadlineMs;
  if (node.bootId !== current.bootId && node.ready) {
    await backToWork(client, current, signal);
    const { wanting, rebooted } = progress;
    return later('the next node', { wanting: without(wanting, name), rebooted: [...rebooted, name] });
  }
  // From here on it stays cordoned when it fails: nobody knows what state it is in.
  if (node.bootId !== current.bootId)
    return late
      ? failed('NODE_UNHEALTHY', `${name} did not become Ready after its reboot`, progress)
      : later(`${name} to be Ready again`, progress);
  if (late) return failed('NODE_UNHEALTHY', `${name} did not reboot`, progress);
  const job = await followJob(client, [rebootJob({ id: options.run }, name)], signal);
  if (job.kind !== 'failed') return later(`${name} to reboot`, progress);
  if (!node.ready) return later(`${name} to reboot`, progress); // the machine took its Job with it
  await backToWork(client, current, signal);
  return failed('NODE_UNHEALTHY', `${name} could not be told to reboot: ${job.why}`, progress);
}

async function backToWork(client: KubeClient, current: RebootingNode, signal: AbortSignal): Promise<void> {
  if (!current.wasCordoned) await cordonNode(client, current.node, false, signal);
}

const without = (names: readonly string[], name: string) => names.filter((other) => other !== name);

function later(waitingFor: string, progress: RebootProgress): RebootStep {
  return { kind: 'later', waitingFor, progress };
}

function failed(code: ErrorCode, message: string, progress: RebootProgress): RebootStep {
  return { kind: 'failed', code, message, progress };
}
