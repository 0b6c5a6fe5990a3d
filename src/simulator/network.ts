/**
 * The data centre's machine network in memory. Addresses are up or down, ports are listened on, and a
 * connection is a pair of streams (wire-pair.ts). An address that goes down resets its connections, which
 * is also what moves a virtual address from one machine to the next.
 */
import type { Duplex } from 'node:stream';
import type { SiteNetwork } from './ports.ts';
import { resetWire, socketError, wirePair } from './wire-pair.ts';

/** Where a connection comes from when the caller is not a machine of the site. */
const OUTSIDE_ADDRESS = '192.0.2.1';

export function createSiteNetwork(): SiteNetwork {
  const up = new Set<string>();
  const listeners = new Map<string, (socket: Duplex, from: string) => void>();
  const connections = new Map<string, Set<Duplex>>();

  const remember = (ip: string, end: Duplex) => {
    const set = connections.get(ip) ?? new Set();
    connections.set(ip, set.add(end));
    end.once('close', () => {
      set.delete(end);
      if (set.size === 0 && connections.get(ip) === set) connections.delete(ip);
    });
  };

  return {
    listen(ip, port, accept) {
      const key = `${ip}:${port}`;
      if (listeners.has(key))
        throw Object.assign(new Error(`listen EADDRINUSE ${key}`), { code: 'EADDRINUSE' });
      listeners.set(key, accept);
      return {
        [Symbol.dispose]: () => {
          if (listeners.get(key) === accept) listeners.delete(key);
        },
      };
    },

    async connect(ip, port, from = OUTSIDE_ADDRESS) {
      if (!up.has(ip)) throw socketError('EHOSTUNREACH', `connect ${ip}:${port}`);
      const accept = listeners.get(`${ip}:${port}`);
      if (!accept) throw socketError('ECONNREFUSED', `connect ${ip}:${port}`);
      const [near, far] = wirePair();
      // A reset must not crash the process when it comes before the owner has attached its handlers.
      near.on('error', () => {});
      far.on('error', () => {});
      remember(ip, far);
      if (up.has(from)) remember(from, near);
      accept(far, from);
      return near;
    },

    setAddressUp(ip, isUp) {
      if (isUp) {
        up.add(ip);
        return;
      }
      up.delete(ip);
      for (const end of connections.get(ip) ?? []) resetWire(end);
    },

    isUp: (ip) => up.has(ip),
  };
}
