/**
 * Applies a set of objects the way a careful administrator would: what others depend on first, CRDs until they
 * are established, custom resources last, waiting for kinds and webhooks that are still starting. Server-side
 * apply with one field manager per pack, so that applying again changes nothing. Neighbours: inventory.ts
 * (what left the set is pruned), readiness.ts (when it works).
 */
import { type Backoff, backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { KubeClient, KubeObject } from './client.ts';
import { describeObject } from './http.ts';
import { judgeReadiness } from './readiness.ts';
import { builtinKind, objectPath } from './resources.ts';

export interface ApplyOptions {
  readonly clock: Clock;
  /** At most 128 printable characters, e.g. `pcg-bootstrapper/flannel`. */
  readonly fieldManager: string;
  /** Takes fields over from other managers: for the first adoption only, later it hides drift. */
  readonly force?: boolean;
}

/** CRDs appear in discovery a moment after they are established, webhooks need their pods: this long at most. */
const RETRY_FOR_MS = 5 * 60 * 1000;
const RETRY: Backoff = { baseMs: 500, capMs: 10_000 };
/** How often a CRD is looked at until it is established; it takes well under a second. */
const CRD_POLL_MS = 250;
const CRD_TIMEOUT_MS = 60_000;

const PHASES: readonly (readonly string[])[] = [
  ['Namespace', 'PriorityClass', 'RuntimeClass'],
  ['CustomResourceDefinition'],
  ['StorageClass', 'CSIDriver', 'IngressClass', 'PersistentVolume'],
  ['ServiceAccount', 'ClusterRole', 'Role'],
  ['ClusterRoleBinding', 'RoleBinding'],
  ['ConfigMap', 'Secret', 'LimitRange', 'ResourceQuota', 'PersistentVolumeClaim', 'Service', 'Endpoints'],
  ['NetworkPolicy', 'PodDisruptionBudget'],
  [
    'DaemonSet',
    'Deployment',
    'StatefulSet',
    'ReplicaSet',
    'Pod',
    'Job',
    'CronJob',
    'HorizontalPodAutoscaler',
    'Ingress',
  ],
  ['APIService'],
  [
    'MutatingWebhookConfiguration',
    'ValidatingWebhookConfiguration',
    'ValidatingAdmissionPolicy',
    'ValidatingAdmissionPolicyBinding',
  ],
];

/** The objects in an order in which each finds what it needs; kinds that nobody knows (custom resources) come last. */
export function inApplyOrder(objects: readonly KubeObject[]): KubeObject[] {
  const rank = (object: KubeObject) => {
    // A custom resource may be called Service too: only kinds of Kubernetes' own groups have a phase.
    if (builtinKind(object.apiVersion, object.kind) === undefined) return PHASES.length;
    const phase = PHASES.findIndex((kinds) => kinds.includes(object.kind));
    return phase === -1 ? PHASES.length - 1 : phase;
  };
  return objects
    .map((object, index) => ({ object, index, rank: rank(object) }))
    .sort((a, b) => a.rank - b.rank || a.index - b.index)
    .map(({ object }) => object);
}

/**
 * Applies all objects in order; returns them as the server has them. Throws the first error that waiting does
 * not cure. Safe to repeat after any failure.
 */
export async function applyObjects(
  client: KubeClient,
  objects: readonly KubeObject[],
  options: ApplyOptions,
  signal: AbortSignal,
): Promise<KubeObject[]> {
  const applied: KubeObject[] = [];
  const ordered = inApplyOrder(objects);
  for (const [index, object] of ordered.entries()) {
    applied.push(await applyPatiently(client, object, options, signal));
    const crdsComplete = isCrd(object) && (index + 1 === ordered.length || !isCrd(ordered[index + 1]));
    if (crdsComplete)
      for (const crd of ordered.slice(0, index + 1).filter(isCrd))
        await waitUntilServed(client, crd, options, signal);
  }
  return applied;
}

async function applyPatiently(
  client: KubeClient,
  object: KubeObject,
  options: ApplyOptions,
  signal: AbortSignal,
): Promise<KubeObject> {
  const until = options.clock.monotonic() + RETRY_FOR_MS;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await client.apply(
        object,
        { fieldManager: options.fieldManager, force: options.force ?? false },
        signal,
      );
    } catch (error) {
      if (!curedByWaiting(error) || options.clock.monotonic() >= until) throw error;
    }
    await options.clock.sleep(backoffMs(RETRY, attempt), signal);
  }
}

/**
 * A kind or namespace that is not there yet, a webhook that does not answer yet (the API server says 500
 * InternalError for it), an overloaded server. A conflict of field managers is none of these.
 */
function curedByWaiting(error: unknown): boolean {
  if (!(error instanceof PcgError)) return false;
  return error.retryable && error.code !== 'KUBE_CONFLICT';
}

async function waitUntilServed(
  client: KubeClient,
  crd: KubeObject,
  options: ApplyOptions,
  signal: AbortSignal,
): Promise<void> {
  const until = options.clock.monotonic() + CRD_TIMEOUT_MS;
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${encodeURIComponent(crd.metadata.name)}`;
  while (true) {
    const current = await client.get(path, signal);
    if (current !== undefined && judgeReadiness(current).kind === 'ready') return;
    if (options.clock.monotonic() >= until)
      throw new PcgError('ADDON_NOT_READY', `${describeObject(crd)} is not established`, {
        details: { object: describeObject(crd) },
      });
    await options.clock.sleep(CRD_POLL_MS, signal);
  }
}

function isCrd(object: KubeObject | undefined): boolean {
  return object?.kind === 'CustomResourceDefinition' && object.apiVersion.startsWith('apiextensions.k8s.io/');
}

export interface Unready {
  /** e.g. `DaemonSet kube-flannel/kube-flannel-ds` */
  readonly object: string;
  readonly why: string;
  /** True when waiting longer cannot help. */
  readonly final: boolean;
}

/** One look at all workloads among the objects: which are not ready, and why. Empty = everything works. */
export async function unreadyObjects(
  client: KubeClient,
  objects: readonly KubeObject[],
  signal: AbortSignal,
): Promise<Unready[]> {
  const unready: Unready[] = [];
  for (const object of objects) {
    const resource = builtinKind(object.apiVersion, object.kind);
    if (resource === undefined || !WATCHED_KINDS.has(object.kind)) continue;
    const current = await client.get(objectPath(resource, object), signal);
    const readiness = current === undefined ? missing : judgeReadiness(current);
    if (readiness.kind !== 'ready')
      unready.push({
        object: describeObject(object),
        why: readiness.why,
        final: readiness.kind === 'failed',
      });
  }
  return unready;
}

const missing = { kind: 'waiting', why: 'it does not exist' } as const;

const WATCHED_KINDS = new Set([
  'Deployment',
  'DaemonSet',
  'StatefulSet',
  'Job',
  'CustomResourceDefinition',
  'APIService',
]);
