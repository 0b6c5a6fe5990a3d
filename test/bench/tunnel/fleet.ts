/** Workers of the 5 000 gateways: the portal, and the process in which all gateways live. */
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLog } from '../../../src/base/log.ts';
import { createTunnelServer, type TunnelServer } from '../../../src/tunnel/accept.ts';
import { createTunnelClient } from '../../../src/tunnel/client.ts';
import { parseIdentity } from '../../../src/tunnel/identity.ts';
import { GatewayStore, PortalStore } from '../../support/tunnel-pair.ts';
import { pause, serve } from './rpc.ts';

let server: TunnelServer | undefined;
const sockets = new Set<Socket>();

serve({
  portal: async ({ identity, gatewayKey }: { identity: string; gatewayKey: string }) => {
    const tunnel = createTunnelServer({
      identity: parseIdentity(identity),
      lookupGateway: async () => ({ publicKey: gatewayKey }),
      syncFor: () => new PortalStore(),
      targetsFor: () => () => Promise.reject(new Error('nothing here')),
      clock: systemClock,
      log: silentLog,
      // all of them come from one address here, as they never do
      limits: { unprovenPerAddress: 1000 },
    });
    server = tunnel;
    const http = createServer();
    http.on('connection', (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
    http.on('upgrade', (request, socket, head) => void tunnel.handleUpgrade(request, socket, head));
    await new Promise<void>((resolve) => http.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve));
    return (http.address() as AddressInfo).port;
  },
  connected: () => {
    let count = 0;
    for (const gateway of server?.roster.list() ?? []) if (gateway.attached) count += 1;
    return count;
  },
  cut: () => {
    for (const socket of sockets) socket.resetAndDestroy();
  },
  fleet: async (options: { port: number; count: number; identity: string; portalKey: string }) => {
    const identity = parseIdentity(options.identity);
    for (let n = 0; n < options.count; n += 1) {
      const client = createTunnelClient({
        url: `ws://127.0.0.1:${options.port}/tunnel/v1`,
        gatewayId: `gw-${n}`,
        instanceId: 'node-1',
        identity,
        portalKey: options.portalKey,
        sync: new GatewayStore(),
        targets: () => Promise.reject(new Error('nothing here')),
        clock: systemClock,
        log: silentLog,
      });
      void client.run(new AbortController().signal);
      if (n % 50 === 0) await pause(20);
    }
  },
});
