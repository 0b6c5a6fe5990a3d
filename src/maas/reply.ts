/** From undici's response to the few facts that the rest of the client decides by. */
import type { Dispatcher } from 'undici';
import type { BodyClass, MaasReply } from './failure.ts';
import type { ReadBody } from './http-body.ts';

export function toReply(response: Dispatcher.ResponseData, read: ReadBody, elapsedMs: number): MaasReply {
  const header = (name: string): string | undefined => {
    const value = response.headers[name];
    return Array.isArray(value) ? value[0] : value;
  };
  return {
    status: response.statusCode,
    bodyClass: bodyClassOf(header('content-type'), read.text),
    body: read.text,
    truncated: read.truncated,
    elements: read.elements,
    retryAfterMs: retryAfter(header('retry-after'), header('date')),
    location: header('location'),
    authenticate: header('www-authenticate') !== undefined,
    genuine: header('x-maas-api-hash') !== undefined || header('x-frame-options')?.toUpperCase() === 'DENY',
    elapsedMs,
  };
}

function bodyClassOf(contentType: string | undefined, body: string): BodyClass {
  if (body === '') return 'none';
  const type = contentType?.split(';')[0]?.trim().toLowerCase() ?? '';
  if (type === 'application/json') return 'json';
  if (type === 'text/plain') return 'text';
  if (type === 'text/html') return 'html';
  return 'other';
}

/** Seconds or an HTTP date (relative to the server's own Date). */
function retryAfter(value: string | undefined, date: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  const from = Date.parse(date ?? '');
  return Number.isFinite(at) && Number.isFinite(from) ? Math.max(0, at - from) : undefined;
}
