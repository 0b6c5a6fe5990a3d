/**
 * From a path and an operation to a handler. A resource is a path pattern with plain methods and named
 * operations (`?op=`); what it lacks decides between 404, 405 and 400, in MAAS's order.
 */
import type { Call, Handler } from './call.ts';
import { raisedText, type Reply } from './reply.ts';

type Methods = Readonly<Partial<Record<'GET' | 'POST' | 'PUT' | 'DELETE', Handler>>>;

export interface Resource {
  /** Below /MAAS/api/2.0; capture groups become the call's params. */
  readonly path: RegExp;
  /** Short name for statistics, e.g. `machines`. */
  readonly name: string;
  readonly methods?: Methods;
  readonly get?: Readonly<Record<string, Handler>>;
  readonly post?: Readonly<Record<string, Handler>>;
  /**
   * `yes`: everybody, signature unread. `some`: without credentials another handler answers, which knows
   * only `anonymousGet`. `admin`: without credentials 403. Else 401.
   */
  readonly anonymous?: 'yes' | 'some' | 'admin';
  readonly anonymousGet?: Readonly<Record<string, Handler>>;
}

export interface Match {
  readonly resource: Resource;
  readonly params: readonly string[];
  /** From a path that ends in `/op-<name>`. */
  readonly pathOp: string | undefined;
}

export function findResource(resources: readonly Resource[], path: string): Match | undefined {
  const byOp = /^(.*\/)op-([a-z_]+)$/.exec(path);
  const plainPath = byOp?.[1] ?? path;
  for (const resource of resources) {
    const match = resource.path.exec(plainPath);
    if (match) return { resource, params: match.slice(1), pathOp: byOp?.[2] };
  }
  return undefined;
}

const METHODS = ['GET', 'POST', 'PUT', 'DELETE'] as const;
type Method = (typeof METHODS)[number];

export function allowedMethods(resource: Resource): Method[] {
  return METHODS.filter(
    (method) =>
      resource.methods?.[method] !== undefined ||
      (method === 'GET' && resource.get !== undefined) ||
      (method === 'POST' && resource.post !== undefined),
  );
}

/** 405, empty, with what would be allowed. */
export const methodNotAllowed = (resource: Resource): Reply => ({
  status: 405,
  contentType: 'text/html; charset=utf-8',
  body: '',
  headers: { Allow: allowedMethods(resource).join(', ') },
  origin: resource.anonymous === 'yes' ? 'public-api' : 'api',
});

/** The operation wanted: the path's, else the query's last, else the form's. Empty means none. */
export function wantedOp(match: Match, call: Pick<Call, 'query' | 'form' | 'method'>): string | undefined {
  const op =
    match.pathOp ?? call.query.get('op') ?? (call.method === 'POST' ? call.form.get('op') : undefined);
  return op === '' ? undefined : op;
}

export function unrecognised(method: string, op: string | undefined): never {
  throw raisedText(400, `Unrecognised signature: method=${method} op=${op ?? 'None'}`);
}

/** Throws MAAS's 400 when there is no such operation. */
export function findHandler(resource: Resource, method: string, op: string | undefined): Handler {
  const table = method === 'GET' ? resource.get : method === 'POST' ? resource.post : undefined;
  const handler =
    op === undefined
      ? resource.methods?.[method as Method]
      : table && Object.hasOwn(table, op)
        ? table[op]
        : undefined;
  return handler ?? unrecognised(method, op);
}
