/**
 * Requests of programs (kubectl, the MAAS CLI) carried to a target behind a gateway: the tunnel's reverse proxy with
 * one tunnel stream where a connection would be. Credentials for the portal end here.
 */
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { DeadlineError, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { socketLike } from '../tunnel/http.ts';
import type { OpenOptions } from '../tunnel/ports.ts';
import { createReverseProxy, type ReverseProxy } from '../tunnel/reverse-proxy.ts';
import type { Portal } from './portal.ts';

export interface ProxyRoute {
  readonly gateway: string;
  readonly open: OpenOptions;
  /** Path and query at the target. */
  readonly path: string;
  readonly host: string;
}

export interface StreamProxyOptions {
  /** Throws PcgError to refuse the request. */
  readonly resolve: (request: http.IncomingMessage) => Promise<ProxyRoute>;
  readonly refusal: (error: PcgError) => { readonly status: number; readonly body: unknown };
}

/** What the caller says to the portal, or what only the gateway may say to the target. */
const ENDS_HERE = /^(authorization|cookie|origin|forwarded|x-forwarded-.*|impersonate-.*|x-remote-.*)$/;

export function createStreamProxy(portal: Portal, options: StreamProxyOptions): ReverseProxy {
  return createReverseProxy({
    async route(request) {
      const { gateway, open, path, host } = await options.resolve(request);
      return {
        agent: new StreamAgent(portal, gateway, open),
        host,
        path,
        setHeaders: {},
        drops: (name) => ENDS_HERE.test(name),
      };
    },
    unreachable: (cause) =>
      cause instanceof DeadlineError
        ? new PcgError('GATEWAY_OFFLINE', cause.message, { cause })
        : new PcgError('TEMPORARY', 'the connection to the target broke', { cause }),
    refusal: options.refusal,
    log: portal.log,
  });
}

/** For one request: who asks travels with the stream, so that streams are never shared. */
class StreamAgent extends http.Agent {
  readonly #open: () => Promise<Duplex>;

  constructor(portal: Portal, gateway: string, open: OpenOptions) {
    super({ keepAlive: false, timeout: 0 });
    this.#open = () =>
      withDeadline(portal.clock, portal.limits.proxyOpenMs, 'the gateway', undefined, (signal) =>
        portal.links.tunnel(gateway).open(open, signal),
      );
  }

  override createConnection(
    _options: http.ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    this.#open().then(
      (stream) => callback?.(null, socketLike(stream)),
      (error: unknown) => callback?.(error as Error, undefined as unknown as Duplex),
    );
    return undefined;
  }
}
