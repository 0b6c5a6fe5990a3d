/** Calls of the portal's API from its own page: the cookie signs in, problems come back as `Problem`. */
import type { ProblemDetails } from '../../contract/errors.ts';

export class Problem extends Error {
  readonly status: number;
  readonly details: ProblemDetails;
  constructor(status: number, details: ProblemDetails) {
    super(details.message);
    this.status = status;
    this.details = details;
  }
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export async function api<T>(
  method: Method,
  path: string,
  body?: unknown,
  options: { signal?: AbortSignal; headers?: Record<string, string> } = {},
): Promise<T> {
  const { signal, headers } = options;
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new Problem(0, unreachable);
  }
  const text = await response.text().catch((cause: unknown) => {
    if (signal?.aborted) throw cause;
    throw new Problem(0, unreachable);
  });
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  // A body that was cut off says nothing: the portal or a proxy went away in the middle of it.
  const data: unknown = isJson && text !== '' ? parse(text) : text;
  if (response.ok) return data as T;
  const problem = isJson
    ? (data as ProblemDetails)
    : { ...unreachable, message: `The portal answered ${response.status}.` };
  // MAAS may refuse a key with 401 as well: only the portal's own refusal ends the session.
  if (problem.code === 'UNAUTHENTICATED' && path !== '/session') onSignedOut();
  throw new Problem(response.status, problem);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(0, unreachable);
  }
}

const unreachable: ProblemDetails = {
  code: 'PORTAL_UNREACHABLE',
  message: 'The portal does not answer.',
  fix: 'Check your connection. The page goes on by itself when the portal is back.',
  retryable: true,
  userFixable: true,
};

let onSignedOut = () => {};
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

export function asProblem(error: unknown): ProblemDetails {
  if (error instanceof Problem) return error.details;
  return {
    code: 'INTERNAL',
    message: error instanceof Error ? error.message : String(error),
    fix: 'Reload the page.',
    retryable: true,
    userFixable: false,
  };
}
