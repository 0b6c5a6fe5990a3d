/**
 * From a recorded request to bytes for today's server: credentials in place of the masked ones, timestamps
 * moved to now, shortened bodies restored, ids replaced by those of the server under test.
 */
import { createHmac, randomUUID } from 'node:crypto';
import type { Exchange } from '../support/maas-recordings.ts';

export interface ApiKey {
  readonly consumer: string;
  readonly key: string;
  readonly secret: string;
}

export function parseKey(text: string): ApiKey {
  const [consumer = '', key = '', secret = ''] = text.split(':');
  return { consumer, key, secret };
}

/** `xxx...<123 bytes>` becomes what it stands for. */
function restore(text: string): string {
  const match = /^([\s\S]*)\.\.\.<(\d+) (?:bytes|chars)>$/.exec(text);
  const start = match?.[1];
  if (!match || !start) return text;
  return start + (start.at(-1) ?? '').repeat(Number(match[2]) - start.length);
}

function restoreBody(text: string, contentType: string | null): string {
  const body = restore(text);
  const boundary = /boundary=(.+)$/.exec(contentType ?? '')?.[1];
  return body !== text && boundary ? `${body}\r\n--${boundary}--\r\n` : body;
}

const escape = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/** Puts a valid HMAC-SHA1 signature into a header; `extra` are the parameters that the signer included. */
function signHmac(
  header: string,
  method: string,
  url: string,
  secret: string,
  extra: readonly (readonly [string, string])[],
): string {
  const params = [...header.matchAll(/(oauth_[a-z_]+)="([^"]*)"/g)]
    .map(([, name = '', value = '']): [string, string] => [name, decodeURIComponent(value)])
    .filter(([name]) => name !== 'oauth_signature');
  const sorted = [...params, ...extra]
    .map(([name, value]) => `${escape(name)}=${escape(value)}`)
    .sort()
    .join('&');
  const base = [method, escape(url), escape(sorted)].join('&');
  const signature = createHmac('sha1', `&${secret}`).update(base).digest('base64');
  return header.replace(/oauth_signature="[^"]*"/, `oauth_signature="${escape(signature)}"`);
}

/** Values on which an exchange's name, not its masked text, decides. */
function masked(name: string, mine: ApiKey, other: ApiKey): ApiKey {
  const unknown = 'x'.repeat(18);
  if (name === 'unknown consumer key') return { ...mine, consumer: unknown };
  if (name === 'unknown token key') return { ...mine, key: unknown };
  if (name.endsWith('wrong secret')) return { ...mine, secret: 'y'.repeat(32) };
  if (name === "another user's consumer with my token") return { ...mine, consumer: other.consumer };
  if (name === "another user's token+secret with my consumer") return { ...other, consumer: mine.consumer };
  if (name === 'same nonce, other user') return other;
  return mine;
}

/** Seconds between the recorded clock and `nowS`; odd timestamps (text, milliseconds, negative) stay. */
function shiftTimestamps(text: string, recordedAtS: number, nowS: number): string {
  return text.replace(
    /(oauth_timestamp=(?:%22|")?)(\d{10})(?=["&,\s]|$)/g,
    (_all, before: string, stamp: string) => {
      return `${before}${Number(stamp) - recordedAtS + nowS}`;
    },
  );
}

export interface Fill {
  readonly base: URL;
  readonly keys: Readonly<Record<string, ApiKey>>;
  /** Recorded paths of created things to today's, e.g. `/MAAS/api/2.0/domains/3/`. */
  readonly paths: ReadonlyMap<string, string>;
  readonly nowS: number;
  /** Nonces are kept where the recording is about them, but for these characters that tell runs apart. */
  readonly keepNonces: string | undefined;
  /** Names and ids of the recorded site to those of the one under test. */
  readonly translate?: (text: string) => string;
}

function mapPath(path: string, paths: ReadonlyMap<string, string>): string {
  for (const [recorded, today] of paths)
    if (path.startsWith(recorded)) return today + path.slice(recorded.length);
  return path;
}

