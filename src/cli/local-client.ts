/** Asks the agent on this host over its unix socket; an answer that is not JSON is text. No agent there is a coded error, not a stack trace. */
import { Client } from 'undici';
import { PcgError } from '../base/errors.ts';
import { ProblemDetailsSchema } from '../contract/errors.ts';

const TIMEOUT_MS = 60_000;

export async function askAgent(
  socketPath: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  signal: AbortSignal,
  body?: unknown,
): Promise<unknown> {
  const client = new Client('http://agent', { socketPath, headersTimeout: TIMEOUT_MS });
  try {
    const answer = await client.request({
      method,
      path,
      signal,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await answer.body.text();
    if (answer.statusCode < 400) {
      const isJson = String(answer.headers['content-type'] ?? '').includes('json');
      return text === '' ? undefined : isJson ? (JSON.parse(text) as unknown) : text;
    }
    const { code, message, field, fix, retryable, details } = ProblemDetailsSchema.parse(JSON.parse(text));
    throw new PcgError(code, message, { field, fix, retryable, details });
  } catch (error) {
    if (error instanceof PcgError || signal.aborted) throw error;
    throw new PcgError('TEMPORARY', `no agent answers at ${socketPath}`, {
      fix: 'Start it with `pcg agent`, or name its socket with --socket.',
      cause: error,
    });
  } finally {
    await client.close();
  }
}
