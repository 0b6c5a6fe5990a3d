/**
 * A small client of the portal's API for commands: sign-in, JSON calls, and the live feed with resume.
 * Errors of the API come back as the PcgError they were.
 */
import { Agent, request } from 'undici';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Secret } from '../base/log.ts';
import { SignInResultSchema } from '../contract/api.ts';
import { type ProblemDetails, ProblemDetailsSchema } from '../contract/errors.ts';

const HEADERS_TIMEOUT_MS = 90_000;
const FEED_RETRY_MS = 500;
const NEW_TOKEN =
  "The API token is unknown or has expired. Make one on the portal's page, and set PCG_PORTAL_TOKEN or PCG_PORTAL_TOKEN_FILE.";

export interface FeedMessage {
  readonly id: string;
  readonly type: string;
  readonly data: unknown;
}

export class PortalClient implements AsyncDisposable {
  readonly #base: string;
  readonly #clock: Clock;
  readonly #agent: Agent;
  readonly #hasApiToken: boolean;
  #token: string;

  /** `token`: an API token instead of a sign-in. `caPem`: of a portal with a private CA. */
  constructor(url: string, clock: Clock, options: { token?: Secret; caPem?: string | undefined } = {}) {
    this.#base = url.replace(/\/+$/, '');
    this.#clock = clock;
    this.#hasApiToken = options.token !== undefined;
    this.#token = options.token?.reveal() ?? '';
    this.#agent = new Agent({
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: 0,
      ...(options.caPem === undefined ? {} : { connect: { ca: options.caPem } }),
    });
  }

  async signIn(email: string, password: string, signal: AbortSignal): Promise<void> {
    const result = await this.call('POST', '/api/v1/session', { email, password }, signal);
    this.#token = SignInResultSchema.parse(result).token;
  }

  /** One call; an answer that is not JSON is text. Throws the API's error, or PORTAL_UNREACHABLE. */
  async call(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body: unknown,
    signal: AbortSignal,
    headers: Record<string, string> = {},
  ): Promise<unknown> {
    const answer = await this.#send(method, path, body, signal, headers);
    const text = await answer.body.text();
    if (answer.statusCode >= 400) throw problemError(answer.statusCode, text, this.#hasApiToken);
    if (text === '') return undefined;
    return String(answer.headers['content-type']).includes('json') ? (JSON.parse(text) as unknown) : text;
  }

  /** The live feed from `lastId` on, for ever (reconnecting), until aborted. */
  async *feed(path: string, signal: AbortSignal): AsyncGenerator<FeedMessage> {
    let lastId = '';
    for (;;) {
      try {
        const answer = await this.#send(
          'GET',
          path,
          undefined,
          signal,
          lastId === '' ? {} : { 'last-event-id': lastId },
        );
        if (answer.statusCode !== 200)
          throw problemError(answer.statusCode, await answer.body.text(), this.#hasApiToken);
        for await (const message of parseEventStream(answer.body)) {
          if (message.id !== '') lastId = message.id;
          yield message;
        }
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof PcgError && !error.retryable) throw error;
      }
      await this.#clock.sleep(FEED_RETRY_MS, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  async #send(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body: unknown,
    signal: AbortSignal,
    headers: Record<string, string> = {},
  ) {
    try {
      return await request(`${this.#base}${path}`, {
        method,
        dispatcher: this.#agent,
        signal,
        headers: {
          ...headers,
          ...(this.#token === '' ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      throw new PcgError(
        'PORTAL_UNREACHABLE',
        `the portal at ${this.#base} does not answer: ${describeError(cause)}`,
        { cause },
      );
    }
  }
}

/** `hasApiToken`: nobody signed in, so nobody can sign in again. */
function problemError(status: number, text: string, hasApiToken: boolean): PcgError {
  let problem: ProblemDetails | undefined;
  try {
    problem = ProblemDetailsSchema.parse(JSON.parse(text));
  } catch {
    // not our API: a proxy's page, for example
  }
  if (!problem) return new PcgError('PORTAL_UNREACHABLE', `the portal answered ${status} without a reason`);
  const { code, message, field, retryable, details } = problem;
  const fix = code === 'UNAUTHENTICATED' && hasApiToken ? NEW_TOKEN : problem.fix;
  return new PcgError(code, message, { field, fix, retryable, details });
}

/** Server-sent events, as the HTML standard frames them. */
async function* parseEventStream(body: AsyncIterable<Uint8Array>): AsyncGenerator<FeedMessage> {
  const decoder = new TextDecoder();
  let buffer = '';
  for await (const chunk of body) {
    buffer += decoder.decode(chunk, { stream: true });
    for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n')) {
      const block = buffer.slice(0, end);
      buffer = buffer.slice(end + 2);
      const fields = new Map<string, string>();
      for (const line of block.split('\n')) {
        const colon = line.indexOf(':');
        if (colon <= 0) continue;
        const name = line.slice(0, colon);
        const value = line.slice(colon + 1).replace(/^ /, '');
        fields.set(name, fields.has(name) ? `${fields.get(name)}\n${value}` : value);
      }
      const data = fields.get('data');
      if (data !== undefined)
        yield {
          id: fields.get('id') ?? '',
          type: fields.get('event') ?? 'message',
          data: JSON.parse(data) as unknown,
        };
    }
  }
}
