/** Errors of the API server, in the form every Kubernetes client decodes: metav1.Status. */
import type { Json } from './json.ts';

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: StatusDetails | undefined;
  constructor(code: number, reason: string, message: string, details?: StatusDetails) {
    super(message);
    this.name = 'ApiError';
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  toStatus(): Json {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      ...(this.reason ? { reason: this.reason } : {}),
      ...(this.details ? { details: this.details } : {}),
      code: this.code,
    };
  }
}

/** What an error names: `deployments.apps "web"`. */
interface Subject {
  readonly group: string;
  readonly plural: string;
}

const qualified = (at: Subject) => (at.group ? `${at.plural}.${at.group}` : at.plural);
const detailsOf = (at: Subject, name: string) => ({
  name,
  ...(at.group ? { group: at.group } : {}),
  kind: at.plural,
});

export const badRequest = (message: string) => new ApiError(400, 'BadRequest', message);

export const notFound = (at: Subject, name: string) =>
  new ApiError(404, 'NotFound', `${qualified(at)} "${name}" not found`, detailsOf(at, name));

/** A path that no API group serves. */
export const noSuchPath = () =>
  new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});

export const alreadyExists = (at: Subject, name: string) =>
  new ApiError(409, 'AlreadyExists', `${qualified(at)} "${name}" already exists`, detailsOf(at, name));

export const conflict = (at: Subject, name: string, why?: string) =>
  new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(at)} "${name}": ${
      why ?? 'the object has been modified; please apply your changes to the latest version and try again'
    }`,
    detailsOf(at, name),
  );

export const gone = (message: string) => new ApiError(410, 'Expired', message);

export const methodNotAllowed = () =>
  new ApiError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );

export const unsupportedMediaType = (type: string) =>
  new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, application/strategic-merge-patch+json (got ${type})`,
  );

export function invalid(kind: string, group: string, name: string, causes: readonly StatusCause[]): ApiError {
  const prose = causes.map((cause) => `${cause.field ?? ''}: ${cause.message}`);
  const list = prose.length === 1 ? (prose[0] ?? '') : `[${prose.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${kind}${group ? `.${group}` : ''} "${name}" is invalid: ${list}`, {
    name,
    ...(group ? { group } : {}),
    kind,
    causes,
  });
}
