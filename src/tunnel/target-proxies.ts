/**
 * The two reverse proxies of a gateway. `maas:<account>`: the gateway adds the OAuth header, so the portal never sees
 * the key. `kube:<cluster>`: the gateway adds its client certificate and impersonates the portal's user; what a client
 * says about itself (Authorization, Impersonate-*) ends here.
 */
import type http from 'node:http';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError, toProblem } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { ERROR_CODES } from '../contract/errors.ts';
import { createTargetServer, openOf } from './http.ts';
import type { Principal } from './ports.ts';
import { createReverseProxy } from './reverse-proxy.ts';
import { upstreamAgent } from './upstream-agent.ts';

/** Never from the client: credentials, sessions of the portal's page, and what only a trusted proxy may say. */
const dropsIdentity = (name: string): boolean =>
  name === 'authorization' ||
  name === 'cookie' ||
  name === 'forwarded' ||
  name.startsWith('x-forwarded-') ||
  name.startsWith('x-remote-') ||
  name.startsWith('impersonate-');

/** An HTTP server for `httpTarget`; dispose to close its connections. */
export interface TargetProxy extends Disposable {
  readonly server: http.Server;
}

export interface MaasProxyOptions {
  /** E.g. `http://10.11.12.13:5240/MAAS`; paths of requests are below it, with or without repeating it. */
  readonly endpoint: URL;
  /** A fresh Authorization header for each request (a nonce is burned by any request). */
  readonly authorization: () => string;
  readonly caPem?: string | undefined;
  readonly proxyUrl?: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

export function createMaasProxy(options: MaasProxyOptions): TargetProxy {
  const { endpoint, clock, log } = options;
  const agent = upstreamAgent({
    url: endpoint,
    extraCaPem: options.caPem,
    proxyUrl: options.proxyUrl,
    clock,
  });
  const proxy = createReverseProxy({
    route: (request) => ({
      agent,
      host: endpoint.host,
      path: below(endpoint.pathname.replace(/\/+$/, ''), request.url ?? '/'),
      setHeaders: { Authorization: options.authorization() },
      drops: dropsIdentity,
    }),
    unreachable: (cause) =>
      cause instanceof PcgError
        ? cause
        : new PcgError('MAAS_UNREACHABLE', 'MAAS cannot be reached from the gateway', { cause }),
    log,
  });
  return served(proxy, agent);
}

export interface KubeProxyOptions {
  /** As kube/ has it. The certificate must be allowed to impersonate. */
  readonly target: {
    readonly server: string;
    readonly caPem: string;
    readonly certPem?: string;
    readonly keyPem?: string;
    readonly token?: string;
    readonly serverName?: string;
    readonly proxyUrl?: string;
  };
  readonly clock: Clock;
  readonly log: Log;
}

/** A request without a principal is refused: it would run with the gateway's own rights. */
export function createKubeProxy({ target, clock, log }: KubeProxyOptions): TargetProxy {
  const url = new URL(target.server);
  const { caPem, certPem, keyPem, serverName, proxyUrl } = target;
  const agent = upstreamAgent({ url, onlyCaPem: caPem, certPem, keyPem, serverName, proxyUrl, clock });
  const proxy = createReverseProxy({
    route: (request) => ({
      agent,
      host: url.host,
      path: request.url ?? '/',
      setHeaders: {
        ...impersonation(openOf(request)?.principal),
        ...(target.token === undefined ? {} : { Authorization: `Bearer ${target.token}` }),
      },
      drops: dropsIdentity,
    }),
    unreachable: (cause) =>
      cause instanceof PcgError
        ? cause
        : new PcgError('KUBE_UNREACHABLE', 'the API server cannot be reached from the gateway', {
            details: { reason: describeError(cause).slice(0, 200) },
            cause,
          }),
    refusal: kubeStatus,
    log,
  });
  return served(proxy, agent);
}

function impersonation(principal: Principal | undefined): Record<string, string | readonly string[]> {
  if (!principal || principal.user === '') {
    throw new PcgError('FORBIDDEN', 'the request names no user to act as');
  }
  const values = [principal.user, ...principal.groups];
  // a value that a header cannot hold must not become another value; groups of the system are not the portal's to give
  if (values.some((value) => !/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value))) {
    throw new PcgError('FORBIDDEN', 'the name of the user or of a group cannot be used in Kubernetes');
  }
  return {
    'Impersonate-User': principal.user,
    ...(principal.groups.length > 0 ? { 'Impersonate-Group': principal.groups } : {}),
  };
}

/** kubectl prints the message of a Status. */
function kubeStatus(error: PcgError): { status: number; body: unknown } {
  const status = ERROR_CODES[error.code].http;
  const problem = toProblem(error);
  const body = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `${error.message}. ${error.fix}`,
    reason: status === 403 ? 'Forbidden' : 'ServiceUnavailable',
    code: status,
    problem,
  };
  return { status, body };
}

/** `/api/2.0/x` and `/MAAS/api/2.0/x` are the same below `/MAAS`; dot segments do not climb out of it. */
function below(base: string, url: string): string {
  let pathname: string;
  let search: string;
  try {
    ({ pathname, search } = new URL(`http://target${url}`));
    if (climbs(pathname)) throw new TypeError('climbs');
  } catch {
    throw new PcgError('INVALID_INPUT', 'the path is not one below the endpoint', { field: 'path' });
  }
  const isBelow = base === '' || pathname === base || pathname.startsWith(`${base}/`);
  return (isBelow ? '' : base) + pathname + search;
}

/** What is encoded here may be decoded there, by more than one server on the way. Throws for what is no encoding. */
function climbs(pathname: string): boolean {
  let text = decodeURIComponent(pathname);
  for (let decoded = 1; decoded < 4; decoded += 1) {
    // some servers take what is behind a semicolon for parameters
    if (text.split(/[\\/]/).some((segment) => segment.split(';', 1)[0] === '..')) return true;
    const before = text;
    try {
      text = decodeURIComponent(before);
    } catch {
      return false; // a mere percent sign
    }
    if (text === before) return false;
  }
  return true;
}

function served(proxy: ReturnType<typeof createReverseProxy>, agent: http.Agent): TargetProxy {
  const server = createTargetServer();
  proxy.attach(server);
  return {
    server,
    [Symbol.dispose]: () => {
      agent.destroy();
      server.closeAllConnections();
    },
  };
}