const HMAC_EXTRA: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  'HMAC-SHA1 correct (http://127.0.0.1:5240)': [['op', 'whoami']],
  'HMAC-SHA1 computed without port': [['op', 'whoami']],
  'HMAC-SHA1 POST urlencoded body in base string': [
    ['op', 'allocate'],
    ['dry_run', 'true'],
  ],
  'HMAC-SHA1 POST multipart, body params NOT in base string (per spec)': [['op', 'allocate']],
  'HMAC-SHA1 POST multipart, body params in base string': [
    ['op', 'allocate'],
    ['dry_run', 'true'],
  ],
  'HMAC-SHA1 POST JSON': [['op', 'whoami']],
};

/** Bodies that name a key mean the one that was created last. */
function fillBody(body: string, contentType: string | null, { keys }: Fill): string {
  const key = keys['new'] ?? keys['admin'];
  return restoreBody(body, contentType)
    .replaceAll('<consumer>', key?.consumer ?? '')
    .replaceAll('<token>', key?.key ?? '')
    .replaceAll('<secret>', key?.secret ?? '');
}

/** The bytes to send. */
export function buildRequest(exchange: Exchange, fill: Fill): Buffer {
  const { request, name } = exchange;
  const date =
    exchange.response.headers.find(([key]) => key === 'Date')?.[1] ??
    /^Date: (.*)$/m.exec(exchange.response.body ?? '')?.[1];
  const recordedAtS = date ? Math.floor(Date.parse(date) / 1000) : fill.nowS;
  const admin = fill.keys['admin'];
  const operator = fill.keys['operator'];
  if (!admin || !operator) throw new Error('keys of admin and operator are needed');
  const key = masked(name, fill.keys[request.as_user ?? 'admin'] ?? admin, operator);
  const fillIn = (text: string) => {
    let out = text
      .replaceAll('<consumer>', key.consumer)
      .replaceAll('<token>', key.key)
      .replaceAll('<secret>', key.secret);
    out = out.replace(/oauth_nonce=("?)([^",&\s]*)\1/, (_all, quote: string, nonce: string) => {
      const run = fill.keepNonces;
      if (run === undefined) return `oauth_nonce=${quote}${randomUUID()}${quote}`;
      // Of the same length, and as different from each other as before: their starts differ.
      const head = /^(?:%[0-9A-F]{2})+|^.{0,4}/.exec(nonce)?.[0] ?? '';
      const rest = nonce.slice(head.length);
      return `oauth_nonce=${quote}${head}${run.slice(0, rest.length)}${rest.slice(run.length)}${quote}`;
    });
    return shiftTimestamps(out, recordedAtS, fill.nowS);
  };
  const translate = fill.translate ?? ((text: string) => text);
  const raw = request.headers.find(([header]) => header === 'raw')?.[1];

  if (raw !== undefined) return Buffer.from(translate(fillIn(raw)));

  // Interfaces are numbered otherwise today; MAAS takes their name as well.
  const path = translate(mapPath(request.path ?? '/', fill.paths)).replace(
    /\/interfaces\/\d+\//,
    '/interfaces/enp1s0/',
  );
  const query = translate(fillIn(restore(request.query ?? '')));
  const method = request.method ?? 'GET';
  const body =
    typeof request.body === 'string' ? translate(fillBody(request.body, request.content_type, fill)) : null;
  const headers = request.headers.map(([header, value]): [string, string] => [
    header,
    fillIn(restore(value)),
  ]);
  const extra = HMAC_EXTRA[name];
  const signed = headers.map(([header, value]): [string, string] => {
    if (header !== 'Authorization' || !extra) return [header, value];
    const origin = name.includes('without port') ? `http://${fill.base.hostname}` : fill.base.origin;
    return [header, signHmac(value, method, `${origin}${path}`, key.secret, extra)];
  });
  const lines = [
    `${method} ${path}${query === '' ? '' : `?${query}`} HTTP/1.1`,
    ...(signed.some(([header]) => header === 'Host') ? [] : [`Host: ${fill.base.host}`]),
    ...signed.map(([header, value]) => `${header}: ${value}`),
    ...(body === null ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
    'Connection: close',
  ];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), Buffer.from(body ?? '')]);
}
