/**
 * Kept-alive connections to a target next to the gateway: plain or TLS (private CA, client certificate), direct or
 * through a CONNECT proxy. One agent per target and credentials: connections are never shared between identities.
 */
import http from 'node:http';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/clock.ts';
import { connectThroughProxy } from './proxy-connect.ts';
import { parseProxyUrl } from './proxy-env.ts';
import { NOTICES_LOSS, socketReady } from './socket-ready.ts';
import { trustedCas } from './tls-trust.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** API servers keep idle connections for a minute or more. */
const IDLE_MS = 30_000;
const MAX_IDLE = 16;

export interface UpstreamOptions {
  /** `http:` or `https:`; only the origin matters. */
  readonly url: URL;
  /** The only CA trusted, for a private PKI such as a cluster's; else the system's. */
  readonly onlyCaPem?: string | undefined;
  /** Trusted beside the system's. Ignored with `onlyCaPem`. */
  readonly extraCaPem?: string | undefined;
  readonly certPem?: string | undefined;
  readonly keyPem?: string | undefined;
  /** Name to verify instead of the host. */
  readonly serverName?: string | undefined;
  readonly proxyUrl?: string | undefined;
  readonly clock: Clock;
}

/** Call `destroy()` when the target or its credentials are gone. */
export function upstreamAgent(options: UpstreamOptions): http.Agent {
  return new UpstreamAgent(options);
}

class UpstreamAgent extends http.Agent {
  readonly #options: UpstreamOptions;
  readonly #ca: string | string[];

  constructor(options: UpstreamOptions) {
    super({ keepAlive: true, maxFreeSockets: MAX_IDLE, timeout: 0, scheduling: 'lifo' });
    this.#options = options;
    this.#ca = options.onlyCaPem ?? trustedCas(options.extraCaPem);
  }

  /** Only free sockets get a timeout: the agent's own option would also cut quiet watches. */
  override keepSocketAlive(socket: Duplex): boolean {
    super.keepSocketAlive(socket);
    (socket as Socket).setTimeout(IDLE_MS); // the agent destroys a free socket that times out
    return true;
  }

  override reuseSocket(socket: Duplex, request: http.ClientRequest): void {
    (socket as Socket).setTimeout(0);
    super.reuseSocket(socket, request);
  }

  override createConnection(
    _options: http.ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    void this.#openFor(callback);
    return undefined;
  }

  async #openFor(callback?: (error: Error | null, stream: Duplex) => void): Promise<void> {
    try {
      callback?.(null, await this.#open());
    } catch (error) {
      callback?.(error as Error, undefined as unknown as Duplex);
    }
  }

  async #open(): Promise<Duplex> {
    const { url, clock, proxyUrl, certPem, keyPem, serverName } = this.#options;
    const secure = url.protocol === 'https:';
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
    return await withDeadline(
      clock,
      CONNECT_TIMEOUT_MS,
      'connecting to the target',
      undefined,
      async (signal) => {
        const raw =
          proxyUrl === undefined
            ? await socketReady(connectTcp({ host, port, noDelay: true, ...NOTICES_LOSS }), 'connect', signal)
            : await connectThroughProxy({ proxy: parseProxyUrl(proxyUrl), host, port, clock, signal });
        if (!secure) return raw;
        const name = serverName ?? host;
        const tls = connectTls({
          socket: raw,
          host: name,
          ...(isIP(name) ? {} : { servername: name }),
          ca: this.#ca,
          ...(certPem === undefined ? {} : { cert: certPem, key: keyPem }),
          ALPNProtocols: ['http/1.1'],
        });
        return await socketReady(tls, 'secureConnect', signal);
      },
    );
  }
}
