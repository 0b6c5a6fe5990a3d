/**
 * The first messages on a carrier: versions, settings and mutual proof of identity, then either a new session
 * or the resumption of one. The portal speaks first (HELLO with a nonce); the gateway answers with a signed HELLO
 * or RESUME; the portal with a signed WELCOME, RESUMED or RESUME_FAIL. Signatures cover all bytes so far.
 */
import type { Clock } from '../base/clock.ts';
import type { Carrier } from './carrier.ts';
import type { Identity } from './identity.ts';
import type { SessionHandlers, TunnelSession } from './session.ts';

/** What each end learns of the other. */
export interface PeerInfo {
  readonly software: string;
  readonly capabilities: readonly string[];
  /** Peer's wall clock minus ours, milliseconds, without correction for the way. */
  readonly clockSkewMs: number;
}

export interface GatewayHandshakeOptions {
  readonly clock: Clock;
  readonly identity: Identity;
  readonly gatewayId: string;
  /** One per node of an HA gateway. */
  readonly instanceId: string;
  /** The portal's Ed25519 key pinned at pairing, raw, base64. */
  readonly portalKey: string;
  readonly software: string;
  readonly capabilities?: readonly string[];
  readonly handlers: SessionHandlers;
  /** The detached session to resume, if there is one. When it cannot be resumed it is closed (SESSION_LOST). */
  readonly resume?: TunnelSession | undefined;
}

export type GatewayHandshakeOutcome =
  | {
      readonly kind: 'established';
      readonly session: TunnelSession;
      readonly portal: PeerInfo & { readonly serverId: string };
    }
  | { readonly kind: 'resumed'; readonly session: TunnelSession }
  /** The session lives on another portal node: dial `hint` (a URL) if it is one that is trusted. The carrier is closed. */
  | { readonly kind: 'moved'; readonly hint: string }
  /** The portal, or the way to it, ended the carrier; `closeCode` says why. */
  | { readonly kind: 'refused'; readonly closeCode: number; readonly reason: string }
  /** The portal did not prove the pinned key, or spoke nonsense. The carrier is closed. */
  | { readonly kind: 'untrusted'; readonly reason: string };

export type GatewayLookup =
  | { readonly kind: 'known'; readonly publicKey: string }
  | { readonly kind: 'revoked' }
  | { readonly kind: 'unknown' }
  /** Another node owns this gateway's session. */
  | { readonly kind: 'moved'; readonly hint: string };

export interface PortalHandshakeOptions {
  readonly clock: Clock;
  readonly identity: Identity;
  readonly serverId: string;
  readonly software: string;
  readonly capabilities?: readonly string[];
  /** Milliseconds a session survives without a carrier; default 120 s, at most 10 min. */
  readonly graceMs?: number;
  lookup(gatewayId: string, instanceId: string): Promise<GatewayLookup>;
  /** The session with this id, alive or not, if this process knows it. */
  findSession(sessionId: string): TunnelSession | undefined;
  handlers(gateway: { readonly gatewayId: string; readonly instanceId: string }): SessionHandlers;
}

export type PortalHandshakeOutcome =
  | {
      readonly kind: 'established' | 'resumed';
      readonly session: TunnelSession;
      readonly gatewayId: string;
      readonly instanceId: string;
      readonly gateway: PeerInfo;
    }
  /** Nothing came of it; the carrier is closed with `closeCode`. */
  | {
      readonly kind: 'refused';
      readonly closeCode: number;
      readonly reason: string;
      readonly gatewayId?: string;
    };

/** Gateway end. Resolves within the handshake deadline (5 s); the carrier is then bound to the session or closed. */
export type GreetPortal = (
  carrier: Carrier,
  options: GatewayHandshakeOptions,
  signal: AbortSignal,
) => Promise<GatewayHandshakeOutcome>;

/** Portal end. */
export type GreetGateway = (
  carrier: Carrier,
  options: PortalHandshakeOptions,
  signal: AbortSignal,
) => Promise<PortalHandshakeOutcome>;
