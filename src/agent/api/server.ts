/**
 * The agent's own API: one router, answered on the local unix socket (for `pcg` commands) and on the tunnel
 * target `agent` (for the portal). Short questions only; what takes long is a document. Errors are
 * ProblemDetails. What only the site's owner may see is refused to requests that came through the tunnel.
 */
import { type FastifyInstance, fastify } from 'fastify';
import type { z } from 'zod';
import { DeadlineError } from '../../base/clock.ts';
import { describeError, PcgError, toProblem } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { ERROR_CODES } from '../../contract/errors.ts';

/** A question's body is small; a profile with packs is the largest. */
const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** `local`: the unix socket, reachable by the site's owner only. `tunnel`: the portal. */
export type Caller = 'local' | 'tunnel';

export function createApiServer(
  caller: Caller,
  log: Log,
  routes: readonly ((server: FastifyInstance, caller: Caller) => void)[],
): FastifyInstance {
  const server = fastify({ logger: false, bodyLimit: MAX_BODY_BYTES });
  server.setErrorHandler((error: unknown, request, reply) => {
    const known = error instanceof PcgError ? error : asKnown(error);
    const problem = toProblem(known);
    if (problem.code === 'INTERNAL')
      log.error({ path: request.url, err: describeError(error) }, 'question failed');
    void reply.code(ERROR_CODES[problem.code].http).send(problem);
  });
  server.setNotFoundHandler((request, reply) => {
    void reply
      .code(404)
      .send(toProblem(new PcgError('NOT_FOUND', `there is no ${request.method} ${request.url}`)));
  });
  for (const register of routes) register(server, caller);
  return server;
}

/** Body, query or path validated by its contract; the first issue names its field. */
export function parse<T extends z.ZodType>(schema: T, input: unknown): z.infer<T> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = (issue?.path ?? [])
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
  throw new PcgError('INVALID_INPUT', `${field || 'body'}: ${issue?.message ?? 'not understood'}`, {
    field: field || 'body',
  });
}

/** What is not a defect of this program: a question that took too long, or that Fastify did not understand. */
function asKnown(error: unknown): unknown {
  if (error instanceof DeadlineError)
    return new PcgError('DEADLINE', error.message, {
      fix: 'MAAS or the cluster does not answer: `pcg doctor` says which. Then ask again.',
      cause: error,
    });
  const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500;
  if (status < 400 || status >= 500) return error;
  return new PcgError('INVALID_INPUT', error instanceof Error ? error.message : 'not understood', {
    field: 'body',
    cause: error,
  });
}
