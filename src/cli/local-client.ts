/** Asks the agent on this host over its unix socket. No agent there is a coded error, not a stack trace. */
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
    if (answer.statusCode < 400) return text === '' ? undefined : (JSON.parse(text) as unknown);
    const { code, message, field, fix, retryable, details } = ProblemDetailsSchema.parse(JSON.parse(text));
    throw new PcgError(code, message, { field, fix, retryable, details });
  } catch (error) {
    if (error instanceof PcgError || signal.aborted) throw error;
    throw new PcgError('TEMPORARY', `no agent answers at ${socketPath}`, {
      fix: 'Start it with `pcg agent` (or `systemctl start pcg`), or name its socket with --socket.',
      cause: error,
    });
  } finally {
    await client.close();
  }
}
