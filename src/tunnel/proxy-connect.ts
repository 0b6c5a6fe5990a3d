/**
 * HTTP CONNECT through a forward proxy: one TCP (or TLS) connection to the proxy becomes a byte pipe to host:port.
 * Every way in which a proxy fails has its own code, since each has another person who fixes it:
 * unreachable, does not answer, wants credentials, refuses, cannot be trusted.
 * The whole exchange has one deadline, so a proxy that drips its header byte by byte ends too.
 */
import http from 'node:http';
import https from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { basicCredentials, type ProxyTarget } from './proxy-env.ts';
import { isTlsFailure, tlsError, tlsOptions } from './tls-trust.ts';

/** A healthy proxy answers within one round trip to the portal. */
export const PROXY_TIMEOUT_MS = 15_000;
/** A CONNECT answer carries a few headers; login pages of 407 answers put their text in the body. */
const MAX_HEADER_BYTES = 16 * 1024;

export interface ProxyConnectOptions {
  readonly proxy: ProxyTarget;
  readonly host: string;
  readonly port: number;
  /** Trusted beside the system's CAs, for a proxy over TLS. */
  readonly caPem?: string | undefined;
  readonly timeoutMs?: number;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Resolves to the pipe; bytes that came right behind the proxy's answer are the first to be read from it.
 * Rejects with PcgError PROXY_UNREACHABLE, PROXY_TIMEOUT, PROXY_AUTH_REQUIRED, PROXY_REFUSED {status} or TLS_FAILED,
 * or with the signal's reason.
 */
export function connectThroughProxy(options: ProxyConnectOptions): Promise<Duplex> {
  const { proxy, host, port, clock, signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const authority = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
    if (!isSafeHost(host) || !Number.isInteger(port) || port < 1 || port > 65_535) {
      return reject(new PcgError('INVALID_INPUT', 'not a host and port', { details: { host, port } }));
    }
    const where = { proxy: `${proxy.host}:${proxy.port}`, target: authority };
    const request = (proxy.secure ? https : http).request({
      host: proxy.host,
      port: proxy.port,
      method: 'CONNECT',
      path: authority,
      headers: {
        host: authority,
        ...(proxy.credentials ? { 'proxy-authorization': basicCredentials(proxy.credentials) } : {}),
      },
      agent: false,
      maxHeaderSize: MAX_HEADER_BYTES,
      ...(proxy.secure ? tlsOptions(proxy.host, options.caPem) : {}),
    });
    let reached = false;
    const settle = (finish: () => void): void => {
      timer[Symbol.dispose]();
      signal?.removeEventListener('abort', onAbort);
      finish();
    };
    const fail = (error: unknown): void =>
      settle(() => {
        request.destroy();
        reject(error);
      });
    const onAbort = (): void => fail(signal?.reason);
    const timer = clock.timer(options.timeoutMs ?? PROXY_TIMEOUT_MS, () =>
      fail(
        new PcgError(
          'PROXY_TIMEOUT',
          reached
            ? 'the proxy accepted the connection but did not answer'
            : 'the proxy cannot be reached in time',
          {
            details: { ...where, stage: reached ? 'answer' : 'connect' },
          },
        ),
      ),
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    request.on('socket', (socket: Socket) => {
      socket.setNoDelay(true);
      socket.once(proxy.secure ? 'secureConnect' : 'connect', () => {
        reached = true;
      });
    });
    request.on('error', (error: NodeJS.ErrnoException) => {
      if (proxy.secure && isTlsFailure(error)) return fail(tlsError(error, proxy.host, 'proxy'));
      const message = reached ? 'the proxy broke off instead of answering' : 'the proxy cannot be reached';
      fail(
        new PcgError(reached ? 'PROXY_REFUSED' : 'PROXY_UNREACHABLE', message, {
          details: { ...where, reason: error.code ?? 'unknown' },
          cause: error,
        }),
      );
    });
    // an answer other than 2xx may arrive as `connect` (no body) or as `response`, as the parser sees fit
    request.on('response', (response) => {
      response.resume();
      fail(refused(response, where));
    });
    request.on('connect', (response, socket, head) => {
      const status = response.statusCode ?? 0;
      if (status < 200 || status > 299) {
        socket.destroy();
        return fail(refused(response, where));
      }
      if (head.length > 0) socket.unshift(head);
      settle(() => resolve(socket));
    });
    request.end();
  });
}

function refused(response: http.IncomingMessage, where: Record<string, unknown>): PcgError {
  const status = response.statusCode ?? 0;
  if (status !== 407) {
    return new PcgError('PROXY_REFUSED', `the proxy refused to connect: status ${status}`, {
      details: { ...where, status },
      ...(status >= 502 && status <= 504
        ? {
            fix: 'The proxy could not reach the portal: check the host name, and DNS and route of the proxy.',
          }
        : {}),
    });
  }
  const schemes = offeredSchemes(response);
  const basic = schemes.length === 0 || schemes.includes('basic');
  return new PcgError('PROXY_AUTH_REQUIRED', 'the proxy wants a user and password', {
    details: { ...where, status, schemes },
    ...(basic
      ? {}
      : {
          fix: `The proxy offers only ${schemes.join(', ')}; allow Basic or this host's address on the proxy.`,
        }),
  });
}

function offeredSchemes(response: http.IncomingMessage): string[] {
  const offers = response.headersDistinct['proxy-authenticate'] ?? [];
  return offers
    .map((offer) => offer.trim().split(/\s/, 1)[0]?.toLowerCase() ?? '')
    .filter((name) => /^[a-z-]{1,20}$/.test(name));
}

/** Nothing that could end a request line or a header (CRLF injection). */
const isSafeHost = (host: string): boolean =>
  isIP(host) !== 0 || /^[a-z0-9_]([a-z0-9_.-]{0,253})$/i.test(host);
