/**
 * One API call on its way to a handler: who calls, with which parameters, and the typed readers that
 * handlers use. What is readable where follows MAAS: some handlers read the form, some the parsed body.
 */
import { Form, parseMultipart, parseUrlEncoded, type Upload } from './form.ts';
import type { User } from './model.ts';
import type { Region } from './region.ts';
import type { Site } from './site.ts';
import type { Reply } from './reply.ts';
import { adminOnly, MaasError, plain, raisedText } from './reply.ts';

/** The parsed body. `object` is JSON or YAML; `none` a type that nobody can read. */
export type Data =
  | { readonly kind: 'form'; readonly form: Form }
  | { readonly kind: 'object'; readonly value: unknown }
  | { readonly kind: 'none' };

export interface Call {
  readonly region: Region;
  readonly site: Site;
  readonly user: User;
  readonly method: string;
  readonly path: string;
  readonly params: readonly string[];
  readonly query: Form;
  /** What MAAS calls request.POST: empty for JSON. */
  readonly form: Form;
  readonly data: Data;
  readonly uploads: readonly Upload[];
}

export type Handler = (call: Call) => Reply | Promise<Reply>;

export interface ParsedBody {
  readonly form: Form;
  readonly data: Data;
  readonly uploads: readonly Upload[];
}

/** Returns a reply instead where MAAS refuses the body before any handler sees it. */
export function parseBody(contentType: string | undefined, body: Buffer): ParsedBody | Reply {
  const type = (contentType ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  const empty = new Form();
  if (type === '' || type === 'application/x-www-form-urlencoded') {
    const form = type === '' ? empty : parseUrlEncoded(body.toString('utf8'));
    return { form, data: { kind: 'form', form }, uploads: [] };
  }
  if (type === 'multipart/form-data') {
    const boundary = /boundary="?([^";]+)"?/.exec(contentType ?? '')?.[1];
    if (!boundary) return { status: 400, contentType: null, body: '', origin: 'bare', chunked: true };
    const { form, uploads } = parseMultipart(body, boundary);
    return { form, data: { kind: 'form', form }, uploads };
  }
  if (type === 'application/json') {
    try {
      return { form: empty, data: { kind: 'object', value: JSON.parse(body.toString('utf8')) }, uploads: [] };
    } catch {
      return plain(400, 'Bad Request');
    }
  }
  if (type === 'application/x-yaml') return { form: empty, data: { kind: 'object', value: {} }, uploads: [] };
  return { form: empty, data: { kind: 'none' }, uploads: [] };
}

const PYTHON_TYPES: Readonly<Record<string, string>> = { string: 'str', boolean: 'bool', object: 'dict' };

function pythonType(value: unknown): string {
  if (value === null) return 'NoneType';
  if (Array.isArray(value)) return 'list';
  if (typeof value === 'number') return Number.isInteger(value) ? 'int' : 'float';
  return PYTHON_TYPES[typeof value] ?? 'object';
}

/** For handlers that iterate the body as a form: anything else is a programming error on MAAS's side, a 500. */
export function formOnly(call: Call, attribute: 'lists' | 'getlist'): Form {
  const { data } = call;
  if (data.kind === 'form') return data.form;
  const type = data.kind === 'none' ? 'NoneType' : pythonType(data.value);
  throw raisedText(500, `'${type}' object has no attribute '${attribute}'`);
}

/** For handlers that accept a form and JSON alike. */
export function fields(call: Call): Form {
  const { data } = call;
  if (data.kind === 'form') return data.form;
  const form = new Form();
  if (data.kind === 'object' && data.value !== null && typeof data.value === 'object')
    for (const [key, value] of Object.entries(data.value))
      for (const item of Array.isArray(value) ? value : [value])
        form.add(key, item === null ? '' : String(item));
  return form;
}

export function mandatory(form: Form, name: string): string {
  const value = form.get(name);
  if (value === undefined || value === '') throw raisedText(400, `No provided ${name}!`);
  return value;
}

const TRUE = new Set(['true', 't', 'yes', 'y', 'on', '1']);
const FALSE = new Set(['false', 'f', 'no', 'n', 'off', '0']);

/** MAAS's strict booleans. Absent or empty means `fallback`. */
export function flag(form: Form, name: string, fallback = false): boolean {
  const value = form.get(name)?.trim().toLowerCase();
  if (value === undefined || value === '') return fallback;
  if (TRUE.has(value)) return true;
  if (FALSE.has(value)) return false;
  throw raisedText(400, `Invalid ${name}: Value should be 'true' or 'false'`);
}

/** MAAS's lenient booleans: anything that is not a yes is a no. */
export const saysYes = (text: string | undefined): boolean => /^(true|t|yes|y|on|1)$/i.test(text ?? '');

export function integer(form: Form, name: string, fallback: number): number {
  const value = form.get(name)?.trim();
  if (value === undefined || value === '') return fallback;
  if (!/^[+-]?\d+$/.test(value)) throw raisedText(400, `Invalid ${name}: Please enter an integer value`);
  return Number(value);
}

/** Wraps a handler for superusers. */
export const forAdmin =
  (handler: Handler): Handler =>
  (call) => {
    if (!call.user.admin) throw adminOnly();
    return handler(call);
  };

export const isReply = (value: ParsedBody | Reply): value is Reply => 'status' in value;

/** Runs `work`; a MaasError becomes its reply. */
export async function answer(work: () => Reply | Promise<Reply>): Promise<Reply> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MaasError) return error.reply;
    throw error;
  }
}
