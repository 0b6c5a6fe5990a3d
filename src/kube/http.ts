/**
 * The one door to Kubernetes API servers: raw JSON over pooled mTLS connections. Objects pass through
 * untouched: typed clients drop fields that they do not know (a NetworkPolicy that loses `from` allows all).
 * Every request has a deadline on the clock; every failure is a PcgError KUBE_*, except the caller's own abort.
 */
import type { Dispatcher } from 'undici';
import { type Clock, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KubeClient, KubeObject, KubeRequest, KubeTarget, WatchEvent } from './client.ts';
import { createDispatcher, send } from './dispatcher.ts';
import { asRecord, asText, networkError, readStatus, statusError } from './errors.ts';
import { parseJson } from './json.ts';
import { collectionPath, Discovery, objectPath } from './resources.ts';
import { readWatch } from './watch.ts';

/** One request, from queueing to the last byte. API servers themselves cut requests after 60 s. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Parallel requests to one API server; more only queue inside it. */
const MAX_CONNECTIONS = 8;
/** Page size of lists: a page of 500 pods is about 5 MB. */
const PAGE_LIMIT = 500;
/** A list that changes under us (410 on continue) is started anew this often. */
const MAX_LIST_RESTARTS = 3;
/** An answer larger than this is refused instead of filling memory: 500 objects at etcd's 1.5 MB never come. */
const MAX_BODY_BYTES = 128 * 1024 * 1024;
/** Readiness is asked often; a healthy server answers in milliseconds. */
const READY_TIMEOUT_MS = 5_000;

const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
} as const;

export function createKubeClient(
  target: KubeTarget,
  options: { readonly clock: Clock; readonly log: Log },
): KubeClient {
  return new HttpKubeClient(target, options.clock, options.log);
}

class HttpKubeClient implements KubeClient {
  readonly target: KubeTarget;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #origin: string;
  readonly #requests: Dispatcher;
  /** Watches hold their connection for minutes, so they must not use up the places of requests. */
  readonly #watches: Dispatcher;
  readonly #discovery: Discovery;

