/**
 * Which gateways are connected, as the rest of the portal needs it: a tunnel to open streams on, and the
 * connection as it is shown. The tunnel's roster implements it (server.ts); nothing else knows the roster.
 */
import type { Tunnel } from '../tunnel/ports.ts';

export interface LiveConnection {
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly remoteAddress: string;
  readonly rttMs: number | undefined;
}

/** A second agent with one identity. */
export interface CloneAlarm {
  /** When it was refused last, milliseconds since the epoch. */
  readonly refusedAt: number;
  /** Of the one that is connected and of the one that was refused. */
  readonly remoteAddresses: readonly string[];
}

export interface GatewayLinks {
  /** Opens reject with GATEWAY_OFFLINE when there is no session. */
  tunnel(gatewayId: string): Tunnel;
  /** undefined: not connected now. */
  connection(gatewayId: string): LiveConnection | undefined;
  /** undefined: none was refused in the last hour. */
  clone(gatewayId: string): CloneAlarm | undefined;
  /** Ends the session of a gateway that was removed or re-paired with another key. */
  disconnect(gatewayId: string, why: 'revoked' | 'superseded'): void;
}
