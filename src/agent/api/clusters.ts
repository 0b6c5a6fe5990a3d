/** Clusters as this gateway knows them: list, one, events, and (local only) the break-glass kubeconfig. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { PcgError } from '../../base/errors.ts';
import type { ClusterEngine } from '../../cluster/engine.ts';
import type { Event } from '../../contract/events.ts';
import { type Caller, parse } from './server.ts';

const ParamsSchema = z.object({ id: z.string().min(1) });
const EventsQuerySchema = z.object({
  cluster: z.string().optional(),
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(10_000).default(100),
});

export interface ClusterQuestions {
  readonly engine: () => ClusterEngine;
  readonly events: (filter: { cluster?: string }, limit: number) => Promise<Event[]>;
}

export function clusterRoutes({ engine, events }: ClusterQuestions) {
  return (server: FastifyInstance, caller: Caller): void => {
    server.get('/v1/clusters', async () => engine().clusters());
    server.get('/v1/clusters/:id', async (request) => {
      const { id } = parse(ParamsSchema, request.params);
      const cluster = engine()
        .clusters()
        .find((candidate) => candidate.id === id || candidate.name === id);
      if (!cluster) throw new PcgError('NOT_FOUND', `this gateway has no cluster "${id}"`);
      return { ...cluster, status: engine().status(cluster.id) };
    });
    server.get('/v1/events', async (request) => {
      const { cluster, after, limit } = parse(EventsQuerySchema, request.query);
      const found = await events(cluster === undefined ? {} : { cluster }, limit);
      return found.filter((event) => event.seq > after);
    });
    server.get('/v1/clusters/:id/kubeconfig', async (request, reply) => {
      if (caller !== 'local')
        throw new PcgError('FORBIDDEN', 'the break-glass kubeconfig never leaves the site', {
          fix: 'Run `pcg clusters kubeconfig` on the gateway.',
        });
      const { id } = parse(ParamsSchema, request.params);
      const kubeconfig = await engine().breakGlassKubeconfig(id);
      if (kubeconfig === undefined) throw new PcgError('NOT_FOUND', `cluster "${id}" has no API server yet`);
      return reply.type('application/yaml').send(kubeconfig);
    });
  };
}
