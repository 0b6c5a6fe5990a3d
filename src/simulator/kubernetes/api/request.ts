/** What a request asks for: path and query become verb, resource, name (RequestInfo of the API server). */
import type { IncomingHttpHeaders } from 'node:http';
import type { Json } from './json.ts';

export interface UserInfo {
  readonly name: string;
  readonly groups: readonly string[];
  readonly uid?: string;
  readonly extra?: Record<string, string[]>;
}

export interface RequestInfo {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly method: string;
  /** get, list, watch, create, update, patch, delete, deletecollection; for other paths the lower-case method. */
  readonly verb: string;
  readonly target: ResourceTarget | undefined;
}

export interface ResourceTarget {
  readonly group: string;
  readonly version: string;
  readonly namespace: string | undefined;
  readonly plural: string;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  /** The rest after proxy/. */
  readonly rest: string;
}

export interface ApiRequest extends RequestInfo {
  readonly user: UserInfo;
  readonly headers: IncomingHttpHeaders;
  readonly body: Json;
}

function parseTarget(path: string): ResourceTarget | undefined {
  const parts = path.split('/').slice(1).map(decodeURIComponent);
  if (parts.at(-1) === '') parts.pop();
  let group = '';
  let rest: string[];
  if (parts[0] === 'api' && parts.length > 2) rest = parts.slice(1);
  else if (parts[0] === 'apis' && parts.length > 3) {
    group = parts[1] ?? '';
    rest = parts.slice(2);
  } else return undefined;
  const [version = '', ...tail] = rest;
  let namespace: string | undefined;
  let at = tail;
  if (at[0] === 'watch') at = at.slice(1);
  // /namespaces/x and /namespaces/x/status are the namespace itself; anything longer is inside of it.
  if (at[0] === 'namespaces' && at.length > 2 && !['status', 'finalize'].includes(at[2] ?? '')) {
    namespace = at[1];
    at = at.slice(2);
  }
  const [plural = '', name, subresource, ...beyond] = at;
  if (plural === '') return undefined;
  return { group, version, namespace, plural, name, subresource, rest: beyond.join('/') };
}

const VERBS: Record<string, string> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

/** Throws URIError for broken percent-encoding. */
export function parseRequest(method: string, url: string): RequestInfo {
  const parsed = new URL(url, 'https://kubernetes');
  const query = parsed.searchParams;
  const target = parseTarget(parsed.pathname);
  const path = parsed.pathname;
  if (!target) return { path, query, method, verb: method.toLowerCase(), target };
  let verb = VERBS[method] ?? 'get';
  const watching = isTrue(query.get('watch')) || /^\/apis?\/(?:[^/]+\/){1,2}watch\//.test(path);
  if (verb === 'get' && (target.name === undefined || watching)) verb = watching ? 'watch' : 'list';
  if (verb === 'delete' && target.name === undefined) verb = 'deletecollection';
  return { path, query, method, verb, target };
}

export const isTrue = (text: string | null) => text === 'true' || text === '1' || text === '';
