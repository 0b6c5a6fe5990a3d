/**
 * Blobs in an S3-compatible bucket, path style, signed with AWS Signature Version 4. The body's hash is part of the
 * signature, so what arrives is what was sent. Only three calls are needed; no SDK.
 */
import { createHash, createHmac } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { request } from 'undici';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Blob, BlobStore } from './blobs.ts';

export interface S3Target {
  /** `https://s3.example.org` or `http://minio:9000` */
  readonly url: string;
  readonly bucket: string;
  readonly prefix: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const EMPTY_SHA256 = createHash('sha256').digest('hex');
/** Keys of one page of a list; snapshots of one cluster are fewer. */
const LIST_KEYS = 1000;

export function s3Blobs(target: S3Target, clock: Clock): BlobStore {
  const base = target.prefix === '' ? '' : `${target.prefix.replace(/^\/+|\/+$/g, '')}/`;
  const call = async (
    method: 'GET' | 'PUT' | 'DELETE',
    key: string,
    signal: AbortSignal,
    options: { query?: Record<string, string>; file?: string; sha256?: string } = {},
  ): Promise<string> => {
    const url = new URL(target.url);
    const path = `${url.pathname.replace(/\/$/, '')}/${[target.bucket, ...key.split('/')].map(encode).join('/')}`;
    const query = canonicalQuery(options.query ?? {});
    const sha256 = options.sha256 ?? EMPTY_SHA256;
    const headers: Record<string, string> = {
      host: url.host,
      'x-amz-content-sha256': sha256,
      'x-amz-date': stampOf(clock.now()),
    };
    const authorization = signV4({ method, path, query, headers, sha256, ...target });
    const size = options.file === undefined ? undefined : (await stat(options.file)).size;
    const answer = await request(`${url.origin}${path}${query === '' ? '' : `?${query}`}`, {
      method,
      signal,
      headers: {
        ...headers,
        authorization,
        ...(size === undefined ? {} : { 'content-length': String(size) }),
      },
      ...(options.file === undefined ? {} : { body: createReadStream(options.file) }),
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      throw failed(`${method} at ${url.host}: ${describeError(error)}`, true);
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 200 && answer.statusCode <= 299) return text;
    if (method === 'DELETE' && answer.statusCode === 404) return text;
    const code = /<Code>([^<]{1,100})<\/Code>/.exec(text)?.[1] ?? '';
    throw failed(
      `${method} ${target.bucket} at ${url.host}: HTTP ${answer.statusCode} ${code}`.trim(),
      answer.statusCode >= 500,
    );
  };
  return {
    place: `${target.url.replace(/\/$/, '')}/${target.bucket}/${base}`,
    async put(name, file, sha256, signal) {
      await call('PUT', base + name, signal, { file, sha256 });
    },
    async list(prefix, signal) {
      const query = { 'list-type': '2', prefix: base + prefix, 'max-keys': String(LIST_KEYS) };
      const text = await call('GET', '', signal, { query });
      return [...text.matchAll(/<Contents>(.*?)<\/Contents>/gs)].flatMap(([, entry = '']): Blob[] => {
        const key = decodeXml(/<Key>(.*?)<\/Key>/s.exec(entry)?.[1] ?? '');
        const modifiedAt = Date.parse(/<LastModified>(.*?)<\/LastModified>/.exec(entry)?.[1] ?? '');
        const usable = key.startsWith(base + prefix) && Number.isFinite(modifiedAt);
        return usable ? [{ name: key.slice(base.length), modifiedAt }] : [];
      });
    },
    async delete(name, signal) {
      await call('DELETE', base + name, signal);
    },
  };
}

function failed(message: string, retryable: boolean): PcgError {
  return new PcgError('BACKUP_TARGET_FAILED', message, { retryable });
}

/** `20130524T000000Z` */
function stampOf(now: number): string {
  return new Date(now).toISOString().replace(/[-:]|\.\d{3}/g, '');
}

/** RFC 3986, as S3 wants it: encodeURIComponent leaves !'()* alone. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function canonicalQuery(query: Record<string, string>): string {
  return Object.entries(query)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&');
}

function decodeXml(text: string): string {
  const marks: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
  return text.replace(/&(lt|gt|amp|quot|apos);/g, (_all, name: string) => marks[name] ?? '');
}

/** The Authorization header. `path` and `query` are encoded already; `headers` in lower case, all of them signed. */
export function signV4(input: {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly sha256: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}): string {
  const { method, path, query, headers, sha256, region, accessKeyId, secretAccessKey } = input;
  const names = Object.keys(headers).sort();
  const signed = names.join(';');
  const lines = names.map((name) => `${name}:${headers[name]?.trim() ?? ''}\n`).join('');
  const canonical = [method, path, query, lines, signed, sha256].join('\n');
  const date = headers['x-amz-date'] ?? '';
  const scope = `${date.slice(0, 8)}/${region}/s3/aws4_request`;
  const digest = createHash('sha256').update(canonical).digest('hex');
  const text = ['AWS4-HMAC-SHA256', date, scope, digest].join('\n');
  let key: Buffer = Buffer.from(`AWS4${secretAccessKey}`, 'utf8');
  for (const part of [...scope.split('/')]) key = createHmac('sha256', key).update(part).digest();
  const signature = createHmac('sha256', key).update(text).digest('hex');
  return `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
}
