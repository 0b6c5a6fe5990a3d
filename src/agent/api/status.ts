/** `GET /v1/status`: what `pcg status` prints. */
import type { FastifyInstance } from 'fastify';
import type { AgentStatus } from '../../contract/api.ts';

export function statusRoutes(readStatus: () => Promise<AgentStatus>) {
  return (server: FastifyInstance): void => {
    server.get('/v1/status', () => readStatus());
  };
}
