/**
 * OAuth 1.0a as MAAS checks it: PLAINTEXT and HMAC-SHA1, one-sided clock rule, nonces that burn only when
 * the request's transaction commits. Texts are the protocol; the one that shows the real secret is real too.
 */
import { createHmac } from 'node:crypto';
import type { Form } from './form.ts';
import type { User } from './model.ts';
import type { Nonces } from './nonces.ts';
import type { Region } from './region.ts';
import { MaasError, plain, pythonRepr, raisedText, type Reply } from './reply.ts';

/** Older timestamps are refused, seconds. Future ones never are. */
const TIMESTAMP_WINDOW_S = 300;
/** Width of the database column; longer nonces break the insert. */
const NONCE_MAX = 255;

export type Authentication =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'user'; readonly user: User; readonly commit: () => void }
  | { readonly kind: 'refused'; readonly reply: Reply };

const REQUIRED = [
  'oauth_consumer_key',
  'oauth_token',
  'oauth_signature',
  'oauth_signature_method',
  'oauth_timestamp',
  'oauth_nonce',
];

function oauthError(text: string): Reply {
  return {
    status: 401,
    contentType: 'text/html; charset=utf-8',
    body: `Authorization Error: ${text}`,
    headers: { 'WWW-Authenticate': 'OAuth realm="OAuth"' },
    origin: 'raised',
  };
}

const quoted = (text: string): Reply => oauthError(pythonRepr(text));

/** RFC 3986 escaping, as OAuth wants it. */
const escape = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

function unquote(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function parseHeader(header: string): Map<string, string> {
  const params = new Map<string, string>();
  for (const part of header.split(',')) {
    // Anything that mentions realm is dropped, even a nonce that happens to contain the word.
    if (part.includes('realm')) continue;
    const at = part.indexOf('=');
    if (at < 0) continue;
    params.set(
      part.slice(0, at).trim(),
      unquote(
        part
          .slice(at + 1)
          .trim()
          .replace(/^"|"$/g, ''),
      ),
    );
  }
  return params;
}

export interface SignedRequest {
  readonly method: string;
  /** Scheme, host and path, without query. */
  readonly url: string;
  readonly authorization: string | undefined;
  readonly query: Form;
  readonly form: Form;
}

function baseString(request: SignedRequest, params: Map<string, string>): string {
  const pairs: [string, string][] = [...params].filter(([key]) => key !== 'oauth_signature');
  for (const source of [request.query, request.form])
    for (const [key, values] of source.entries()) for (const value of values) pairs.push([key, value]);
  const sorted = pairs
    .map(([key, value]) => [escape(key), escape(value)] as const)
    .sort(([a, b], [c, d]) => (a === c ? (b < d ? -1 : 1) : a < c ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`)
    .join('&');
  return [request.method.toUpperCase(), escape(request.url), escape(sorted)].join('&');
}

/** `nonces` remembers what committed, per consumer and token. */
export function authenticate(region: Region, nonces: Nonces, request: SignedRequest): Authentication {
  const header = request.authorization?.trim() ?? '';
  const inHeader = REQUIRED.filter((name) => name !== 'oauth_signature').every((name) =>
    header.includes(name),
  );
  if (!inHeader) {
    const elsewhere = REQUIRED.every((name) => request.query.has(name) || request.form.has(name));
    if (elsewhere)
      return { kind: 'refused', reply: raisedText(500, 'dictionary changed size during iteration').reply };
    return { kind: 'anonymous' };
  }
  if (!header.startsWith('OAuth '))
    return {
      kind: 'refused',
      reply: raisedText(400, "'Bad Request: Parameter not found: oauth_consumer_key'").reply,
    };
  try {
    return check(region, nonces, request, parseHeader(header.slice('OAuth '.length)));
  } catch (error) {
    if (error instanceof MaasError) return { kind: 'refused', reply: error.reply };
    throw error;
  }
}

function check(
  region: Region,
  nonces: Nonces,
  request: SignedRequest,
  params: Map<string, string>,
): Authentication {
  const refuse = (reply: Reply): Authentication => ({ kind: 'refused', reply });
  const param = (name: string) => params.get(name) ?? '';
  const version = params.get('oauth_version');
  if (version !== undefined && version !== '1.0')
    return refuse(quoted(`OAuth version ${version} not supported.`));
  const consumer = param('oauth_consumer_key');
  if (!region.tokens.some((token) => token.consumer === consumer))
    return refuse(oauthError('Invalid API key.'));
  const tokenKey = param('oauth_token');
  const token = region.tokens.find((one) => one.key === tokenKey);
  if (!token) return refuse(quoted(`Invalid access token: ${tokenKey}`));

  const timestamp = param('oauth_timestamp');
  if (!/^[+-]?\d+$/.test(timestamp))
    throw raisedText(500, `invalid literal for int() with base 10: ${pythonRepr(timestamp)}`);
  const now = Math.floor(region.now() / 1000);
  if (now - Number(timestamp) > TIMESTAMP_WINDOW_S)
    return refuse(
      quoted(
        `Expired timestamp: given ${Number(timestamp)} and now ${now} has a greater difference than threshold ${TIMESTAMP_WINDOW_S}`,
      ),
    );
  const nonce = param('oauth_nonce');
  const nonceKey = `${consumer} ${tokenKey} ${nonce}`;
  if (nonce.length > NONCE_MAX) throw raisedText(500, 'value too long for type character varying(255)\n');
  if (nonce !== '' && nonces.has(nonceKey)) return refuse(quoted(`Nonce already used: ${nonce}`));

  const method = param('oauth_signature_method');
  const signature = params.get('oauth_signature');
  if (method !== 'PLAINTEXT' && method !== 'HMAC-SHA1')
    return refuse(
      quoted(`Signature method ${method} not supported try one of the following: PLAINTEXT, HMAC-SHA1`),
    );
  if (signature === undefined) return refuse(quoted('Missing signature.'));
  const key = `&${token.secret}`;
  const base = method === 'PLAINTEXT' ? key : baseString(request, params);
  const expected = method === 'PLAINTEXT' ? key : createHmac('sha1', key).update(base).digest('base64');
  if (signature !== expected)
    return refuse(quoted(`Invalid signature. Expected signature base string: ${base}`));

  const user = region.users.get(token.username);
  if (!user) return refuse(oauthError('Invalid API key.'));
  if (!user.active) throw raisedText(403, 'User is not allowed access to this API.');
  return {
    kind: 'user',
    user,
    commit: () => {
      if (nonce !== '') nonces.add(nonceKey, region.now());
    },
  };
}

/** What a call without credentials gets where there is no anonymous handler. */
export const forbidden = (): Reply => plain(401, 'Forbidden');
