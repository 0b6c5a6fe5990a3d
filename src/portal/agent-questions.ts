/**
 * Short questions to the agent behind a gateway: HTTP on a tunnel stream, with a deadline and a bound on
 * the answer. What the agent says is another machine's word: shapes are checked, problems are passed on.
 */
import { withDeadline, DeadlineError } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { ProblemDetailsSchema } from '../contract/errors.ts';
import type { Principal, Tunnel } from '../tunnel/ports.ts';
import { collect, requestOnStream } from './stream-http.ts';
import type { Portal } from './portal.ts';
import type { z } from 'zod';

export interface Question {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With query. */
  readonly path: string;
  readonly body?: unknown;
  readonly principal: Principal;
}

/** The agent's answer, whatever its status. */
export async function askAgent(
  portal: Portal,
  gatewayId: string,
  question: Question,
  signal?: AbortSignal,
): Promise<{ status: number; body: unknown }> {
  const { clock, limits } = portal;
  const tunnel: Tunnel = portal.links.tunnel(gatewayId);
  try {
    return await withDeadline(clock, limits.askTimeoutMs, 'the gateway', signal, async (inner) => {
      const stream = await tunnel.open(
        { target: 'agent', class: 2, principal: question.principal, deadlineMs: limits.askTimeoutMs },
        inner,
      );
      const payload = question.body === undefined ? undefined : JSON.stringify(question.body);
      const answer = await requestOnStream(stream, {
        method: question.method,
        path: question.path,
        headers: {
          host: 'agent',
          accept: 'application/json',
          ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
        },
        payload,
        signal: inner,
      });
      const text = await collect(answer, limits.askMaxBytes);
      return { status: answer.statusCode ?? 502, body: parseJson(text) };
    });
  } catch (error) {
    if (error instanceof DeadlineError)
      throw new PcgError('DEADLINE', `the gateway did not answer within ${error.timeoutMs} ms`, {
        cause: error,
      });
    throw error;
  }
}

/** The answer in the given shape; the agent's problems are thrown as they are. */
export async function askAgentFor<T>(
  portal: Portal,
  gatewayId: string,
  question: Question,
  schema: z.ZodType<T>,
  signal?: AbortSignal,
): Promise<T> {
  const { status, body } = await askAgent(portal, gatewayId, question, signal);
  if (status >= 400) {
    const problem = ProblemDetailsSchema.safeParse(body);
    if (!problem.success)
      throw new PcgError('INTERNAL', `the gateway answered ${status} to ${question.method} ${question.path}`);
    const { code, message, fix, retryable, field, details } = problem.data;
    throw new PcgError(code, message, { fix, retryable, field, details });
  }
  const parsed = schema.safeParse(body);
  if (!parsed.success)
    throw new PcgError('INTERNAL', `the gateway's answer to ${question.path} is not understood`, {
      cause: parsed.error,
      fix: 'Portal and gateway may be of different versions; update the older one.',
    });
  return parsed.data;
}

function parseJson(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new PcgError('INTERNAL', 'the gateway answered something that is not JSON', { cause });
  }
}
