/**
 * /livez, /readyz and /metrics. Alive = the event loop runs; it never fails because the portal or MAAS is
 * away. Ready = configuration, store and local listener are up.
 */
import type { FastifyInstance } from 'fastify';
import { Gauge, type Registry } from 'prom-client';

export interface HealthSources {
  readonly registry: Registry;
  readonly ready: () => boolean;
}

export function registerHealth(server: FastifyInstance, { registry, ready }: HealthSources): void {
  server.get('/livez', async () => 'ok\n');
  server.get('/readyz', async (_request, reply) => (ready() ? 'ok\n' : reply.code(503).send('starting\n')));
  server.get('/metrics', async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
}

/** Gauges that are read when scraped. */
export function registerAgentMetrics(
  registry: Registry,
  read: {
    clusters: () => Promise<Record<string, number>>;
    pendingEvents: () => Promise<number>;
    droppedEvents: () => Promise<number>;
  },
): void {
  new Gauge({
    name: 'pcg_clusters',
    help: 'Clusters on this gateway by phase.',
    labelNames: ['phase'],
    registers: [registry],
    async collect() {
      this.reset();
      for (const [phase, count] of Object.entries(await read.clusters())) this.set({ phase }, count);
    },
  });
  new Gauge({
    name: 'pcg_outbox_events_pending',
    help: 'Events that the portal has not acknowledged.',
    registers: [registry],
    async collect() {
      this.set(await read.pendingEvents());
    },
  });
  new Gauge({
    name: 'pcg_outbox_events_dropped_total',
    help: 'Events lost because the outbox was full.',
    registers: [registry],
    async collect() {
      this.set(await read.droppedEvents());
    },
  });
}
