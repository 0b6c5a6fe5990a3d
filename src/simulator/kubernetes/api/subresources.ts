/** Subresources that are plain requests: status, scale, eviction, token, approval, log. */
import type { ServerResponse } from 'node:http';
import { signServiceAccountToken } from './authenticate.ts';
import type { ApiCore } from './core.ts';
import { type Json, type KubeObject, isRecord } from './json.ts';
import type { WriteOptions } from './objects.ts';
import { mergePatch, jsonPatch } from './patch.ts';
import type { ApiRequest } from './request.ts';
import { R, type ResourceType } from './resources.ts';
import { matchesSelector } from './selectors.ts';
import { ApiError, badRequest, methodNotAllowed } from './status.ts';

interface Reply {
  readonly code: number;
  readonly object: Json;
}

export async function subresource(
  core: ApiCore,
  request: ApiRequest,
  type: ResourceType,
  name: string,
  options: WriteOptions,
): Promise<Reply> {
  const at = request.target;
  const object = core.objects.get(type, at?.namespace, at?.name ?? '');
  switch (name) {
    case 'scale':
      return scale(core, request, type, object, options);
    case 'eviction':
      return evict(core, request, type, object);
    case 'token':
      return token(core, request, object);
    case 'binding':
      core.edit(R.pods, object.metadata, (pod) => {
        pod.spec.nodeName = request.body?.target?.name;
      });
      return {
        code: 201,
        object: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 },
      };
    case 'finalize': {
      const next = core.edit(type.storage, object.metadata, (draft) => {
        draft.spec = request.body?.spec ?? {};
      });
      return { code: 200, object: next ?? request.body };
    }
    case 'exec':
    case 'attach':
    case 'portforward':
      throw badRequest('Upgrade request required');
    default:
      return plain(core, request, type, object, options);
  }
}

/** status, approval, ephemeralcontainers, resize: the object itself through a narrower door. */
function plain(
  core: ApiCore,
  request: ApiRequest,
  type: ResourceType,
  object: KubeObject,
  options: WriteOptions,
): Reply {
  const { namespace, name } = object.metadata;
  if (request.verb === 'get') return { code: 200, object };
  if (request.verb === 'update')
    return { code: 200, object: core.objects.replace(type, namespace, name, request.body, options) };
  if (request.verb !== 'patch') throw methodNotAllowed();
  const contentType = (request.headers['content-type'] ?? '').split(';')[0] ?? '';
  return { code: 200, object: core.objects.patch(type, namespace, name, contentType, request.body, options) };
}

function scale(
  core: ApiCore,
  request: ApiRequest,
  type: ResourceType,
  object: KubeObject,
  options: WriteOptions,
): Reply {
  const show = (source: KubeObject) => ({
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name: source.metadata.name,
      namespace: source.metadata.namespace,
      uid: source.metadata.uid,
      resourceVersion: source.metadata.resourceVersion,
      creationTimestamp: source.metadata.creationTimestamp,
    },
    spec: { replicas: source.spec?.replicas ?? 0 },
    status: {
      replicas: source.status?.replicas ?? 0,
      selector: Object.entries(source.spec?.selector?.matchLabels ?? {})
        .map(([key, value]) => `${key}=${value}`)
        .join(','),
    },
  });
  if (request.verb === 'get') return { code: 200, object: show(object) };
  let wanted = request.body;
  if (request.verb === 'patch')
    wanted = Array.isArray(request.body)
      ? jsonPatch(show(object), request.body)
      : mergePatch(show(object), request.body);
  const replicas = wanted?.spec?.replicas;
  if (!Number.isInteger(replicas) || replicas < 0)
    throw badRequest('spec.replicas: Invalid value: must be greater than or equal to 0');
  const version = isRecord(request.body) ? request.body.metadata?.resourceVersion : undefined;
  if (version && version !== object.metadata.resourceVersion)
    throw new ApiError(
      409,
      'Conflict',
      `Operation cannot be fulfilled on ${type.plural}.${type.group} "${object.metadata.name}": the object has been modified`,
    );
  const next = core.objects.change(
    type,
    object.metadata.namespace,
    object.metadata.name,
    (draft) => {
      draft.spec.replicas = replicas;
    },
    options,
  );
  return { code: 200, object: show(next ?? object) };
}

