/** For load balancers and Prometheus. Live: the loop turns. Ready: the store answers. */
import '@fastify/swagger';
import { sql } from 'kysely';
import { z } from 'zod';
import { describeError } from '../../base/errors.ts';
import type { Portal } from '../portal.ts';
import type { App } from './app.ts';

const Health = z.object({ status: z.string() });

export function healthRoutes(app: App, portal: Portal): void {
  const config = { access: 'public' as const };

  app.get('/livez', { config, schema: { tags: ['health'], response: { 200: Health } } }, async () => ({
    status: 'ok',
  }));

  app.get(
    '/readyz',
    { config, schema: { tags: ['health'], response: { 200: Health, 503: Health } } },
    async (_request, reply) => {
      try {
        await sql`select 1`.execute(portal.db);
        return { status: 'ok' };
      } catch (error) {
        portal.log.error({ error: describeError(error) }, 'store does not answer');
        return reply.code(503).send({ status: 'store does not answer' });
      }
    },
  );

  app.get(
    '/metrics',
    { config, schema: { tags: ['health'], produces: ['text/plain'] } },
    async (_request, reply) => {
      return reply.type(portal.metrics.registry.contentType).send(await portal.metrics.registry.metrics());
    },
  );
}
