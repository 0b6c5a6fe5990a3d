/**
 * The gateway's working record of one cluster, kept in the collection `clusters` under the cluster's id.
 * It holds what cannot be observed: keys, intents, names, attempts. What can be observed (machine states,
 * Nodes) is never stored, so a restart cannot believe old facts. Times are milliseconds of the wall clock.
 */
import type { ClusterStatus } from '../contract/cluster.ts';
import type { ProblemDetails } from '../contract/errors.ts';
import type { InventoryEntry } from '../kube/inventory.ts';
import type { ClusterPki } from '../kube/pki.ts';
import type { Stamp } from './ownership.ts';

/** A node's hold on a MAAS machine. Each variant holds exactly what exists in it. */
export type Claim =
  | { readonly kind: 'none' }
  /** Written before allocate is called: whatever became of the call is found by this stamp. */
  | { readonly kind: 'claiming'; readonly systemId: string; readonly stamp: Stamp; readonly since: number }
  | {
      readonly kind: 'held';
      readonly systemId: string;
      readonly hostname: string;
      readonly zone: string;
      readonly stamp: Stamp;
      readonly since: number;
    }
  | {
      readonly kind: 'releasing';
      readonly systemId: string;
      readonly hostname: string;
      readonly zone: string;
      readonly stamp: Stamp;
      readonly since: number;
    }
  | { readonly kind: 'released'; readonly systemId: string; readonly hostname: string; readonly at: number };

/**
 * An agent name under which MAAS may hold, or may still take, machines that no node has: an answer of allocate was
 * lost, or it was not the machine that was wanted. The cluster is not deleted before every doubt is settled.
 */
export interface Doubt {
  readonly stamp: Stamp;
  /** The machine that was asked for. */
  readonly systemId: string;
  /** MAAS may carry out a call whose answer was lost until then. */
  readonly until: number;
  /** Seen under the name; kept because MAAS forgets the name when a release begins. */
  readonly machines: readonly string[];
}

export type RemovalReason = 'scale-down' | 'outdated' | 'failed' | 'requested' | 'unhealthy' | 'lost';

export type NodeIntent =
  | { readonly kind: 'keep' }
  /** Leaves the cluster: cordon, drain, etcd member, release, Node object; then the record goes too. */
  | { readonly kind: 'remove'; readonly reason: RemovalReason; readonly since: number };

export const NODE_TASKS = ['allocate', 'deploy', 'bootstrap', 'node-ready', 'drain', 'release'] as const;
export type NodeTask = (typeof NODE_TASKS)[number];
export const CLUSTER_TASKS = [
  'check-placement',
  'reserve-endpoint',
  'initialize-control-plane',
  'apply-cni',
  'apply-addons',
  'release-endpoint',
] as const;
export type ClusterTask = (typeof CLUSTER_TASKS)[number];

export interface TaskRecord {
  readonly state: 'running' | 'waiting' | 'retrying' | 'succeeded' | 'failed' | 'cancelled';
  readonly attempt: number;
  readonly startedAt: number;
  readonly finishedAt?: number;
  readonly nextAttemptAt?: number;
  readonly waitingFor?: string;
  readonly error?: ProblemDetails;
}

export interface NodeToken {
  readonly id: string;
  readonly secret: string;
  /** When the API server learnt it: the node's turn to join. */
  readonly grantedAt?: number;
  readonly expiresAt?: number;
  readonly revokedAt?: number;
}

export interface NodeRecord {
  readonly name: string;
  readonly pool: string;
  readonly role: 'control-plane' | 'worker';
  readonly createdAt: number;
  /** The node that runs `kubeadm init`. Only while the control plane is not initialised. */
  readonly init: boolean;
  readonly intent: NodeIntent;
  readonly claim: Claim;
  readonly token: NodeToken;
  /** What the machine was deployed with; differs from the wanted template = outdated. */
  readonly template?: string;
  readonly kubernetesVersion?: string;
  /** MAAS event id at the time of deploy: older events belong to the machine's earlier lives. */
  readonly deployEventsAfter?: number;
  /** Set by the observation that saw it first; never unset. */
  readonly deployedAt?: number;
  readonly joinedAt?: number;
  readonly readyAt?: number;
  readonly unhealthySince?: number;
  /** Its Node shows the identity of another machine; said once. */
  readonly clonedSince?: number;
  readonly powerCycledAt?: number;
  readonly drainedAt?: number;
  readonly etcdRemovedAt?: number;
  /** First end of the certificates that its API server and etcd member showed last. */
  readonly certificatesExpireAt?: number;
  /** Renewing them failed; `run` names the attempt. */
  readonly renewal?: { readonly run: string; readonly error: ProblemDetails };
  readonly maintenance: boolean;
  readonly tasks: Partial<Record<NodeTask, TaskRecord>>;
  /** The machine failed for this reason; evidence is in the events. */
  readonly failure?: ProblemDetails;
}