/** PDB check as the eviction registry does it: none = delete, one = its allowance, several = 500. */
function evict(core: ApiCore, request: ApiRequest, type: ResourceType, pod: KubeObject): Reply {
  const { body } = request;
  if (body?.kind !== undefined && body.kind !== 'Eviction')
    throw badRequest(`the object is no Eviction but ${body.kind}`);
  const { namespace, name } = pod.metadata;
  if (body?.metadata?.name !== undefined && body.metadata.name !== name)
    throw badRequest('name in URL does not match name in Eviction object');
  const done = {
    code: 201,
    object: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 },
  };
  const deletion = body?.deleteOptions ?? {};
  const finished =
    ['Succeeded', 'Failed'].includes(pod.status?.phase) || pod.metadata.deletionTimestamp !== undefined;
  if (!finished) {
    const budgets = core.store
      .list(R.pdbs, namespace)
      .filter((pdb) => matchesSelector(pdb.spec?.selector, pod.metadata.labels));
    if (budgets.length > 1)
      // A bare Status: the real server gives no reason either.
      throw new ApiError(
        500,
        '',
        'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
      );
    const budget = budgets[0];
    const blocked = core.blockEviction(pod);
    const spared = pod.status?.phase === 'Pending' || (budget !== undefined && isUnguarded(pod, budget));
    const { generation = 0 } = budget?.metadata ?? {};
    const uncounted =
      budget !== undefined && !spared && (budget.status?.observedGeneration ?? 0) < generation;
    if (uncounted)
      throw tooManyEvictions(
        `The disruption budget ${budget.metadata.name} is still being processed by the server.`,
        10,
      );
    if (blocked || (budget && !spared && (budget.status?.disruptionsAllowed ?? 0) <= 0))
      throw tooManyEvictions(
        `The disruption budget ${budget?.metadata.name ?? 'unknown'} needs ${budget?.status?.desiredHealthy ?? 1} healthy pods and has ${budget?.status?.currentHealthy ?? 0} currently`,
      );
    if (budget && !spared && !(deletion.dryRun?.length > 0))
      core.edit(R.pdbs, budget.metadata, (draft) => {
        draft.status.disruptionsAllowed -= 1;
        draft.status.disruptedPods = {
          ...draft.status.disruptedPods,
          [name]: new Date(core.clock.now()).toISOString(),
        };
      });
  }
  core.objects.delete(type, namespace, name, { ...deletion, dryRun: (deletion.dryRun?.length ?? 0) > 0 });
  return done;
}

/** A budget does not keep a pod that is not Ready anyway, as long as it has what it wants without that pod. */
function isUnguarded(pod: KubeObject, { spec, status }: KubeObject): boolean {
  const ready = (pod.status?.conditions ?? []).some(
    (one: Json) => one.type === 'Ready' && one.status === 'True',
  );
  if (ready) return false;
  if (spec?.unhealthyPodEvictionPolicy === 'AlwaysAllow') return true;
  const { currentHealthy = 0, desiredHealthy = 0 } = status ?? {};
  return currentHealthy >= desiredHealthy && desiredHealthy > 0;
}

function tooManyEvictions(cause: string, retryAfterSeconds?: number): ApiError {
  return new ApiError(
    429,
    'TooManyRequests',
    "Cannot evict pod as it would violate the pod's disruption budget.",
    {
      causes: [{ reason: 'DisruptionBudget', message: cause }],
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    },
  );
}

/** Longest lifetime of a token that the server gives out, seconds (a year). */
const MAX_TOKEN_SECONDS = 31_536_000;

function token(core: ApiCore, request: ApiRequest, account: KubeObject): Reply {
  const keys = core.serviceAccountKeys;
  if (!keys) throw new ApiError(500, 'InternalError', 'this API server has no service account key');
  const spec = request.body?.spec ?? {};
  const seconds = Math.min(Math.max(600, spec.expirationSeconds ?? 3600), MAX_TOKEN_SECONDS);
  const now = Math.floor(core.clock.now() / 1000);
  const { namespace, name, uid } = account.metadata;
  const issuer = 'https://kubernetes.default.svc.cluster.local';
  const text = signServiceAccountToken(keys.privateKey, {
    aud: spec.audiences ?? [issuer],
    exp: now + seconds,
    iat: now,
    nbf: now,
    iss: issuer,
    sub: `system:serviceaccount:${namespace}:${name}`,
    'kubernetes.io': { namespace, serviceaccount: { name, uid } },
  });
  const status = {
    token: text,
    expirationTimestamp: new Date((now + seconds) * 1000).toISOString().replace('.000Z', 'Z'),
  };
  return {
    code: 201,
    object: {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name, namespace },
      spec: { audiences: [issuer], expirationSeconds: seconds, ...spec },
      status,
    },
  };
}

export async function servePodLog(
  core: ApiCore,
  request: ApiRequest,
  type: ResourceType,
  response: ServerResponse,
): Promise<void> {
  const { query, target } = request;
  const pod = core.objects.get(type, target?.namespace, target?.name ?? '');
  const container = chooseContainer(pod, query.get('container'));
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const tail = query.get('tailLines');
  if (!core.pods) throw new ApiError(500, 'InternalError', 'no kubelet');
  const lines = core.pods.logs(
    pod,
    {
      container,
      follow: query.get('follow') === 'true',
      previous: query.get('previous') === 'true',
      timestamps: query.get('timestamps') === 'true',
      ...(tail === null ? {} : { tailLines: Number(tail) }),
    },
    gone.signal,
  );
  const iterator = lines[Symbol.asyncIterator]();
  // The first line decides whether the node can be reached at all: an error must still be a Status.
  let next = await iterator.next();
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.flushHeaders();
  while (!next.done && !response.destroyed) {
    response.write(next.value);
    next = await iterator.next();
  }
  response.end();
}

export function chooseContainer(pod: KubeObject, wanted: string | null): string {
  const names = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].map(
    (item: Json) => item.name,
  );
  if (!wanted) {
    if ((pod.spec?.containers ?? []).length > 1)
      throw badRequest(
        `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${pod.spec.containers.map((item: Json) => item.name).join(' ')}]`,
      );
    return names[0] ?? '';
  }
  if (!names.includes(wanted))
    throw badRequest(`container ${wanted} is not valid for pod ${pod.metadata.name}`);
  return wanted;
}
