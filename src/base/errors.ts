/**
 * Errors that a user or a retry loop must understand. The code is stable and comes from
 * `contract/errors.ts`; the message says what happened, `fix` what to do. Never decide by message text.
 */
import { inspect } from 'node:util';
import { ERROR_CODES, type ErrorCode, type ProblemDetails } from '../contract/errors.ts';

export interface PcgErrorOptions {
  /** Path of the offending input field, e.g. `spec.pools[1].size`. */
  readonly field?: string | undefined;
  /** Replaces the catalogue's next step when the place knows a better one. */
  readonly fix?: string | undefined;
  /** Replaces the catalogue's verdict. */
  readonly retryable?: boolean | undefined;
  /** Structured evidence, safe to show and to log. */
  readonly details?: Record<string, unknown> | undefined;
  readonly cause?: unknown;
}

export class PcgError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly userFixable: boolean;
  readonly fix: string;
  readonly field: string | undefined;
  readonly details: Record<string, unknown> | undefined;

  constructor(code: ErrorCode, message: string, options: PcgErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const entry = ERROR_CODES[code];
    this.name = 'PcgError';
    this.code = code;
    this.retryable = options.retryable ?? entry.retryable;
    this.userFixable = entry.userFixable;
    this.fix = options.fix ?? entry.fix;
    this.field = options.field;
    this.details = options.details;
  }
}

/** The wire form of any thrown value; unknown things become INTERNAL without leaking their text. */
export function toProblem(error: unknown): ProblemDetails {
  if (!(error instanceof PcgError)) {
    const { fix, retryable, userFixable } = ERROR_CODES.INTERNAL;
    return { code: 'INTERNAL', message: 'internal error', fix, retryable, userFixable };
  }
  return {
    code: error.code,
    message: error.message,
    fix: error.fix,
    retryable: error.retryable,
    userFixable: error.userFixable,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(error.details === undefined ? {} : { details: error.details }),
  };
}

/** One line for a log: name, code and message of an error and of its causes, outermost first. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error, depth = 0; at !== undefined && at !== null && depth < 6; depth += 1) {
    if (!(at instanceof Error)) {
      parts.push(
        typeof at === 'string' ? at : inspect(at, { depth: 1, breakLength: Number.POSITIVE_INFINITY }),
      );
      break;
    }
    const code = 'code' in at && typeof at.code === 'string' ? `${at.code}: ` : '';
    parts.push(`${code}${at.message || at.name}`);
    at = at.cause;
  }
  return parts.join(' <- ');
}
