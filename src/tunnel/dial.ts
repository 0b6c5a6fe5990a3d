/**
 * One attempt to reach the portal: network, proxy, TLS, WebSocket upgrade -> an outcome with a reason. It never
 * throws for what the network did; who calls decides when to try again. No identity is proven here: that is the
 * handshake's part, on the first messages.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { type ConnectFailure, connectOrigin, proxySilence } from './connect-origin.ts';
import type { ProxySettings } from './proxy-env.ts';
import { READER_LIMITS } from './socket.ts';
import { isIssuedByExtraCa } from './tls-trust.ts';

export const SUBPROTOCOL = 'pcg.tunnel.v1';
/** From the request to the 101; the portal only looks at a header. */
const UPGRADE_TIMEOUT_MS = 15_000;
/** A close message is answered within this, or the socket is dropped. */
const CLOSE_TIMEOUT_MS = 3_000;
/** A longer wish is a mistake of somebody's clock or configuration. */
const MAX_RETRY_AFTER_MS = 3_600_000;

export type DialFailure =
  | ConnectFailure
  | 'upgrade-timeout'
  | 'upgrade-cut'
  /** A status that a portal or a gateway in front of it gives: 4xx, 5xx. */
  | 'rejected'
  | 'redirected'
  /** 2xx instead of 101: a captive portal, or another web server. */
  | 'not-a-portal'
  /** 101 with a wrong accept key or without the right headers. */
  | 'bad-upgrade'
  /** 101 without the subprotocol: something on the way strips it. Dial again with `offerSubprotocol: false`. */
  | 'no-subprotocol';

export type DialOutcome =
  | {
      readonly kind: 'connected';
      readonly webSocket: WebSocket;
      readonly via: 'direct' | 'proxy';
      /** The certificate comes from the extra CA: TLS is inspected on the way, or the portal has a private CA. */
      readonly extraCa: boolean;
    }
  | {
      readonly kind: 'failed';
      readonly reason: DialFailure;
      readonly error: PcgError;
      readonly status?: number;
      /** The server's own wish, bounded to an hour. */
      readonly retryAfterMs?: number;
    };

export interface DialOptions {
  /** `wss://portal.example/tunnel/v1`; `ws:` for development. */
  readonly url: string;
  readonly proxy?: ProxySettings | undefined;
  readonly caPem?: string | undefined;
  readonly offerSubprotocol?: boolean;
  /** For the User-Agent header. */
  readonly software: string;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** For each stage: TCP or proxy, TLS, upgrade. */
  readonly stageTimeoutMs?: number | undefined;
}

/** Rejects only with the signal's reason. The socket of a failed attempt is closed. */
export async function dial(options: DialOptions): Promise<DialOutcome> {
  const { clock, signal, caPem } = options;
  let url: URL;
  try {
    url = new URL(options.url);
    if (url.protocol !== 'wss:' && url.protocol !== 'ws:') throw new TypeError('not a WebSocket URL');
  } catch (cause) {
    const error = new PcgError('BAD_CONFIG', 'the tunnel URL is not a WebSocket URL', {
      field: 'tunnelUrl',
      cause,
    });
    return { kind: 'failed', reason: 'bad-url', error };
  }
  const origin = await connectOrigin({ ...options, url });
  if (origin.kind === 'failed') return origin;
  const { via, secure } = origin;
  const socket = origin.socket as Socket;
  const offer = options.offerSubprotocol ?? true;
  const webSocket = new WebSocket(url, offer ? [SUBPROTOCOL] : [], {
    createConnection: () => socket,
    perMessageDeflate: false,
    ...READER_LIMITS,
    followRedirects: false,
    skipUTF8Validation: true,
    headers: { 'user-agent': options.software },
    closeTimeout: CLOSE_TIMEOUT_MS,
    // a zero mask is legal, and TLS hides the bytes from proxies anyway; masking costs 3x throughput
    ...(secure ? { generateMask: (mask: Buffer) => void mask.fill(0) } : {}),
  } as WebSocket.ClientOptions);
  try {
    const failure = await withDeadline(
      clock,
      options.stageTimeoutMs ?? UPGRADE_TIMEOUT_MS,
      'upgrade',
      signal,
      (stop) => upgraded(webSocket, { host: url.host, via }, clock, stop),
    );
    if (failure) return abandon(webSocket, socket, failure);
    const extraCa = secure && caPem !== undefined && isIssuedByExtraCa(socket as TLSSocket, caPem);
    return { kind: 'connected', webSocket, via, extraCa };
  } catch (cause) {
    const where = { host: url.host, via, stage: 'upgrade' };
    const silent =
      via === 'proxy'
        ? failed('proxy-silent', proxySilence(where, cause))
        : failed(
            'upgrade-timeout',
            unreachable('the portal did not answer the upgrade request', where, cause),
          );
    abandon(webSocket, socket, silent);
    if (cause instanceof DeadlineError) return silent;
    throw cause;
  }
}

