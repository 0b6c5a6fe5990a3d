/**
 * The portal's end of the tunnel: takes WebSocket upgrades from the portal's HTTP server, proves who is there before
 * anything else is believed, and keeps the roster. What is not yet proven is bounded, in number (per address and in
 * all) and in time; what is proven runs until its session ends.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import type { Registry } from 'prom-client';
import { WebSocketServer } from 'ws';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Carrier } from './carrier.ts';
import { CLOSE } from './codes.ts';
import { SUBPROTOCOL } from './dial.ts';
import { greetGateway, type GatewayLookup } from './handshake.ts';
import type { Identity } from './identity.ts';
import type { PortalSyncPort, TargetHandler } from './ports.ts';
import { ReceiveBudget } from './credit.ts';
import { type TunnelMetrics, tunnelMetrics } from './metrics.ts';
import { Roster } from './roster.ts';
import type { DrainNotice, SessionHandlers, TunnelSession } from './session.ts';
import { READER_LIMITS, webSocketCarrier } from './socket.ts';
import { STRANGER_BYTES, Strangers } from './strangers.ts';
import { PortalSync } from './sync-portal.ts';

export const TUNNEL_PATH = '/tunnel/v1';
const CLOSE_TIMEOUT_MS = 3_000;

export interface TunnelServerLimits {
  /** Sockets of one address that have not proven who they are. A site may have several gateways behind one NAT. */
  readonly unprovenPerAddress: number;
  /** The same over all addresses: what a reconnect storm may cost at once. */
  readonly unproven: number;
  /** What a rejected gateway is told to wait, seconds; each adds its own jitter. */
  readonly retryAfterS: number;
  /** Gateways with a session, attached or waiting; one more hears 4503. One that is there may always come again. */
  readonly sessions: number;
  /** Receive memory of all sessions together, bytes, above what each stream has at least. */
  readonly receiveBytes: number;
  /** How long a session waits for its gateway to come back, milliseconds. */
  readonly graceMs: number;
}

export const DEFAULT_LIMITS: TunnelServerLimits = {
  unprovenPerAddress: 20,
  unproven: 1000,
  retryAfterS: 5,
  sessions: 10_000,
  receiveBytes: 512 * 1024 * 1024,
  graceMs: 120_000,
};

export interface TunnelServerOptions {
  readonly identity: Identity;
  readonly lookupGateway: (
    gatewayId: string,
  ) => Promise<
    | { readonly publicKey: string }
    | 'unknown'
    | 'revoked'
    | { readonly publicKey: string; readonly movedTo: string }
  >;
  readonly syncFor: (gatewayId: string) => PortalSyncPort;
  /** What a gateway may open here. */
  readonly targetsFor: (gatewayId: string) => TargetHandler;
  readonly clock: Clock;
  readonly log: Log;
  readonly registry?: Registry | undefined;
  readonly software?: string;
  readonly capabilities?: readonly string[];
  readonly path?: string;
  readonly limits?: Partial<TunnelServerLimits>;
  /** Names this process, e.g. in diagnostics of several portal nodes. */
  readonly serverId?: string;
  /** Where a request comes from; override behind a proxy that is trusted to say it. */
  readonly addressOf?: (request: IncomingMessage) => string;
}

export interface TunnelServer extends AsyncDisposable {
  /** For the HTTP server's `upgrade` event. False: not the tunnel's path; the socket is untouched. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
  readonly roster: Roster;
  /** Sockets that have not proven who they are. */
  readonly unproven: number;
  /** Refuses newcomers (503), tells all gateways when to come back, lets streams finish; then closes. */
  drain(notice: DrainNotice, signal?: AbortSignal): Promise<void>;
}

export function createTunnelServer(options: TunnelServerOptions): TunnelServer {
  return new Server(options);
}