export type EndpointRecord =
  | { readonly kind: 'none' }
  /** Written before MAAS is asked for this address. */
  | { readonly kind: 'reserving'; readonly ip: string; readonly subnetCidr: string }
  | {
      readonly kind: 'vip';
      readonly host: string;
      readonly port: number;
      readonly subnetCidr: string;
    }
  | {
      readonly kind: 'dns';
      readonly host: string;
      readonly port: number;
      readonly addresses: readonly string[];
    }
  | { readonly kind: 'external'; readonly host: string; readonly port: number }
  | { readonly kind: 'released' };

export interface PackRecord {
  /** Hash of what was applied. */
  readonly hash: string;
  readonly appliedAt: number;
  readonly readyAt?: number;
  readonly task: TaskRecord;
  /** What it has put into the cluster, or was about to: what leaves it is taken away. */
  readonly inventory?: readonly InventoryEntry[];
}

export type Stage =
  | { readonly kind: 'provisioning'; readonly since: number }
  | { readonly kind: 'running'; readonly since: number }
  | { readonly kind: 'deleting'; readonly since: number; readonly reason: 'delete' | 'abort' | 'force' }
  | { readonly kind: 'deleted'; readonly at: number };

export interface RolloutRecord {
  /** Hash of what would move; an approval names it. */
  readonly plan: string;
  readonly approvedAt?: number;
}

export interface ClusterRecord {
  readonly schema: 1;
  readonly id: string;
  readonly name: string;
  readonly account: string;
  readonly createdAt: number;
  /** Newest generation acted upon. */
  readonly generation: number;
  readonly stage: Stage;
  readonly pki?: ClusterPki;
  readonly endpoint: EndpointRecord;
  /** MAAS was asked for machines of an earlier life of this cluster and knew none. */
  readonly originCheckedAt?: number;
  /** The same when everything had been released. */
  readonly strayCheckedAt?: number;
  readonly placementCheckedAt?: number;
  /** What nodes reach without a proxy; as of that check, so that a repeated deploy sends the same text. */
  readonly machineNetworks?: readonly string[];
  readonly initializedAt?: number;
  readonly rightsGrantedAt?: number;
  readonly nodes: readonly NodeRecord[];
  readonly doubts?: readonly Doubt[];
  readonly tasks: Partial<Record<ClusterTask, TaskRecord>>;
  readonly packs: Readonly<Record<string, PackRecord>>;
  /** Failed machines replaced since provisioning began or since the last `retry`. */
  readonly replacements: number;
  /** The last `retry`: machines whose installation began before it are not counted any more. */
  readonly retriedAt?: number;
  /** Ids of one-off actions that were acted on, newest last. */
  readonly actions: readonly string[];
  readonly rollout?: RolloutRecord;
  /** The Kubernetes version of the stored kubeadm configuration: what joining nodes must have. */
  readonly controlPlaneVersion?: string;
  /** etcd was saved before the upgrade to this version, as this generation wants it. */
  readonly savedBefore?: { readonly version: string; readonly generation: number };
  /** Written before that configuration is: what it says may be of a version that nobody wants any more. */
  readonly preparing?: true;
  /** Hash of the settings in that configuration (`sharedSettings`). */
  readonly controlPlaneSettings?: string;
  /** kube-proxy and CoreDNS were moved to what belongs to this version. */
  readonly addonsVersion?: string;
  readonly certificatesExpireAt?: number;
  readonly certificatesCheckedAt?: number;
  /** That the first end is near was said. */
  readonly certificatesWarned?: boolean;
  readonly rotateRequestedAt?: number;
  /** The etcd member of no machine that is being removed: what was known of it was told. */
  readonly strayMember?: string;
  readonly policies: Readonly<Record<string, PolicyRecord>>;
  readonly velero?: VeleroRecord;
  /** Why it is Failed; cleared by progress, `retry` or a new generation. */
  readonly problem?: ProblemDetails;
  /** Key of the step that failed with `problem`; its success clears it. */
  readonly problemStep?: string;
  readonly leftovers: ClusterStatus['leftovers'];
}

