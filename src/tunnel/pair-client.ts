/**
 * The gateway's walk through pairing over HTTPS (and proxies): two POSTs, safe to repeat with the same identity.
 * The caller saves the identity BEFORE calling and the result after: whatever dies in between, calling again with the
 * same code and identity gives the same gateway until the code expires.
 */
import type { Socket } from 'node:net';
import { type buildConnector, Client, request } from 'undici';
import type { z } from 'zod';
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';
import { ProblemDetailsSchema } from '../contract/errors.ts';
import { PairChallengeSchema, PairResultSchema } from '../contract/pairing.ts';
import { connectOrigin } from './connect-origin.ts';
import type { Identity } from './identity.ts';
import { answerChallenge, checkResult, startAttempt } from './pair.ts';
import { parseCode } from './pair-code.ts';
import type { ProxySettings } from './proxy-env.ts';

/** Each POST: the portal looks up one record. */
const REQUEST_TIMEOUT_MS = 20_000;
const MAX_ANSWER_BYTES = 64 * 1024;

export interface PairOptions {
  /** As shown with the code, e.g. `https://portal.example`. */
  readonly portalUrl: string;
  readonly code: string | Secret;
  readonly identity: Pick<Identity, 'publicKey' | 'sealingKey'>;
  readonly proxy?: ProxySettings | undefined;
  readonly caPem?: string | undefined;
  /** What the installer was told; the portal refuses another name than the code's. */
  readonly gatewayName?: string | undefined;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

export interface Paired {
  readonly gatewayId: string;
  readonly gatewayName: string;
  readonly tunnelUrl: string;
  /** To be pinned: the tunnel refuses a portal with another key. */
  readonly portalKey: string;
  readonly words: string;
}

/** Throws PcgError PAIRING_*, PORTAL_UNREACHABLE, PROXY_*, TLS_FAILED, INVALID_INPUT. */
export async function pairWithPortal(options: PairOptions): Promise<Paired> {
  const code = parseCode(typeof options.code === 'string' ? options.code : options.code.reveal());
  const portalUrl = normalisePortalUrl(options.portalUrl);
  const attempt = startAttempt({
    ...code,
    gatewayKey: options.identity.publicKey,
    sealingKey: options.identity.sealingKey,
    portalUrl,
    gatewayName: options.gatewayName,
  });
  const challenge = await post(options, portalUrl, 'hello', attempt.hello, PairChallengeSchema);
  const confirm = answerChallenge(attempt, challenge);
  const result = await post(options, portalUrl, 'confirm', confirm, PairResultSchema);
  checkResult(attempt, challenge, result);
  const { gatewayId, gatewayName, tunnelUrl, words } = result;
  return { gatewayId, gatewayName, tunnelUrl, portalKey: challenge.portalKey, words };
}

/** Scheme, host, port and path prefix without a final slash. Throws INVALID_INPUT. */
export function normalisePortalUrl(text: string): string {
  const wrong = (message: string): PcgError =>
    new PcgError('INVALID_INPUT', message, {
      field: 'portalUrl',
      fix: 'Give it like https://portal.example.',
    });
  let url: URL;
  try {
    url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text.trim()) ? text.trim() : `https://${text.trim()}`);
  } catch {
    throw wrong('the portal URL is not a URL');
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw wrong('the portal URL must start with https://');
  if (url.username || url.password) throw wrong('the portal URL must not contain credentials');
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

async function post<T>(
  options: PairOptions,
  portalUrl: string,
  step: 'hello' | 'confirm',
  body: unknown,
  schema: z.ZodType<T>,
): Promise<T> {
  const url = new URL(`${portalUrl}/api/v1/pair/${step}`);
  const { status, text } = await exchange(options, url, JSON.stringify(body));
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw notAPortal(url, status);
  }
  if (status >= 200 && status < 300) {
    const parsed = schema.safeParse(json);
    if (parsed.success) return parsed.data;
    throw notAPortal(url, status);
  }
  const problem = ProblemDetailsSchema.safeParse(json);
  if (!problem.success) throw notAPortal(url, status);
  const { code, message, fix, retryable, field, details } = problem.data;
  throw new PcgError(code, message, { fix, retryable, field, details });
}

async function exchange(
  options: PairOptions,
  url: URL,
  body: string,
): Promise<{ status: number; text: string }> {
  const { proxy, caPem, clock, signal } = options;
  let failure: PcgError | undefined;
  const open = async (callback: buildConnector.Callback): Promise<void> => {
    try {
      const outcome = await connectOrigin({ url, proxy, caPem, clock, signal });
      if (outcome.kind === 'failed') throw outcome.error;
      callback(null, outcome.socket as Socket);
    } catch (error) {
      if (error instanceof PcgError) failure = error;
      callback(error as Error, null);
    }
  };
  const dispatcher = new Client(url.origin, {
    pipelining: 0, // one request, one connection: a retry must not meet a half-dead socket
    headersTimeout: 0, // our own deadline covers all
    bodyTimeout: 0,
    connect: (_target, callback) => void open(callback),
  });
  try {
    return await withDeadline(clock, REQUEST_TIMEOUT_MS, 'pairing request', signal, async (stop) => {
      const response = await request(url, {
        dispatcher,
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json' },
        body,
        signal: stop,
      });
      return { status: response.statusCode, text: await readBounded(response.body, url) };
    });
  } catch (error) {
    if (failure) throw failure;
    if (signal?.aborted) throw signal.reason;
    if (error instanceof PcgError) throw error;
    const reason =
      error instanceof DeadlineError ? 'timeout' : ((error as NodeJS.ErrnoException).code ?? 'unknown');
    throw new PcgError('PORTAL_UNREACHABLE', 'the portal broke off or did not answer the pairing request', {
      details: { url: url.href, stage: 'http', reason },
      cause: error,
    });
  } finally {
    await dispatcher.destroy();
  }
}

async function readBounded(body: AsyncIterable<Buffer>, url: URL): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw notAPortal(url, 0);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** A captive portal, a login page of a proxy, another web server. */
const notAPortal = (url: URL, status: number): PcgError =>
  new PcgError('PORTAL_UNREACHABLE', 'something answers at the portal URL, but not a portal', {
    fix: 'Check the portal URL. A captive portal or a proxy may answer in its place.',
    details: { url: url.href, stage: 'http', status, reason: 'not-a-portal' },
  });