class Server implements TunnelServer {
  readonly roster: Roster;
  readonly #options: TunnelServerOptions;
  readonly #limits: TunnelServerLimits;
  readonly #log: Log;
  readonly #serverId: string;
  readonly #stop = new AbortController();
  readonly #greeting = new Set<Promise<void>>();
  readonly #strangers: Strangers;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    ...READER_LIMITS,
    skipUTF8Validation: true,
    handleProtocols: (offered: Set<string>) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    closeTimeout: CLOSE_TIMEOUT_MS,
  } as ConstructorParameters<typeof WebSocketServer>[0]);
  readonly #metrics: TunnelMetrics | undefined;
  readonly #processBudget: ReceiveBudget;
  #draining = false;
  /** Upgrades so far. */
  #upgrades = 0;

  constructor(options: TunnelServerOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    const { unprovenPerAddress: perAddress, unproven: all } = this.#limits;
    this.#strangers = new Strangers({ perAddress, all });
    this.#log = options.log.child({ part: 'tunnel' });
    this.#serverId = options.serverId ?? randomUUID();
    this.#metrics = options.registry && tunnelMetrics(options.registry);
    this.#processBudget = new ReceiveBudget(this.#limits.receiveBytes);
    this.roster = new Roster(options.clock, this.#log);
  }

  get unproven(): number {
    return this.#strangers.size;
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const path = (request.url ?? '').split('?', 1)[0];
    if (path !== (this.#options.path ?? TUNNEL_PATH)) return false;
    const onEarlyError = (): void => void socket.destroy();
    socket.on('error', onEarlyError);
    const offered = request.headers['sec-websocket-protocol'];
    const address = this.#options.addressOf?.(request) ?? request.socket.remoteAddress ?? 'unknown';
    if (this.#draining || this.#stop.signal.aborted) return this.#reject(socket, 503, 'draining', address);
    // without the header something on the way stripped it; the handshake proves the protocol anyway
    if (offered !== undefined && !offered.split(',').some((name) => name.trim() === SUBPROTOCOL)) {
      return this.#reject(socket, 426, 'unknown subprotocol', address);
    }
    const full = this.#strangers.full(address);
    if (full === 'address')
      return this.#reject(socket, 429, 'too many unproven connections of one address', address);
    if (full === 'all') return this.#reject(socket, 503, 'too many unproven connections', address);
    this.#upgrades += 1;
    const order = this.#upgrades;
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      socket.off('error', onEarlyError);
      webSocket.on('error', (error) =>
        this.#log.debug({ address, error: describeError(error) }, 'socket error'),
      );
      const carrier = webSocketCarrier(webSocket, { untrustedBytes: STRANGER_BYTES });
      // who was refused stays one until its socket is gone
      const leave = this.#strangers.enter(address);
      webSocket.once('close', leave);
      const proven = (): void => {
        leave();
        carrier.trust();
      };
      const greeting = this.#greet(carrier, proven, address, order).catch((error: unknown) => {
        this.#log.error({ address, error: describeError(error) }, 'handshake failed unexpectedly');
        webSocket.terminate();
      });
      this.#greeting.add(greeting);
      void greeting.finally(() => this.#greeting.delete(greeting));
    });
    return true;
  }

  async drain(notice: DrainNotice, signal?: AbortSignal): Promise<void> {
    this.#draining = true;
    await Promise.all(
      this.roster.sessions().map((session) =>
        session.drain(notice, signal).catch((error: unknown) => {
          this.#log.debug({ session: session.id, error: describeError(error) }, 'drain cut short');
        }),
      ),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#draining = true;
    this.#stop.abort(new Error('tunnel server stopped'));
    await Promise.all(this.#greeting);
    for (const session of this.roster.sessions()) session.close(CLOSE.GOING_AWAY, 'portal stopped');
    await Promise.all(this.roster.sessions().map((session) => session.closed));
    this.#webSockets.close();
  }

  async #greet(carrier: Carrier, proven: () => void, address: string, order: number): Promise<void> {
    const { clock, identity, software = 'pcg', capabilities } = this.#options;
    const since = clock.monotonic();
    let owner: SessionOwner | undefined;
    let found: { readonly as: GatewayLookup; readonly disconnects: number } | undefined;
    const outcome = await greetGateway(
      carrier,
      {
        clock,
        identity,
        serverId: this.#serverId,
        software,
        ...(capabilities ? { capabilities } : {}),
        graceMs: this.#limits.graceMs,
        lookup: async (gatewayId) => {
          const { disconnects } = this.roster;
          const as = await this.#lookup(gatewayId);
          found = { as, disconnects };
          return as;
        },
        isFull: (gatewayId) =>
          this.roster.sessionCount >= this.#limits.sessions && !this.roster.get(gatewayId),
        metrics: this.#metrics,
        log: this.#log,
        processBudget: this.#processBudget,
        findSession: (sessionId) => this.roster.findSession(sessionId),
        handlers: ({ gatewayId }) => {
          owner = new SessionOwner(this.#options, this.roster, gatewayId, this.#log);
          return owner.handlers;
        },
      },
      this.#stop.signal,
    );
    if (outcome.kind === 'refused') {
      const { closeCode, reason, gatewayId: gateway } = outcome;
      this.#log.warn({ address, gateway, closeCode, reason }, 'gateway refused');
      return;
    }
    proven();
    this.#metrics?.handshake(clock.monotonic() - since);
    const { session, gatewayId, instanceId, gateway, displaced } = outcome;
    const arrival = {
      session,
      gatewayId,
      instanceId,
      remoteAddress: address,
      software: gateway.software,
      clockSkewMs: gateway.clockSkewMs,
      order,
      displaced,
    };
    const details = {
      gateway: gatewayId,
      instance: instanceId,
      address,
      session: session.id,
      epoch: session.epoch,
    };
    if (outcome.kind === 'resumed') {
      this.roster.resumed(arrival);
      this.#log.info(details, 'gateway resumed');
      return;
    }
    // it may have been removed, or paired anew, while the answer about its key was on its way
    if (found?.disconnects !== this.roster.disconnects) {
      const now = await this.#lookup(gatewayId);
      if (!isDeepStrictEqual(now, found?.as)) {
        const code = now.kind === 'revoked' ? CLOSE.REVOKED : CLOSE.UNAUTHENTICATED;
        this.#log.warn(
          { address, gateway: gatewayId, closeCode: code },
          'gateway removed while it connected',
        );
        return session.close(code, '');
      }
    }
    if (!this.roster.admit(arrival)) return;
    owner?.begin(session);
    this.#log.info({ ...details, software: gateway.software }, 'gateway connected');
  }

  async #lookup(gatewayId: string): Promise<GatewayLookup> {
    const found = await this.#options.lookupGateway(gatewayId);
    if (found === 'unknown' || found === 'revoked') return { kind: found };
    const { publicKey } = found;
    return 'movedTo' in found
      ? { kind: 'moved', publicKey, hint: found.movedTo }
      : { kind: 'known', publicKey };
  }

  #reject(socket: Duplex, status: 426 | 429 | 503, why: string, address: string): true {
    this.#log.warn({ address, status, why }, 'tunnel upgrade refused');
    this.#metrics?.refused(status === 426 ? 'too-old' : 'busy');
    const text = { 426: 'Upgrade Required', 429: 'Too Many Requests', 503: 'Service Unavailable' }[status];
    const retry = status === 426 ? '' : `Retry-After: ${this.#limits.retryAfterS}\r\n`;
    socket.end(`HTTP/1.1 ${status} ${text}\r\nConnection: close\r\nContent-Length: 0\r\n${retry}\r\n`);
    socket.once('finish', () => socket.destroy());
    return true;
  }
}

/** What belongs to one session for as long as it lives, over all of its carriers. */
class SessionOwner {
  readonly handlers: SessionHandlers;
  readonly #sync: PortalSync;
  #sessionId: string | undefined;

  constructor(options: TunnelServerOptions, roster: Roster, gatewayId: string, log: Log) {
    const port = options.syncFor(gatewayId);
    this.#sync = new PortalSync({ port, clock: options.clock, log: log.child({ gateway: gatewayId }) });
    this.handlers = {
      target: options.targetsFor(gatewayId),
      sync: (kind, payload) => this.#sync.receive(kind, payload),
      state: () => roster.stateChanged(gatewayId, this.#sessionId),
      drain: (notice) => log.info({ gateway: gatewayId, reason: notice.reason }, 'gateway drains'),
    };
  }

  begin(session: TunnelSession): void {
    this.#sessionId = session.id;
    void this.#sync.run(session);
  }
}
