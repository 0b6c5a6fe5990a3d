/**
 * Connections to one TLS server of a cluster (API server, etcd): mTLS with the cluster's own CA only, straight
 * or through an HTTP CONNECT proxy to the machine network. The one place that builds undici dispatchers.
 */
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent } from 'undici';

export interface TlsIdentity {
  readonly caPem: string;
  readonly certPem?: string;
  readonly keyPem?: string;
  /** Name to verify instead of the dialled host. */
  readonly serverName?: string;
  /** `http://user:password@host:port` */
  readonly proxyUrl?: string;
  /** Told of the server's certificate at each full handshake, before its name is checked. */
  readonly onCertificate?: (certificate: PeerCertificate) => void;
}

/** A node that was powered off answers no SYN; within this time a live one on the same site always does. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Below every server's idle limit that we know (API server 90 s and more), so that we are the side that closes. */
const KEEP_ALIVE_MS = 30_000;

/** `connections`: upper bound of parallel connections; undefined = as many as requests (watches). */
export function createDispatcher(identity: TlsIdentity, connections: number | undefined): Dispatcher {
  const tls = {
    ca: identity.caPem,
    ...(identity.certPem === undefined ? {} : { cert: identity.certPem }),
    ...(identity.keyPem === undefined ? {} : { key: identity.keyPem }),
    ...(identity.serverName === undefined ? {} : { servername: identity.serverName }),
    ...(identity.onCertificate === undefined
      ? {}
      : { checkServerIdentity: observed(identity.onCertificate) }),
    timeout: CONNECT_TIMEOUT_MS,
    allowH2: false, // one watch per connection keeps a stuck stream from stopping the others
  };
  const pool = {
    connections: connections ?? null,
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    // Deadlines belong to the callers' signals, which follow the clock.
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  if (identity.proxyUrl === undefined) return new Agent({ ...pool, connect: tls });
  const proxy = new URL(identity.proxyUrl);
  const credentials =
    proxy.username === ''
      ? undefined
      : `Basic ${Buffer.from(`${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`).toString('base64')}`;
  return new ProxyAgent({
    ...pool,
    uri: proxy.origin,
    requestTls: tls,
    proxyTunnel: true,
    ...(credentials === undefined ? {} : { token: credentials }),
  });
}

/**
 * One request, ended by its signal at any time: undici by itself keeps a request whose connection is still being made
 * until that connection stands or is given up, long after the caller's deadline.
 */
export function send(
  dispatcher: Dispatcher,
  request: Dispatcher.RequestOptions & { readonly signal: AbortSignal },
): Promise<Dispatcher.ResponseData> {
  const { signal } = request;
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason);
    signal.addEventListener('abort', end, { once: true });
    dispatcher
      .request(request)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', end));
  });
}

function observed(tell: (certificate: PeerCertificate) => void): typeof checkServerIdentity {
  return (host, certificate) => {
    tell(certificate);
    return checkServerIdentity(host, certificate);
  };
}