/** What Velero was told, so that a change of it is told again and its end is taken away. */
export interface VeleroRecord {
  /** Of target, credentials, schedule and what is saved; empty until Velero has accepted it. */
  readonly hash: string;
  readonly inventory: readonly InventoryEntry[];
  /** Newest backup of the Schedule that was reported. */
  readonly lastScheduled?: string;
}

export interface PolicyRecord {
  readonly state: TaskRecord['state'];
  /** Asked for by the user, outside its schedule. */
  readonly requestedAt?: number;
  /** What a requested restore brings back. */
  readonly restore?: { readonly backup: string; readonly namespaces: readonly string[] };
  /** Backups that are to be deleted: each run takes the first. */
  readonly doomed?: readonly string[];
  readonly lastRunAt?: number;
  readonly startedAt?: number;
  /** Patching begins no further node after this. */
  readonly windowEndsAt?: number;
  readonly summary: Readonly<Record<string, unknown>>;
  readonly error?: ProblemDetails;
}

export const ACTIONS_KEPT = 200;

export function newClusterRecord(input: {
  id: string;
  name: string;
  account: string;
  generation: number;
  now: number;
}): ClusterRecord {
  return {
    schema: 1,
    id: input.id,
    name: input.name,
    account: input.account,
    createdAt: input.now,
    generation: input.generation,
    stage: { kind: 'provisioning', since: input.now },
    endpoint: { kind: 'none' },
    nodes: [],
    tasks: {},
    packs: {},
    replacements: 0,
    actions: [],
    policies: {},
    leftovers: [],
  };
}

export function findNode(record: ClusterRecord, name: string): NodeRecord | undefined {
  return record.nodes.find((node) => node.name === name);
}

/** The record with one node changed; unchanged when there is no such node (it was removed meanwhile). */
export function withNode(
  record: ClusterRecord,
  name: string,
  change: (node: NodeRecord) => NodeRecord,
): ClusterRecord {
  return { ...record, nodes: record.nodes.map((node) => (node.name === name ? change(node) : node)) };
}

/** The node is to leave. An earlier drain, for maintenance, does not count: it may carry workloads again. */
export function leavingNode(node: NodeRecord, reason: RemovalReason, since: number): NodeRecord {
  if (node.intent.kind === 'remove') return node;
  const { drainedAt: _earlier, ...rest } = node;
  return { ...rest, intent: { kind: 'remove', reason, since } };
}

/** The MAAS machine that a node holds, is trying to hold, or is giving back. */
export function heldSystemId(node: NodeRecord): string | undefined {
  switch (node.claim.kind) {
    case 'none':
    case 'released':
      return undefined;
    case 'claiming':
    case 'held':
    case 'releasing':
      return node.claim.systemId;
  }
}

/** host:port of the API server for clients and nodes. */
export function endpointAddress(endpoint: EndpointRecord): { host: string; port: number } | undefined {
  switch (endpoint.kind) {
    case 'vip':
    case 'dns':
    case 'external':
      return { host: endpoint.host, port: endpoint.port };
    case 'none':
    case 'reserving':
    case 'released':
      return undefined;
  }
}

/** Starts a task or its next attempt. */
export function startTask(previous: TaskRecord | undefined, now: number): TaskRecord {
  if (previous?.state === 'running' || previous?.state === 'waiting') return previous;
  const again = previous?.state === 'retrying' || previous?.state === 'failed';
  return {
    state: 'running',
    attempt: again ? previous.attempt + 1 : 1,
    startedAt: again ? previous.startedAt : now,
  };
}

export function finishTask(previous: TaskRecord | undefined, now: number): TaskRecord {
  if (previous?.state === 'succeeded') return previous;
  return {
    state: 'succeeded',
    attempt: previous?.attempt ?? 1,
    startedAt: previous?.startedAt ?? now,
    finishedAt: now,
  };
}

export function failTask(
  previous: TaskRecord | undefined,
  now: number,
  error: ProblemDetails,
  nextAttemptAt?: number,
): TaskRecord {
  const base = { attempt: previous?.attempt ?? 1, startedAt: previous?.startedAt ?? now, error };
  return nextAttemptAt === undefined
    ? { ...base, state: 'failed', finishedAt: now }
    : { ...base, state: 'retrying', nextAttemptAt };
}
