/**
 * Empties a node by evictions, one pass at a time: the caller decides how long to go on and when to force. A pass
 * lists the node's pods anew, so it is safe after any crash. PodDisruptionBudgets are respected unless forced.
 */
import { PcgError } from '../base/errors.ts';
import type { KubeClient, KubeObject } from './client.ts';
import { asRecord, asText, readStatus, statusError } from './errors.ts';

/** Pause between passes. */
export const DRAIN_PAUSE_MS = 10_000;
/** Evictions under way at once: enough to be quick, few enough not to flood admission webhooks. */
const PARALLEL_EVICTIONS = 8;
/** Nobody on an unreachable node can end a pod gracefully. */
const UNREACHABLE_GRACE_SECONDS = 1;
const FORCED_GRACE_SECONDS = 30;
/** Label of Cluster API, which people may know: `skip` leaves a pod, `wait-completed` waits for its end. */
const DRAIN_LABEL = 'cluster.x-k8s.io/drain';

export interface DrainOptions {
  /** The node's Ready condition is Unknown: its pods cannot report their end. */
  readonly unreachable: boolean;
  /** Deletes pods instead of asking; for when the patience is over. */
  readonly force: boolean;
  /** Wall clock, milliseconds. */
  readonly nowMs: number;
  /** Pods that only a person may end, not even force does. */
  readonly hold?: HoldRules;
}

export interface HoldRules {
  /** Pods without a controller. */
  readonly unmanaged: boolean;
  /** Pods with an emptyDir or a volume that lies on the node. */
  readonly localData: boolean;
}

/** A pod; a volume attachment has the namespace `volumeattachments`. */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
}

export type DrainOutcome =
  /** Nothing is left that would have to go. */
  | { readonly kind: 'drained' }
  | {
      readonly kind: 'draining';
      /** Pods that are ending or were just evicted. */
      readonly leaving: readonly PodName[];
      /** Pods that something holds back, with the reason in the cluster's words. */
      readonly blocked: readonly (PodName & { readonly reason: BlockReason; readonly message: string })[];
    };

export type BlockReason =
  /** A PodDisruptionBudget allows no eviction now. */
  | 'disruption-budget'
  /** Several budgets match one pod: the API server refuses for ever. */
  | 'conflicting-budgets'
  /** The pod asked to be waited for. */
  | 'wait-completed'
  /** Nobody would make the pod again. */
  | 'unmanaged'
  /** What the pod has written on the node would be lost. */
  | 'local-data'
  /** The API server is busy. */
  | 'throttled'
  /** The pods are gone, but a storage driver still has a volume of theirs on this node. */
  | 'volume-attached';

/** One pass over all pods of `nodeName`. Throws typed errors when the API server itself fails. */
export async function drainPass(
  client: KubeClient,
  nodeName: string,
  options: DrainOptions,
  signal: AbortSignal,
): Promise<DrainOutcome> {
  const selector = encodeURIComponent(`spec.nodeName=${nodeName}`);
  const { items } = await client.list(`/api/v1/pods?fieldSelector=${selector}`, signal);
  const daemonSets = await existingDaemonSets(client, items, signal);
  const localClaims = options.hold?.localData
    ? await claimsOfLocalVolumes(client, signal)
    : new Set<string>();
  const leaving: PodName[] = [];
  const blocked: (PodName & { reason: BlockReason; message: string })[] = [];
  const evict: KubeObject[] = [];
  for (const pod of items) {
    const verdict = judgePod(pod, daemonSets, options);
    const held = verdict === 'evict' ? heldBack(pod, options.hold, localClaims) : undefined;
    if (held) blocked.push({ ...nameOf(pod), ...held });
    else if (verdict === 'evict') evict.push(pod);
    else if (verdict === 'leaving') leaving.push(nameOf(pod));
    else if (verdict === 'wait')
      blocked.push({ ...nameOf(pod), reason: 'wait-completed', message: 'asks to be waited for' });
  }
  for (let start = 0; start < evict.length; start += PARALLEL_EVICTIONS) {
    const batch = evict.slice(start, start + PARALLEL_EVICTIONS);
    const results = await Promise.all(batch.map((pod) => removePod(client, pod, options, signal)));
    for (const [index, result] of results.entries()) {
      const pod = batch[index];
      if (pod === undefined || result === 'gone') continue;
      if (result === 'leaving') leaving.push(nameOf(pod));
      else blocked.push({ ...nameOf(pod), ...result });
    }
  }
  // On a lost node nobody detaches; by force nobody waits.
  if (leaving.length === 0 && blocked.length === 0 && !options.unreachable && !options.force)
    blocked.push(...(await attachedVolumes(client, nodeName, signal)));
  return leaving.length === 0 && blocked.length === 0
    ? { kind: 'drained' }
    : { kind: 'draining', leaving, blocked };
}

