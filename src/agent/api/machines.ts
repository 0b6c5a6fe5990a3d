/** Machines that are not to be picked (X6), and machines that nobody claims (X16). */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { type Clock, withDeadline } from '../../base/clock.ts';
import { PcgError } from '../../base/errors.ts';
import type { ClusterEngine } from '../../cluster/engine.ts';
import { parse } from './server.ts';

const ORPHANS_TIMEOUT_MS = 120_000;

const AccountParamsSchema = z.object({ id: z.string().min(1) });
const EntryParamsSchema = z.object({ id: z.string().min(1), systemId: z.string().min(1) });
const QuarantineRequestSchema = z.object({
  systemId: z.string().min(1),
  reason: z.string().min(1).max(500),
  hostname: z.string().max(253).default(''),
});

export function machineRoutes({ clock, engine }: { clock: Clock; engine: () => ClusterEngine }) {
  return (server: FastifyInstance): void => {
    server.get('/v1/quarantine', () => engine().quarantine.list());
    server.post('/v1/accounts/:id/quarantine', async (request, reply) => {
      const { id } = parse(AccountParamsSchema, request.params);
      const entry = parse(QuarantineRequestSchema, request.body);
      await engine().quarantine.add({ account: id, ...entry });
      return reply.code(204).send();
    });
    server.delete('/v1/accounts/:id/quarantine/:systemId', async (request, reply) => {
      const { id, systemId } = parse(EntryParamsSchema, request.params);
      await engine().quarantine.remove(id, systemId);
      return reply.code(204).send();
    });
    server.get('/v1/accounts/:id/orphans', (request) => {
      const { id } = parse(AccountParamsSchema, request.params);
      return withDeadline(clock, ORPHANS_TIMEOUT_MS, 'the orphan hunt', undefined, (signal) =>
        engine().orphans(id, signal),
      );
    });
    server.post('/v1/accounts/:id/orphans/:systemId/release', async (request, reply) => {
      const { id, systemId } = parse(EntryParamsSchema, request.params);
      const outcome = await withDeadline(clock, ORPHANS_TIMEOUT_MS, 'the release', undefined, (signal) =>
        engine().releaseOrphan(id, systemId, signal),
      );
      if (outcome === 'not-ours')
        throw new PcgError('FORBIDDEN', `machine ${systemId} does not carry this gateway's stamp`, {
          fix: 'Release it in MAAS if you are sure that nobody uses it.',
        });
      return reply.code(204).send();
    });
  };
}