type Failed = Extract<DialOutcome, { kind: 'failed' }>;

/** Undefined: the WebSocket is open. Rejects only by `signal`. */
function upgraded(
  webSocket: WebSocket,
  where: { host: string; via: string },
  clock: Clock,
  signal: AbortSignal,
): Promise<Failed | undefined> {
  return new Promise((resolve, reject) => {
    let switching: IncomingMessage | undefined;
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const settle = (outcome: Failed | undefined): void => {
      signal.removeEventListener('abort', onAbort);
      resolve(outcome);
    };
    webSocket.once('upgrade', (response) => {
      switching = response;
    });
    webSocket.once('open', () => {
      webSocket.pause(); // the portal speaks first; the carrier resumes when it listens
      settle(undefined);
    });
    webSocket.once('unexpected-response', (_request, response) => {
      response.resume();
      settle(rejected(response, where, clock));
    });
    // stays for ever: a WebSocket without an error listener would end the process
    webSocket.on('error', (cause: NodeJS.ErrnoException) => {
      const details = { ...where, stage: 'upgrade', reason: cause.code ?? 'unknown' };
      if (!switching) {
        return settle(
          failed('upgrade-cut', unreachable('the connection was cut during the upgrade', details, cause)),
        );
      }
      const stripped = switching.headers['sec-websocket-protocol'] === undefined;
      settle(
        stripped
          ? failed(
              'no-subprotocol',
              unreachable('the upgrade came back without the subprotocol', details, cause),
            )
          : failed(
              'bad-upgrade',
              unreachable('something else than a portal answered the upgrade', details, cause),
            ),
      );
    });
  });
}

function rejected(response: IncomingMessage, where: Record<string, unknown>, clock: Clock): Failed {
  const status = response.statusCode ?? 0;
  const details = { ...where, stage: 'upgrade', status };
  const retryAfterMs = parseRetryAfter(response.headers['retry-after'], clock.now());
  const extra = { status, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  if (status === 407) {
    return {
      ...failed(
        'proxy-auth',
        new PcgError('PROXY_AUTH_REQUIRED', 'a proxy on the way wants a user and password', { details }),
      ),
      ...extra,
    };
  }
  if (status >= 300 && status < 400) {
    const location = response.headers.location?.slice(0, 200);
    const error = unreachable(
      'the upgrade was redirected',
      { ...details, location },
      undefined,
      'Check the tunnel URL. A captive portal or a login page may answer in its place.',
    );
    return { ...failed('redirected', error), ...extra };
  }
  if (status < 300) {
    const error = unreachable(
      'a web server answers, but not a portal',
      details,
      undefined,
      'Check the tunnel URL. A captive portal or a proxy that knows no WebSockets may answer in its place.',
    );
    return { ...failed('not-a-portal', error), ...extra };
  }
  return {
    ...failed(
      'rejected',
      unreachable(`the upgrade was refused with status ${status}`, details, undefined, REJECTIONS[status]),
    ),
    ...extra,
  };
}

const REJECTIONS: Record<number, string> = {
  401: 'Something in front of the portal asks for a sign-in. Let the tunnel path pass without one.',
  403: 'Something in front of the portal forbids it. Allow WebSockets to the tunnel path from this address.',
  404: 'The portal has no tunnel at this URL. Check the tunnel URL.',
  426: 'The portal wants another protocol version. Update the gateway.',
  429: 'Too many connections from this address. It is tried again later.',
};

/** Seconds or an HTTP date; undefined when absent or nonsense. */
export function parseRetryAfter(text: string | undefined, now: number): number | undefined {
  if (text === undefined) return undefined;
  const isDate = /^[a-z]{3},? /i.test(text.trim()); // Date.parse finds dates in "-5", too
  const ms = isDate ? Date.parse(text) - now : /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Number.NaN;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
}

function abandon(webSocket: WebSocket, socket: Socket, failure: Failed): Failed {
  webSocket.on('error', () => {}); // terminate() while connecting reports itself as an error
  webSocket.terminate();
  socket.destroy();
  return failure;
}

const failed = (reason: DialFailure, error: PcgError): Failed => ({ kind: 'failed', reason, error });

const unreachable = (
  message: string,
  details: Record<string, unknown>,
  cause?: unknown,
  fix?: string,
): PcgError => new PcgError('PORTAL_UNREACHABLE', message, { details, fix, cause });