/** A machine that goes with volumes attached makes their next user wait for minutes. */
async function attachedVolumes(client: KubeClient, nodeName: string, signal: AbortSignal) {
  const { items } = await client.list('/apis/storage.k8s.io/v1/volumeattachments', signal);
  return items
    .filter((item) => asRecord(item['spec'])['nodeName'] === nodeName)
    .map((item) => ({
      namespace: 'volumeattachments',
      name: item.metadata.name,
      reason: 'volume-attached' as const,
      message: `volume ${asText(asRecord(asRecord(item['spec'])['source'])['persistentVolumeName'], 'of a pod')} is still attached`,
    }));
}

/** Why a pod waits for a person, by the rules that kubectl drain has without --force and --delete-emptydir-data. */
export function heldBack(
  pod: KubeObject,
  rules: HoldRules | undefined,
  localClaims: ReadonlySet<string>,
): { readonly reason: BlockReason; readonly message: string } | undefined {
  const owners = pod.metadata['ownerReferences'];
  const managed = Array.isArray(owners) && owners.map(asRecord).some(({ controller }) => controller === true);
  if (rules?.unmanaged && !managed)
    return { reason: 'unmanaged', message: 'has no controller that would make it again: delete it yourself' };
  if (!rules?.localData) return undefined;
  const volumes = asRecord(pod['spec'])['volumes'];
  for (const volume of Array.isArray(volumes) ? volumes.map(asRecord) : []) {
    const claim = asText(asRecord(volume['persistentVolumeClaim'])['claimName'], '');
    if (volume['emptyDir'] !== undefined || localClaims.has(`${pod.metadata.namespace}/${claim}`))
      return {
        reason: 'local-data',
        message: `keeps data on the node in volume ${asText(volume['name'])}: move it and delete the pod yourself`,
      };
  }
  return undefined;
}

/** `namespace/claim` of every volume that lies on one node. */
async function claimsOfLocalVolumes(client: KubeClient, signal: AbortSignal): Promise<Set<string>> {
  const { items } = await client.list('/api/v1/persistentvolumes', signal);
  return new Set(
    items.flatMap((volume) => {
      const { local, hostPath, claimRef } = asRecord(volume['spec']);
      const { namespace, name } = asRecord(claimRef);
      return (local ?? hostPath) === undefined ? [] : [`${asText(namespace)}/${asText(name)}`];
    }),
  );
}

type PodVerdict = 'ignore' | 'evict' | 'leaving' | 'wait';

/** What draining has to do about one pod. Pods with local data and pods without controller go too. */
export function judgePod(
  pod: KubeObject,
  daemonSets: ReadonlySet<string>,
  options: Pick<DrainOptions, 'unreachable' | 'force' | 'nowMs'>,
): PodVerdict {
  const { annotations, labels, deletionTimestamp } = pod.metadata;
  const phase = asRecord(pod['status'])['phase'];
  if (phase === 'Succeeded' || phase === 'Failed') return 'ignore';
  if (annotations?.['kubernetes.io/config.mirror'] !== undefined) return 'ignore'; // a static pod: the kubelet's own
  const owner = daemonSetOf(pod);
  // Its DaemonSet would put it back at once; only an orphan has to go.
  if (owner !== undefined && daemonSets.has(owner)) return 'ignore';
  if (labels?.[DRAIN_LABEL] === 'skip') return 'ignore';
  if (deletionTimestamp !== undefined) {
    const endedMs = Date.parse(deletionTimestamp) + UNREACHABLE_GRACE_SECONDS * 1000;
    return options.unreachable && options.nowMs > endedMs ? 'ignore' : 'leaving';
  }
  if (labels?.[DRAIN_LABEL] === 'wait-completed' && !options.force) return 'wait';
  return 'evict';
}

