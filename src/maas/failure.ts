/**
 * What an exchange with MAAS meant, decided by status, headers and the class of the body (JSON, plain text,
 * HTML), never by prose. `http.ts` produces exchanges, callers switch over the failure's kind, `errors.ts`
 * words the ones that nobody can handle. Texts are for showing and arrive redacted.
 */
import { FieldErrorsWire } from './schema.ts';

/** Class of a body by its Content-Type. `none` = empty body. */
export type BodyClass = 'json' | 'text' | 'html' | 'other' | 'none';

export interface MaasReply {
  readonly status: number;
  readonly bodyClass: BodyClass;
  readonly body: string;
  /** The body was larger than the call allows; `body` is incomplete. */
  readonly truncated: boolean;
  /** Of a call that reads its array while it arrives; `body` is empty then. */
  readonly elements: readonly unknown[] | undefined;
  readonly retryAfterMs: number | undefined;
  readonly location: string | undefined;
  readonly authenticate: boolean;
  /** Carries a header that MAAS sets on what its API refuses, and proxies in front of it do not. */
  readonly genuine: boolean;
  readonly elapsedMs: number;
}

export type MaasFailure =
  /** Nothing reached MAAS: refused, no route, no name, TLS not trusted. Repeating is always safe. */
  | { readonly kind: 'unsent'; readonly cause: unknown; readonly tls: boolean }
  /** It may have happened: reset, closed, deadline, 502, 504. Read back before repeating an effect. */
  | { readonly kind: 'lost'; readonly cause: unknown }
  /** 409 as HTML or with Retry-After: the transaction was rolled back, nothing happened. */
  | { readonly kind: 'conflict'; readonly retryAfterMs: number | undefined }
  /** 409 as text: wrong state, nothing available. */
  | { readonly kind: 'state'; readonly text: string }
  /** 503 text with Retry-After: no rack controller connected; the region reverted the step. */
  | { readonly kind: 'rack'; readonly retryAfterMs: number; readonly text: string }
  /** 503 text without Retry-After: addresses exhausted, or power control impossible. */
  | { readonly kind: 'unable'; readonly text: string }
  /** 429, or 503 of something in front of MAAS: busy; whether the region saw it is not known. */
  | { readonly kind: 'busy'; readonly retryAfterMs: number | undefined }
  /** 500: the region failed, or (deploy, release, power) the BMC did. */
  | { readonly kind: 'fault'; readonly text: string }
  | { readonly kind: 'invalid'; readonly fields: Readonly<Record<string, readonly string[]>> }
  /** 400, 413, 414 ... as text: refused without naming a field. */
  | { readonly kind: 'refused'; readonly status: number; readonly text: string }
  | { readonly kind: 'unauthorized'; readonly signed: boolean }
  /** `genuine` as in MaasReply: a proxy's own 403 or 404 must not read as "the machine is gone". */
  | { readonly kind: 'forbidden'; readonly text: string; readonly genuine: boolean }
  | { readonly kind: 'absent'; readonly text: string; readonly genuine: boolean }
  | { readonly kind: 'redirect'; readonly location: string }
  /** Not the region API: other content type, unreadable JSON, body beyond its bound. */
  | { readonly kind: 'foreign'; readonly text: string };

/** undefined = success (2xx). The body of a 401 is never looked at. */
export function classifyReply(reply: MaasReply, redact: (text: string) => string): MaasFailure | undefined {
  const { status, bodyClass, retryAfterMs } = reply;
  if (status >= 200 && status < 300) return undefined;
  if (status >= 300 && status < 400) return { kind: 'redirect', location: redact(reply.location ?? '') };
  if (status === 401) return { kind: 'unauthorized', signed: reply.authenticate };
  const text = redact(bodyClass === 'html' ? htmlTitle(reply.body) : reply.body);
  switch (status) {
    case 400:
      if (bodyClass === 'json') return { kind: 'invalid', fields: fieldErrors(reply.body, redact) };
      return bodyClass === 'html'
        ? { kind: 'foreign', text: `400 ${text}` }
        : { kind: 'refused', status, text };
    case 403:
      return bodyClass === 'html'
        ? { kind: 'foreign', text: `403 ${text}` }
        : { kind: 'forbidden', text, genuine: reply.genuine };
    case 404:
      return bodyClass === 'html'
        ? { kind: 'foreign', text: `404 ${text}` }
        : { kind: 'absent', text, genuine: reply.genuine };
    case 409:
      return bodyClass === 'html' || retryAfterMs !== undefined
        ? { kind: 'conflict', retryAfterMs }
        : { kind: 'state', text };
    case 410:
      return { kind: 'foreign', text };
    case 429:
      return { kind: 'busy', retryAfterMs };
    case 500:
      return { kind: 'fault', text };
    case 502:
    case 504:
      return { kind: 'lost', cause: new GatewayError(status) };
    case 503:
      if (bodyClass !== 'text') return { kind: 'busy', retryAfterMs };
      return retryAfterMs === undefined ? { kind: 'unable', text } : { kind: 'rack', retryAfterMs, text };
    default:
      return status >= 500 ? { kind: 'fault', text } : { kind: 'refused', status, text };
  }
}

/** 502 or 504 of the region's own nginx or of a proxy. */
class GatewayError extends Error {
  readonly code: string;
  constructor(status: number) {
    super(`MAAS or a proxy in front of it answered ${status}`);
    this.name = 'GatewayError';
    this.code = `HTTP_${status}`;
  }
}

/** Form errors as MAAS sends them: an object of lists, or a bare list. */
function fieldErrors(body: string, redact: (text: string) => string): Record<string, string[]> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return { __all__: [redact(body)] };
  }
  if (Array.isArray(value)) return { __all__: value.map((item) => redact(String(item))) };
  const parsed = FieldErrorsWire.safeParse(value);
  if (!parsed.success) return { __all__: [redact(body)] };
  return Object.fromEntries(
    Object.entries(parsed.data).map(([field, messages]) => [
      field,
      (typeof messages === 'string' ? [messages] : messages).map(redact),
    ]),
  );
}

function htmlTitle(body: string): string {
  return /<title>([^<]{0,200})<\/title>/i.exec(body)?.[1] ?? 'an HTML page';
}