  constructor(target: KubeTarget, clock: Clock, log: Log) {
    this.target = target;
    this.#clock = clock;
    this.#log = log;
    this.#origin = new URL(target.server).origin;
    this.#requests = createDispatcher(target, MAX_CONNECTIONS);
    this.#watches = createDispatcher(target, undefined);
    this.#discovery = new Discovery(async (path, signal) => {
      const answer = await this.request({ path }, signal);
      if (answer.status === 404) return {};
      if (answer.status !== 200) throw statusError(answer.status, answer.body, `GET ${path}`);
      return answer.body;
    });
  }

  async request(request: KubeRequest, signal: AbortSignal) {
    const method = request.method ?? 'GET';
    const what = `${method} ${request.path.split('?')[0]}`;
    const attempt = () =>
      withDeadline(this.#clock, request.timeoutMs ?? REQUEST_TIMEOUT_MS, what, signal, (limited) =>
        this.#exchange(method, request, limited),
      );
    try {
      return await attempt();
    } catch (error) {
      // A kept connection may have been closed by the server in the same moment: reads may be sent again.
      if (method !== 'GET' || signal.aborted || codeOf(error) !== 'UND_ERR_SOCKET')
        throw networkError(error, what, signal);
    }
    try {
      return await attempt();
    } catch (error) {
      throw networkError(error, what, signal);
    }
  }

  async #exchange(method: string, request: KubeRequest, signal: AbortSignal) {
    const started = this.#clock.monotonic();
    const response = await send(this.#requests, {
      origin: this.#origin,
      path: request.path,
      method: method as Dispatcher.HttpMethod,
      headers: this.#headers(
        request.body === undefined ? undefined : (request.contentType ?? 'application/json'),
      ),
      body: request.body === undefined ? null : encodeBody(request.body),
      signal,
    });
    const body = parseBody(await readText(response.body));
    this.#log.debug(
      {
        method,
        path: request.path,
        status: response.statusCode,
        elapsedMs: Math.round(this.#clock.monotonic() - started),
      },
      'kubernetes request',
    );
    return { status: response.statusCode, body, headers: flatten(response.headers) };
  }

  async get(path: string, signal: AbortSignal): Promise<KubeObject | undefined> {
    const answer = await this.request({ path }, signal);
    if (answer.status === 404) return undefined;
    return expectObject(answer, `GET ${path}`);
  }

  async list(path: string, signal: AbortSignal) {
    for (let restart = 0; ; restart += 1) {
      const listed = await this.#listOnce(path, signal);
      if (listed !== 'expired') return listed;
      if (restart === MAX_LIST_RESTARTS)
        throw new PcgError('KUBE_CONFLICT', `GET ${path}: the list expired while it was read`, {
          details: { status: 410 },
        });
    }
  }

  async #listOnce(path: string, signal: AbortSignal) {
    const items: KubeObject[] = [];
    let next = '';
    while (true) {
      const page = withQuery(path, { limit: String(PAGE_LIMIT), ...(next === '' ? {} : { continue: next }) });
      const answer = await this.request({ path: page }, signal);
      if (answer.status === 410 && next !== '') return 'expired' as const;
      if (answer.status !== 200) throw statusError(answer.status, answer.body, `GET ${path}`);
      const body = asRecord(answer.body);
      const metadata = asRecord(body['metadata']);
      items.push(...readItems(body));
      next = asText(metadata['continue']);
      if (next === '') return { items, resourceVersion: asText(metadata['resourceVersion']) };
    }
  }

  watch(path: string, resourceVersion: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    return readWatch({
      clock: this.#clock,
      signal,
      what: `watch ${path}`,
      open: async (limits, streamSignal) => {
        const response = await send(this.#watches, {
          origin: this.#origin,
          path: withQuery(path, {
            watch: 'true',
            allowWatchBookmarks: 'true',
            resourceVersion,
            timeoutSeconds: String(limits.timeoutSeconds),
          }),
          method: 'GET',
          headers: this.#headers(undefined),
          signal: streamSignal,
        });
        if (response.statusCode === 200) return response.body;
        throw statusError(response.statusCode, parseBody(await readText(response.body)), `watch ${path}`);
      },
    });
  }

  async apply(
    object: KubeObject,
    options: { fieldManager: string; force?: boolean; dryRun?: boolean },
    signal: AbortSignal,
  ): Promise<KubeObject> {
    const resource = await this.#discovery.resolve(object.apiVersion, object.kind, signal);
    const path = withQuery(objectPath(resource, object), {
      fieldManager: options.fieldManager,
      force: String(options.force ?? false),
      fieldValidation: 'Strict', // a field that the server would drop is an error, not a surprise
      ...(options.dryRun === true ? { dryRun: 'All' } : {}),
    });
    const answer = await this.request(
      { method: 'PATCH', path, body: object, contentType: 'application/apply-patch+yaml' }, // JSON is YAML
      signal,
    );
    return expectObject(answer, `apply ${describeObject(object)}`);
  }

  async create(object: KubeObject, signal: AbortSignal): Promise<KubeObject | 'exists'> {
    const resource = await this.#discovery.resolve(object.apiVersion, object.kind, signal);
    const path = collectionPath(resource, object.metadata.namespace);
    const answer = await this.request({ method: 'POST', path, body: object }, signal);
    if (answer.status === 409 && readStatus(answer.body).reason === 'AlreadyExists') return 'exists';
    return expectObject(answer, `create ${describeObject(object)}`);
  }

  async patch(path: string, patch: unknown, type: keyof typeof PATCH_TYPES, signal: AbortSignal) {
    const answer = await this.request(
      { method: 'PATCH', path, body: patch, contentType: PATCH_TYPES[type] },
      signal,
    );
    return expectObject(answer, `PATCH ${path}`);
  }

  async delete(
    path: string,
    signal: AbortSignal,
    options: { propagation?: 'Foreground' | 'Background' | 'Orphan' } = {},
  ): Promise<void> {
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: options.propagation ?? 'Background',
    };
    const answer = await this.request({ method: 'DELETE', path, body }, signal);
    if (answer.status !== 404 && (answer.status < 200 || answer.status > 299))
      throw statusError(answer.status, answer.body, `DELETE ${path}`);
  }

  async ready(signal: AbortSignal): Promise<boolean> {
    try {
      return (await this.request({ path: '/readyz', timeoutMs: READY_TIMEOUT_MS }, signal)).status === 200;
    } catch (error) {
      if (error instanceof PcgError && error.code === 'KUBE_UNREACHABLE') return false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Destroy, not close: whoever disposes has stopped its work, and a watch would never end by itself.
    await Promise.all([this.#requests.destroy(), this.#watches.destroy()]);
  }

  #headers(contentType: string | undefined): Record<string, string> {
    return {
      accept: 'application/json',
      'user-agent': 'pcg',
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
      ...(this.target.token === undefined ? {} : { authorization: `Bearer ${this.target.token}` }),
    };
  }
}

/** Adds query parameters to a path that may have some. */
export function withQuery(path: string, parameters: Record<string, string>): string {
  const query = new URLSearchParams(parameters).toString();
  return `${path}${path.includes('?') ? '&' : '?'}${query}`;
}

/** `Deployment kube-system/coredns`, for messages. */
export function describeObject(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return `${object.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

function expectObject(answer: { status: number; body: unknown }, what: string): KubeObject {
  if (answer.status < 200 || answer.status > 299) throw statusError(answer.status, answer.body, what);
  if (!isKubeObject(answer.body))
    throw new PcgError('KUBE_UNREACHABLE', `${what}: the answer is not a Kubernetes object`, {
      details: { reason: 'protocol', status: answer.status },
    });
  return answer.body;
}

function isKubeObject(value: unknown): value is KubeObject {
  const record = asRecord(value);
  return (
    typeof record['kind'] === 'string' &&
    typeof record['apiVersion'] === 'string' &&
    typeof asRecord(record['metadata'])['name'] === 'string'
  );
}

/** List items carry neither kind nor apiVersion; the list's own say what they are. */
function readItems(list: Record<string, unknown>): KubeObject[] {
  const items = Array.isArray(list['items']) ? list['items'] : [];
  const kind = typeof list['kind'] === 'string' ? list['kind'].replace(/List$/, '') : '';
  const apiVersion = typeof list['apiVersion'] === 'string' ? list['apiVersion'] : '';
  return items
    .map((item: unknown) => ({ apiVersion, kind, ...asRecord(item) }))
    .filter((item): item is KubeObject => isKubeObject(item));
}

function encodeBody(body: unknown): string | Buffer {
  return typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
}

async function readText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > MAX_BODY_BYTES)
      throw new PcgError('KUBE_UNREACHABLE', 'the answer of the API server is too large', {
        details: { reason: 'protocol', limitBytes: MAX_BODY_BYTES },
      });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** JSON where it is JSON; `/readyz`, logs and proxies' error pages are text. */
function parseBody(text: string): unknown {
  if (!/^\s*[[{"]/.test(text)) return text;
  try {
    return parseJson(text);
  } catch {
    return text;
  }
}

function flatten(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined) flat[name.toLowerCase()] = Array.isArray(value) ? value.join(', ') : value;
  return flat;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