/** `namespace/name` of the owning DaemonSet. */
function daemonSetOf(pod: KubeObject): string | undefined {
  const owners = pod.metadata['ownerReferences'];
  if (!Array.isArray(owners)) return undefined;
  const owner = owners
    .map(asRecord)
    .find((entry) => entry['controller'] === true && entry['kind'] === 'DaemonSet');
  return owner === undefined ? undefined : `${pod.metadata.namespace}/${asText(owner['name'])}`;
}

async function existingDaemonSets(client: KubeClient, pods: readonly KubeObject[], signal: AbortSignal) {
  const named = new Set(pods.flatMap((pod) => daemonSetOf(pod) ?? []));
  const existing = new Set<string>();
  for (const owner of named) {
    const [namespace = '', name = ''] = owner.split('/').map(encodeURIComponent);
    if (await client.get(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`, signal))
      existing.add(owner);
  }
  return existing;
}

type Removal = 'gone' | 'leaving' | { readonly reason: BlockReason; readonly message: string };

async function removePod(
  client: KubeClient,
  pod: KubeObject,
  options: DrainOptions,
  signal: AbortSignal,
): Promise<Removal> {
  const { namespace, name } = nameOf(pod);
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
  const grace = options.unreachable
    ? UNREACHABLE_GRACE_SECONDS
    : options.force
      ? FORCED_GRACE_SECONDS
      : undefined;
  const deleteOptions = {
    ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
    // A StatefulSet's pod of the same name may meanwhile live on another node: that one must stay.
    ...(pod.metadata.uid === undefined ? {} : { preconditions: { uid: pod.metadata.uid } }),
  };
  const answer = options.force
    ? await client.request(
        { method: 'DELETE', path, body: { apiVersion: 'v1', kind: 'DeleteOptions', ...deleteOptions } },
        signal,
      )
    : await client.request(
        {
          method: 'POST',
          path: `${path}/eviction`,
          body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { namespace, name }, deleteOptions },
        },
        signal,
      );
  return judgeAnswer(answer.status, answer.body, `evict ${namespace}/${name}`);
}

function judgeAnswer(status: number, body: unknown, what: string): Removal {
  if (status >= 200 && status <= 299) return 'leaving';
  if (status === 404) return 'gone';
  const said = readStatus(body);
  const because = (reason: string) => said.causes.some((cause) => cause.reason === reason);
  // This pod is gone and another has its name, or it changed under the eviction: the next pass sees which.
  if (status === 409) return 'leaving';
  if (status === 403 && because('NamespaceTerminating')) return 'leaving';
  const budget = said.causes.find((cause) => cause.reason === 'DisruptionBudget');
  // 403 for a budget whose own status is broken. The cause names the budget, the message of 429 does not.
  if ((status === 429 || status === 403) && budget)
    return { reason: 'disruption-budget', message: budget.message === '' ? said.message : budget.message };
  if (status === 429) return { reason: 'throttled', message: said.message };
  // More than one budget for a pod: a bare Status 500. Failures of the server or its webhooks carry causes.
  if (
    status === 500 &&
    said.causes.length === 0 &&
    ['', 'InternalError'].includes(said.reason) &&
    said.message !== ''
  )
    return { reason: 'conflicting-budgets', message: said.message };
  throw statusError(status, body, what);
}

function nameOf(pod: KubeObject): PodName {
  return { namespace: pod.metadata.namespace ?? 'default', name: pod.metadata.name };
}

/** The error for a drain whose time is over: names what blocks. */
export function drainBlocked(
  nodeName: string,
  outcome: Extract<DrainOutcome, { kind: 'draining' }>,
): PcgError {
  const first = outcome.blocked[0];
  const why = first === undefined ? 'pods do not end' : `${first.namespace}/${first.name}: ${first.message}`;
  return new PcgError('DRAIN_BLOCKED', `draining ${nodeName} does not finish: ${why}`, {
    details: { node: nodeName, blocked: outcome.blocked.slice(0, 20), leaving: outcome.leaving.slice(0, 20) },
  });
}
