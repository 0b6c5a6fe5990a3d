/**
 * A gateway's and a portal's session over a real WebSocket (or `wss:` when a certificate is given), through any
 * TCP proxy in between. Dials again when told to; every end keeps its session.
 */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import type { Clock } from '../../src/base/clock.ts';
import { type GatewayHandshakeOutcome, greetGateway, greetPortal } from '../../src/tunnel/handshake.ts';
import type { TargetHandler } from '../../src/tunnel/ports.ts';
import type { Session, SessionHandlers } from '../../src/tunnel/session.ts';
import { READER_LIMITS, webSocketCarrier } from '../../src/tunnel/socket.ts';
import { pairIdentities } from './session-pair.ts';

export interface WebSocketPairOptions {
  readonly clock: Clock;
  readonly gatewayTarget?: TargetHandler;
  readonly portalTarget?: TargetHandler;
  readonly sync?: SessionHandlers['sync'];
  /** Told when the portal's session hears that the gateway is about to go. */
  readonly portalDrain?: SessionHandlers['drain'];
  readonly tls?: { readonly key: string; readonly cert: string };
}

export class WebSocketPair implements AsyncDisposable {
  readonly #options: WebSocketPairOptions;
  readonly #server;
  readonly #sockets: WebSocketServer;
  gateway!: Session;
  portal!: Session;
  /** The gateway's present WebSocket. */
  webSocket!: WebSocket;

  private constructor(options: WebSocketPairOptions) {
    this.#options = options;
    this.#server = options.tls === undefined ? createHttpServer() : createHttpsServer(options.tls);
    this.#sockets = new WebSocketServer({
      server: this.#server,
      perMessageDeflate: false,
      ...READER_LIMITS,
    });
    this.#sockets.on('connection', (webSocket) => {
      void greetGateway(
        webSocketCarrier(webSocket),
        {
          clock: options.clock,
          identity: pairIdentities.portal,
          serverId: 'portal-1',
          software: 'test',
          lookup: async () => ({ kind: 'known', publicKey: pairIdentities.gateway.publicKey }),
          findSession: () => this.portal,
          handlers: () => ({
            target: options.portalTarget ?? refuse,
            sync: options.sync ?? (async () => {}),
            ...(options.portalDrain === undefined ? {} : { drain: options.portalDrain }),
          }),
        },
        new AbortController().signal,
      ).then((outcome) => {
        if (outcome.kind !== 'refused') this.portal = outcome.session as Session;
      });
    });
  }

  static async listening(options: WebSocketPairOptions): Promise<WebSocketPair> {
    const pair = new WebSocketPair(options);
    pair.#server.listen(0, '127.0.0.1');
    await once(pair.#server, 'listening');
    return pair;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Dials by `port` (a proxy's, or the portal's own). */
  async dial(port: number = this.port): Promise<GatewayHandshakeOutcome> {
    const { clock, tls } = this.#options;
    const webSocket = new WebSocket(`${tls === undefined ? 'ws' : 'wss'}://127.0.0.1:${port}`, {
      perMessageDeflate: false,
      ...READER_LIMITS,
      rejectUnauthorized: false,
      ...(tls === undefined ? {} : { generateMask: (mask: Buffer) => void mask.fill(0) }),
    });
    this.webSocket = webSocket;
    // the portal's first message may come with the 101: nothing is read before somebody listens
    webSocket.once('open', () => webSocket.pause());
    await once(webSocket, 'open');
    const outcome = await greetPortal(
      webSocketCarrier(webSocket),
      {
        clock,
        identity: pairIdentities.gateway,
        gatewayId: 'gateway-1',
        instanceId: 'node-1',
        portalKey: pairIdentities.portal.publicKey,
        software: 'test',
        handlers: {
          target: this.#options.gatewayTarget ?? refuse,
          sync: this.#options.sync ?? (async () => {}),
        },
        resume: this.gateway,
      },
      new AbortController().signal,
    );
    if (outcome.kind === 'established' || outcome.kind === 'resumed')
      this.gateway = outcome.session as Session;
    return outcome;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway?.[Symbol.asyncDispose]();
    await this.portal?.[Symbol.asyncDispose]();
    for (const client of this.#sockets.clients) client.terminate();
    this.webSocket?.terminate();
    this.#sockets.close();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

const refuse: TargetHandler = async () => {
  throw new Error('no target in this test');
};
