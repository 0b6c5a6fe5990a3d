/**
 * Answers as MAAS words them. Two families matter to clients: what a handler returns (its transaction
 * commits, the API hash is set) and what a handler throws (the transaction rolls back, no API hash).
 */

export interface Reply {
  readonly status: number;
  readonly contentType: string | null;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Decides the headers around it. `api`: from a handler; `raised`: by the error middleware; both without
   * the session middleware where no credentials are read (`public-`); `bare`: from nginx.
   */
  readonly origin: 'api' | 'raised' | 'bare' | 'public-api' | 'public-raised';
  /** Sent without Content-Length: failures after the transaction has committed. */
  readonly chunked?: boolean;
  /** Nginx ends the connection after this answer. */
  readonly close?: boolean;
}

const JSON_TYPE = 'application/json; charset=utf-8';
const TEXT_TYPE = 'text/plain; charset=utf-8';
/** Handlers' own short answers carry no charset. */
const PLAIN_TYPE = 'text/plain';

/** Text or JSON that stands for an exception inside MAAS; the request has had no effect. */
export class MaasError extends Error {
  readonly reply: Reply;
  constructor(reply: Reply) {
    super(`${reply.status} ${reply.body.toString()}`);
    this.name = 'MaasError';
    this.reply = reply;
  }
}

/** Python's json.dumps without indentation: a space after `:` and `,`. */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(', ')}]`;
  if (value !== null && typeof value === 'object')
    return `{${Object.entries(value)
      .map(([key, item]) => `${JSON.stringify(key)}: ${pythonJson(item)}`)
      .join(', ')}}`;
  return JSON.stringify(value) ?? 'null';
}

/** How Python prints a string inside a list: the constraint texts show such lists. */
export function pythonRepr(value: string): string {
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const escaped = value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll(quote, `\\${quote}`);
  return `${quote}${escaped}${quote}`;
}

export const json = (value: unknown, status = 200): Reply => rawJson(JSON.stringify(value, null, 4), status);

export const rawJson = (body: string, status = 200): Reply => ({
  status,
  contentType: JSON_TYPE,
  body,
  origin: 'api',
});

/** JSON without indentation, as the few handlers send it that build their response themselves. */
export const compactJson = (value: unknown, contentType = JSON_TYPE): Reply => ({
  status: 200,
  contentType,
  body: pythonJson(value),
  origin: 'api',
});

export const plain = (status: number, body: string): Reply => ({
  status,
  contentType: PLAIN_TYPE,
  body,
  origin: 'api',
});

export const deleted = (): Reply => plain(204, '');

export const notFound = (model: string): Reply => plain(404, `No ${model} matches the given query.`);

export function raisedText(status: number, body: string, headers?: Record<string, string>): MaasError {
  return new MaasError({
    status,
    contentType: TEXT_TYPE,
    body,
    origin: 'raised',
    ...(headers ? { headers } : {}),
  });
}

/** `{"field": ["message"]}` */
export function invalid(
  fields: Record<string, string | readonly string[]>,
  contentType = JSON_TYPE,
): MaasError {
  const body = Object.fromEntries(
    Object.entries(fields).map(([field, messages]) => [
      field,
      typeof messages === 'string' ? [messages] : messages,
    ]),
  );
  return new MaasError({ status: 400, contentType, body: pythonJson(body), origin: 'raised' });
}

/** A 404 that a handler returns rather than raises; wrapped so that lookups can throw it. */
export const missing = (model: string): MaasError => new MaasError(notFound(model));

/** Permission refused without a word. */
export const refused = (): MaasError => raisedText(403, '');

export const adminOnly = (): MaasError => raisedText(403, 'This method is reserved for admin users.');

/** After the commit: the work done in the database stays, the request fails. */
export const afterCommit = (status: number, body: string, headers?: Record<string, string>): Reply => ({
  status,
  contentType: TEXT_TYPE,
  body,
  origin: 'bare',
  chunked: true,
  ...(headers ? { headers } : {}),
});

const NGINX = 'nginx/1.18.0';

export const SERVER_HEADER = NGINX;

/** Nginx's own pages. */
export function nginxPage(
  status: number,
  title: string,
  options: { close?: boolean; heading?: string } = {},
): Reply {
  const heading = options.heading ?? title;
  const note = options.heading ? `<center>${title.replace(/^\d+ /, '')}</center>\r\n` : '';
  const body =
    `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<center><h1>${heading}</h1></center>\r\n` +
    `${note}<hr><center>${NGINX}</center>\r\n</body>\r\n</html>\r\n`;
  return {
    status,
    contentType: 'text/html',
    body,
    origin: 'bare',
    ...(options.close ? { close: true } : {}),
  };
}

/** A database conflict that outlived the server's own retries: the only 409 that asks for a repetition. */
export function transactionConflict(): Reply {
  const body =
    '<!DOCTYPE html>\n<html>\n  <head>\n    <title>Error: Conflict Error</title>\n  </head>\n  <body>\n' +
    '    <h2>\n      Conflict error. Try your request again, as it will most likely succeed.\n    </h2>\n  </body>\n</html>\n';
  return {
    status: 409,
    contentType: 'text/html; charset=utf-8',
    body,
    headers: { 'Retry-After': '5' },
    origin: 'bare',
    chunked: true,
  };
}
