/**
 * Who sends a request: client certificate (CN and O), bootstrap token, service account token or nobody.
 * A credential that is sent but wrong is 401, never anonymous.
 */
import { type KeyObject, createSign, createVerify, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { Json } from './json.ts';
import { type Attributes, forbidden, isAllowed } from './rbac.ts';
import type { UserInfo } from './request.ts';
import { R } from './resources.ts';
import { ApiError } from './status.ts';
import type { ObjectStore } from './store.ts';

const unauthorized = () => new ApiError(401, 'Unauthorized', 'Unauthorized');

export interface Authentication {
  readonly store: ObjectStore;
  readonly now: () => number;
  /** Public half of the cluster's service account key pair, if it has one. */
  readonly serviceAccountKey: KeyObject | undefined;
}

const ANONYMOUS: UserInfo = { name: 'system:anonymous', groups: ['system:unauthenticated'] };

const authenticated = (name: string, groups: readonly string[], more?: Partial<UserInfo>): UserInfo => ({
  name,
  groups: [...new Set([...groups, 'system:authenticated'])],
  ...more,
});

/** Throws a 401 Status. */
export function authenticate(request: IncomingMessage, context: Authentication): UserInfo {
  const user =
    fromCertificate(request.socket as TLSSocket) ??
    fromToken(request.headers.authorization, context) ??
    ANONYMOUS;
  return impersonate(request, user, context.store);
}

/** One connection has one certificate: reading it again for every request would cost more than the request. */
const certificates = new WeakMap<TLSSocket, UserInfo | 'none' | 'refused'>();

function fromCertificate(socket: TLSSocket): UserInfo | undefined {
  if (typeof socket.getPeerCertificate !== 'function') return undefined;
  let found = certificates.get(socket);
  if (found === undefined) {
    found = readCertificate(socket);
    certificates.set(socket, found);
  }
  if (found === 'refused') throw unauthorized();
  return found === 'none' ? undefined : found;
}

function readCertificate(socket: TLSSocket): UserInfo | 'none' | 'refused' {
  const certificate = socket.getPeerCertificate();
  if (!certificate || Object.keys(certificate).length === 0) return 'none';
  // The wrong CA, an expired certificate, one that is not for clients: all of them are a wrong credential.
  const usages = certificate.ext_key_usage ?? [];
  const { CN, O } = certificate.subject as { CN?: string; O?: string | string[] };
  if (!socket.authorized || !usages.includes('1.3.6.1.5.5.7.3.2') || !CN) return 'refused';
  return authenticated(CN, O === undefined ? [] : Array.isArray(O) ? O : [O]);
}

function fromToken(header: string | undefined, context: Authentication): UserInfo | undefined {
  if (header === undefined) return undefined;
  const token = /^Bearer (.+)$/i.exec(header)?.[1];
  if (!token) throw unauthorized();
  const bootstrap = /^([a-z0-9]{6})\.([a-z0-9]{16})$/.exec(token);
  if (bootstrap) return fromBootstrapToken(bootstrap[1] ?? '', bootstrap[2] ?? '', context);
  return verifyServiceAccountToken(token, context) ?? fail();
}

function fail(): never {
  throw unauthorized();
}

export const decode64 = (text: string | undefined) => Buffer.from(text ?? '', 'base64').toString();

function fromBootstrapToken(id: string, secret: string, { store, now }: Authentication): UserInfo {
  const stored = store.get(R.secrets, 'kube-system', `bootstrap-token-${id}`);
  const data = stored?.data ?? {};
  const expected = Buffer.from(decode64(data['token-secret']));
  const given = Buffer.from(secret);
  const expires = data.expiration ? Date.parse(decode64(data.expiration)) : undefined;
  if (
    stored?.type !== 'bootstrap.kubernetes.io/token' ||
    stored.metadata.deletionTimestamp ||
    decode64(data['token-id']) !== id ||
    expected.length !== given.length ||
    !timingSafeEqual(expected, given) ||
    (expires !== undefined && !(expires > now())) ||
    decode64(data['usage-bootstrap-authentication']) !== 'true'
  )
    throw unauthorized();
  const groups = decode64(data['auth-extra-groups'])
    .split(',')
    .filter((group) => group.startsWith('system:bootstrappers:'));
  return authenticated(`system:bootstrap:${id}`, ['system:bootstrappers', ...groups]);
}

const base64url = (value: Json) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A service account token as the token subresource issues it (RS256 or ES256 by the key's type). */
export function signServiceAccountToken(key: KeyObject, claims: Json): string {
  const ec = key.asymmetricKeyType === 'ec';
  const head = `${base64url({ alg: ec ? 'ES256' : 'RS256', typ: 'JWT' })}.${base64url(claims)}`;
  const signature = createSign('sha256').update(head).sign({ key, dsaEncoding: 'ieee-p1363' });
  return `${head}.${signature.toString('base64url')}`;
}

/** undefined when it is not a valid token of this cluster. */
export function verifyServiceAccountToken(token: string, context: Authentication): UserInfo | undefined {
  const [head = '', body = '', signature = ''] = token.split('.');
  const { serviceAccountKey: key, store, now } = context;
  if (!key || signature === '') return undefined;
  let claims: Json;
  try {
    const valid = createVerify('sha256')
      .update(`${head}.${body}`)
      .verify({ key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'));
    if (!valid) return undefined;
    claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  } catch {
    return undefined;
  }
  const bound = claims['kubernetes.io'];
  const account = store.get(R.serviceaccounts, bound?.namespace, bound?.serviceaccount?.name ?? '');
  if (!account || account.metadata.uid !== bound.serviceaccount.uid || !(claims.exp * 1000 > now()))
    return undefined;
  const { namespace, serviceaccount } = bound;
  return authenticated(
    `system:serviceaccount:${namespace}:${serviceaccount.name}`,
    ['system:serviceaccounts', `system:serviceaccounts:${namespace}`],
    {
      uid: serviceaccount.uid,
    },
  );
}

/** Impersonate-User, -Group, -Uid and -Extra-*: each needs the verb `impersonate` on what is taken on. */
function impersonate(request: IncomingMessage, user: UserInfo, store: ObjectStore): UserInfo {
  const name = request.headers['impersonate-user'];
  const { headersDistinct } = request;
  const groups = headersDistinct['impersonate-group'] ?? [];
  if (name === undefined) {
    if (groups.length > 0 || Object.keys(headersDistinct).some((key) => key.startsWith('impersonate-')))
      throw new ApiError(400, 'BadRequest', 'requested [{Group  ...}] without impersonating a user');
    return user;
  }
  if (typeof name !== 'string') throw new ApiError(400, 'BadRequest', 'more than one Impersonate-User');
  const check = (group: string, resource: string, at: string, subresource = '') => {
    const wanted: Attributes = { verb: 'impersonate', group, resource, subresource, namespace: '', name: at };
    if (!isAllowed(store, user, wanted)) throw forbidden(user, wanted);
  };
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name);
  if (account) {
    const wanted: Attributes = {
      verb: 'impersonate',
      group: '',
      resource: 'serviceaccounts',
      subresource: '',
      namespace: account[1] ?? '',
      name: account[2] ?? '',
    };
    if (!isAllowed(store, user, wanted)) throw forbidden(user, wanted);
  } else check('', 'users', name);
  for (const group of groups) check('', 'groups', group);
  const extra: Record<string, string[]> = {};
  for (const [key, values] of Object.entries(headersDistinct)) {
    if (!key.startsWith('impersonate-extra-') || !values) continue;
    const field = decodeURIComponent(key.slice('impersonate-extra-'.length));
    for (const value of values) check('authentication.k8s.io', 'userextras', value, field);
    extra[field] = values;
  }
  const uid = request.headers['impersonate-uid'];
  if (typeof uid === 'string') check('authentication.k8s.io', 'uids', uid);
  const implied = account ? ['system:serviceaccounts', `system:serviceaccounts:${account[1]}`] : [];
  if (name === 'system:anonymous') return { name, groups: ['system:unauthenticated'] };
  return authenticated(name, [...groups, ...implied], {
    ...(typeof uid === 'string' ? { uid } : {}),
    ...(Object.keys(extra).length > 0 ? { extra } : {}),
  });
}
