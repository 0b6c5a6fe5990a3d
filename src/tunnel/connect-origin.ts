/**
 * A byte pipe to the portal's origin: DNS, TCP or proxy, then TLS. Dial and pairing both stand on it, so that
 * the two see the same network. Each stage that can fail has its own reason.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { ErrorCode } from '../contract/errors.ts';
import { connectThroughProxy } from './proxy-connect.ts';
import { type ProxySettings, type ProxyTarget, proxyFor } from './proxy-env.ts';
import { socketReady } from './socket-ready.ts';
import { isTlsFailure, tlsError, tlsOptions } from './tls-trust.ts';

/** One stage may take this long; a route with loss needs a few SYN retries. */
const STAGE_TIMEOUT_MS = 15_000;
/** Per address while racing address families: Node's 250 ms loses against a satellite link. */
const ADDRESS_TIMEOUT_MS = 3_000;

/** Why no pipe came to be; stable names for metrics, doctor and retry policy. */
export type ConnectFailure =
  | 'bad-url'
  | 'dns'
  | 'tcp-refused'
  | 'tcp-timeout'
  | 'tcp-failed'
  | 'proxy-unreachable'
  | 'proxy-timeout'
  | 'proxy-auth'
  | 'proxy-refused'
  | 'proxy-silent'
  | 'tls-failed'
  | 'tls-timeout'
  | 'tls-cut';

export type ConnectOutcome =
  | {
      readonly kind: 'connected';
      readonly socket: Duplex;
      readonly via: 'direct' | 'proxy';
      readonly secure: boolean;
    }
  | { readonly kind: 'failed'; readonly reason: ConnectFailure; readonly error: PcgError };

export interface ConnectOptions {
  /** http, https, ws or wss; only the origin matters. */
  readonly url: URL;
  readonly proxy?: ProxySettings | undefined;
  readonly caPem?: string | undefined;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly stageTimeoutMs?: number | undefined;
}

/** Rejects only with the signal's reason. */
export async function connectOrigin(options: ConnectOptions): Promise<ConnectOutcome> {
  const { url, clock, signal, caPem } = options;
  const timeoutMs = options.stageTimeoutMs ?? STAGE_TIMEOUT_MS;
  const secure = url.protocol === 'https:' || url.protocol === 'wss:';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
  let proxy: ProxyTarget | undefined;
  try {
    proxy = proxyFor(url, options.proxy ?? {});
  } catch (error) {
    if (error instanceof PcgError) return { kind: 'failed', reason: 'bad-url', error };
    throw error;
  }
  const via: Where['via'] = proxy ? 'proxy' : 'direct';
  const where = { host, port, via };

  let raw: Duplex;
  try {
    raw = proxy
      ? await connectThroughProxy({ proxy, host, port, caPem, clock, signal, timeoutMs })
      : await withDeadline(clock, timeoutMs, 'TCP connection', signal, (stop) => openTcp(host, port, stop));
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    return proxy ? proxyFailure(error) : tcpFailure(error, where);
  }
  if (!secure) return { kind: 'connected', socket: raw, via, secure };
  try {
    const socket = await withDeadline(clock, timeoutMs, 'TLS handshake', signal, (stop) =>
      openTls(raw, host, caPem, stop),
    );
    return { kind: 'connected', socket, via, secure };
  } catch (error) {
    raw.destroy();
    if (signal?.aborted) throw signal.reason;
    return tlsFailure(error, where);
  }
}

function openTcp(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({
    host,
    port,
    noDelay: true,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_TIMEOUT_MS,
  });
  return socketReady(socket, 'connect', signal);
}

function openTls(raw: Duplex, host: string, caPem: string | undefined, signal: AbortSignal): Promise<Socket> {
  const socket = connectTls({ socket: raw, ...tlsOptions(host, caPem), ALPNProtocols: ['http/1.1'] });
  return socketReady(socket, 'secureConnect', signal);
}

type Where = { host: string; port: number; via: 'direct' | 'proxy' };

const failed = (reason: ConnectFailure, error: PcgError): ConnectOutcome => ({
  kind: 'failed',
  reason,
  error,
});

function tcpFailure(cause: unknown, where: Where): ConnectOutcome {
  if (cause instanceof DeadlineError) {
    const message = 'the portal does not answer: the connection timed out';
    return failed('tcp-timeout', unreachable(message, { ...where, stage: 'tcp', reason: 'timeout' }, cause));
  }
  const { code = 'unknown', syscall } = cause as NodeJS.ErrnoException;
  if (syscall === 'getaddrinfo') {
    return failed(
      'dns',
      unreachable('the name of the portal does not resolve', { ...where, stage: 'dns', reason: code }, cause),
    );
  }
  const details = { ...where, stage: 'tcp', reason: code };
  if (code === 'ETIMEDOUT') {
    return failed(
      'tcp-timeout',
      unreachable('the portal does not answer: the connection timed out', details, cause),
    );
  }
  return code === 'ECONNREFUSED'
    ? failed('tcp-refused', unreachable('the portal refuses connections on this port', details, cause))
    : failed('tcp-failed', unreachable(`the portal cannot be reached: ${code}`, details, cause));
}

const PROXY_FAILURES: Partial<Record<ErrorCode, ConnectFailure>> = {
  PROXY_AUTH_REQUIRED: 'proxy-auth',
  PROXY_TIMEOUT: 'proxy-timeout',
  PROXY_UNREACHABLE: 'proxy-unreachable',
  PROXY_REFUSED: 'proxy-refused',
  TLS_FAILED: 'tls-failed',
  INVALID_INPUT: 'bad-url',
};

function proxyFailure(error: unknown): ConnectOutcome {
  if (!(error instanceof PcgError)) throw error;
  return failed(PROXY_FAILURES[error.code] ?? 'proxy-refused', error);
}

function tlsFailure(cause: unknown, where: Where): ConnectOutcome {
  const details = { ...where, stage: 'tls' };
  if (cause instanceof DeadlineError) {
    return where.via === 'proxy'
      ? failed('proxy-silent', proxySilence(details, cause))
      : failed('tls-timeout', unreachable('the TLS handshake with the portal got no answer', details, cause));
  }
  const error = cause as NodeJS.ErrnoException;
  if (isTlsFailure(error)) return failed('tls-failed', tlsError(error, where.host, 'portal'));
  const fix = 'A firewall cut the TLS handshake. Ask for the portal host and port 443 to be allowed.';
  return failed(
    'tls-cut',
    new PcgError('PORTAL_UNREACHABLE', 'the connection was cut during the TLS handshake', {
      fix,
      details: { ...details, reason: error.code ?? 'unknown' },
      cause,
    }),
  );
}

/** The proxy said 200 and then nothing came. */
export function proxySilence(details: Record<string, unknown>, cause?: unknown): PcgError {
  return new PcgError(
    'PROXY_TIMEOUT',
    'the proxy opened the way to the portal, but nothing comes through it',
    {
      fix: 'The proxy accepts CONNECT but does not forward. Check the route from the proxy to the portal, and its rules for WebSockets.',
      details,
      cause,
    },
  );
}

const unreachable = (message: string, details: Record<string, unknown>, cause: unknown): PcgError =>
  new PcgError('PORTAL_UNREACHABLE', message, { details, cause });
