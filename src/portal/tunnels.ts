/** The gateways' tunnels as the portal uses them: who may connect, who is connected, and durable sync for each. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Identity } from '../tunnel/identity.ts';
import type { Changes } from './changes.ts';
import type { PortalLimits } from './limits.ts';
import type { GatewayLinks } from './links.ts';
import type { PortalMetrics } from './metrics.ts';
import type { PortalDb } from './store/schema.ts';

export interface TunnelsOptions {
  readonly db: PortalDb;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: PortalLimits;
  readonly changes: Changes;
  readonly identity: Identity;
  readonly metrics: PortalMetrics;
}

export interface Tunnels extends AsyncDisposable {
  readonly links: GatewayLinks;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

export async function openTunnels(_options: TunnelsOptions): Promise<Tunnels> {
  return {
    links: {
      tunnel: () => ({
        open: () => Promise.reject(new PcgError('GATEWAY_OFFLINE', 'the gateway is not connected')),
      }),
      connection: () => undefined,
      disconnect: () => {},
    },
    handleUpgrade: (_request, socket) => socket.destroy(),
    [Symbol.asyncDispose]: async () => {},
  };
}
