/** Prometheus metrics of the portal; the tunnel adds its own to the same registry. */
import { Gauge, Histogram, Registry, Counter, collectDefaultMetrics } from 'prom-client';

export interface PortalMetrics {
  readonly registry: Registry;
  readonly requestSeconds: Histogram<'method' | 'route' | 'status'>;
  readonly feedClients: Gauge;
  readonly feedStalled: Counter;
  readonly proxied: Counter<'target' | 'result'>;
  /** Times that an agent was refused because another one with its identity was connected. */
  readonly duplicates: Counter;
  /** End of the certificate's validity, seconds since the epoch; 0 while the portal speaks plain HTTP. */
  readonly certificateExpiry: Gauge;
  /** 1 while the certificate's files cannot be used and the one before is still served. */
  readonly certificateStale: Gauge;
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
    duplicates: new Counter({
      name: 'pcg_portal_duplicate_gateways_total',
      help: 'Agents refused because another one with the same identity is connected; the log names them',
      registers,
    }),
    certificateExpiry: new Gauge({
      name: 'pcg_portal_certificate_expiry_seconds',
      help: "End of the served certificate's validity, Unix time",
      registers,
    }),
    certificateStale: new Gauge({
      name: 'pcg_portal_certificate_stale',
      help: '1: the files of the certificate cannot be used, the one before is served',
      registers,
    }),
  };
}
