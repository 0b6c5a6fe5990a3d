/**
 * A gateway's and a portal's session that met by the real handshake, over memory links that a test can cut and
 * replace. `a` is the gateway's end of every link, `b` the portal's.
 */
import type { Clock } from '../../src/base/clock.ts';
import {
  type GatewayHandshakeOutcome,
  type GatewayLookup,
  greetGateway,
  greetPortal,
  type PortalHandshakeOutcome,
} from '../../src/tunnel/handshake.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import type { TunnelMetrics } from '../../src/tunnel/metrics.ts';
import type { TargetHandler } from '../../src/tunnel/ports.ts';
import type { DrainNotice, Session, SessionHandlers, SyncKind } from '../../src/tunnel/session.ts';
import { type LinkOptions, MemoryLink } from './memory-carrier.ts';

export interface PairOptions {
  readonly clock: Clock;
  readonly graceMs?: number;
  readonly gatewayId?: string;
  /** Answers the OPENs that arrive at the gateway (the portal opens). */
  readonly gatewayTarget?: TargetHandler;
  readonly portalTarget?: TargetHandler;
  readonly gatewaySync?: SessionHandlers['sync'];
  readonly portalSync?: SessionHandlers['sync'];
  /** Of both ends. */
  readonly metrics?: TunnelMetrics;
  readonly portalMetrics?: TunnelMetrics;
  readonly lookup?: (gatewayId: string) => Promise<GatewayLookup> | GatewayLookup | undefined;
}

const gatewayIdentity = generateIdentity();
const portalIdentity = generateIdentity();

export interface Met {
  readonly link: MemoryLink;
  readonly gateway: GatewayHandshakeOutcome;
  readonly portal: PortalHandshakeOutcome;
}

export class SessionPair implements AsyncDisposable {
  readonly options: PairOptions;
  readonly gatewayDrains: DrainNotice[] = [];
  readonly portalDrains: DrainNotice[] = [];
  readonly synced: { end: 'gateway' | 'portal'; kind: SyncKind; payload: Buffer }[] = [];
  readonly sessions = new Map<string, Session>();
  gateway!: Session;
  portal!: Session;
  link!: MemoryLink;

  constructor(options: PairOptions) {
    this.options = options;
  }

  static async connected(options: PairOptions, link?: LinkOptions): Promise<SessionPair> {
    const pair = new SessionPair(options);
    await pair.connect(link);
    return pair;
  }

  /** Dials anew: resumes when there is a session to resume. Throws when it comes to nothing. */
  async connect(link?: LinkOptions): Promise<Met> {
    const met = await this.dial(link);
    if (met.gateway.kind !== 'established' && met.gateway.kind !== 'resumed')
      throw new Error(`gateway: ${JSON.stringify(met.gateway)}; portal: ${JSON.stringify(met.portal.kind)}`);
    return met;
  }

  /** One attempt, whatever comes of it. */
  async dial(linkOptions?: LinkOptions, resume: Session | undefined = this.gateway): Promise<Met> {
    const link = new MemoryLink(linkOptions);
    const { clock, metrics } = this.options;
    const signal = new AbortController().signal;
    const portalSide = this.#greetGateway(link, signal);
    const gatewaySide = greetPortal(
      link.a,
      {
        clock,
        identity: gatewayIdentity,
        gatewayId: this.options.gatewayId ?? 'gateway-1',
        instanceId: 'node-1',
        portalKey: portalIdentity.publicKey,
        software: 'test',
        metrics,
        handlers: {
          target: this.options.gatewayTarget ?? refuse,
          sync: this.options.gatewaySync ?? this.#record('gateway'),
          drain: (notice) => this.gatewayDrains.push(notice),
        },
        resume,
      },
      signal,
    );
    const [gateway, portal] = await Promise.all([gatewaySide, portalSide]);
    if (portal.kind !== 'refused') {
      this.portal = portal.session as Session;
      this.sessions.set(this.portal.id, this.portal);
    }
    if (gateway.kind === 'established' || gateway.kind === 'resumed')
      this.gateway = gateway.session as Session;
    this.link = link;
    return { link, gateway, portal };
  }

  /** Somebody dials who says what he likes, once the portal has spoken. */
  dialRaw(speak: (say: (message: Buffer) => void) => void): Promise<PortalHandshakeOutcome> {
    const link = new MemoryLink();
    const say = (message: Buffer): void =>
      link.a.send([Buffer.concat([Buffer.alloc(link.a.headroom), message])]);
    link.a.bind({ message: () => speak(say), closed() {}, drained() {} });
    return this.#greetGateway(link, new AbortController().signal);
  }

  #greetGateway(link: MemoryLink, signal: AbortSignal): Promise<PortalHandshakeOutcome> {
    const { clock, metrics, portalMetrics } = this.options;
    return greetGateway(
      link.b,
      {
        clock,
        identity: portalIdentity,
        serverId: 'portal-1',
        software: 'test',
        ...(this.options.graceMs === undefined ? {} : { graceMs: this.options.graceMs }),
        metrics: metrics ?? portalMetrics,
        lookup: async (gatewayId) =>
          (await this.options.lookup?.(gatewayId)) ?? { kind: 'known', publicKey: gatewayIdentity.publicKey },
        findSession: (id) => this.sessions.get(id),
        handlers: () => ({
          target: this.options.portalTarget ?? refuse,
          sync: this.options.portalSync ?? this.#record('portal'),
          drain: (notice) => this.portalDrains.push(notice),
        }),
      },
      signal,
    );
  }

  /** The portal process restarts: it knows no session any more. */
  forget(): void {
    this.sessions.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway?.[Symbol.asyncDispose]();
    await this.portal?.[Symbol.asyncDispose]();
  }

  #record(end: 'gateway' | 'portal'): SessionHandlers['sync'] {
    return async (kind, payload) => {
      this.synced.push({ end, kind, payload });
    };
  }
}

const refuse: TargetHandler = async () => {
  throw new Error('no target in this test');
};

export const pairIdentities = { gateway: gatewayIdentity, portal: portalIdentity };
