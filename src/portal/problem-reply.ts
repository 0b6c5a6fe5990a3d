/** Any thrown value as the one error shape of the API. Unknown errors are logged and become INTERNAL. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { describeError, PcgError, toProblem } from '../base/errors.ts';
import { ERROR_CODES, type ProblemDetails } from '../contract/errors.ts';
import type { Portal } from './portal.ts';
import { isStorageFailure } from './store/open.ts';

export function httpStatus(problem: ProblemDetails): number {
  return ERROR_CODES[problem.code].http;
}

export function createErrorHandler(portal: Portal) {
  return (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
    const stuck = isStorageFailure(error);
    const known = stuck ? storageProblem(error) : asPcgError(error);
    const problem = toProblem(known ?? error);
    const status = known === undefined ? 500 : (frameworkStatus(error) ?? httpStatus(problem));
    if (known === undefined || stuck)
      portal.log.error(
        {
          method: request.method,
          route: request.routeOptions.url,
          error: describeError(error),
          stack: error.stack,
        },
        'request failed',
      );
    const wait = problem.details?.['retryAfterSeconds'];
    if (typeof wait === 'number') reply.header('retry-after', String(wait));
    reply.code(status).header('cache-control', 'no-store').send(problem);
  };
}

function storageProblem(cause: Error): PcgError {
  return new PcgError('STORAGE_FAILED', `the portal's store cannot be written: ${cause.message}`, {
    fix: "Check free space and permissions of the portal's store. Gateways go on meanwhile and report later.",
    cause,
  });
}

/** Fastify's own refusals (malformed JSON, too large, wrong type) are the caller's mistakes. */
function asPcgError(error: FastifyError): PcgError | undefined {
  if (error instanceof PcgError) return error;
  if (error.statusCode === undefined || error.statusCode >= 500) return undefined;
  return new PcgError('INVALID_INPUT', error.message, { cause: error });
}

function frameworkStatus(error: FastifyError): number | undefined {
  return error instanceof PcgError ? undefined : error.statusCode;
}
