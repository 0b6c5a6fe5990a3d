/** Prometheus metrics of the portal; the tunnel adds its own to the same registry. */
import { Gauge, Histogram, Registry, Counter, collectDefaultMetrics } from 'prom-client';

export interface PortalMetrics {
  readonly registry: Registry;
  readonly requestSeconds: Histogram<'method' | 'route' | 'status'>;
  readonly feedClients: Gauge;
  readonly feedStalled: Counter;
  readonly proxied: Counter<'target' | 'result'>;
}

/** Seconds; most answers take milliseconds, questions to a gateway up to 20 s. */
const BUCKETS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30];

export function createMetrics(): PortalMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    registry,
    requestSeconds: new Histogram({
      name: 'pcg_portal_request_seconds',
      help: 'Time to answer API requests',
      labelNames: ['method', 'route', 'status'],
      buckets: BUCKETS,
      registers,
    }),
    feedClients: new Gauge({ name: 'pcg_portal_feed_clients', help: 'Open event streams', registers }),
    feedStalled: new Counter({
      name: 'pcg_portal_feed_stalled_total',
      help: 'Event streams closed because the browser took nothing',
      registers,
    }),
    proxied: new Counter({
      name: 'pcg_portal_proxied_total',
      help: 'Requests proxied through gateways',
      labelNames: ['target', 'result'],
      registers,
    }),
  };
}
