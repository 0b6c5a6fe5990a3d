/** Machines that are not to be picked (X6), and machines that nobody claims (X16). */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { type Clock, withDeadline } from '../../base/clock.ts';
import { PcgError } from '../../base/errors.ts';
import type { ClusterEngine } from '../../cluster/engine.ts';
import type { Machine } from '../../maas/client.ts';
import type { AccountHandle } from '../accounts.ts';
import { parse } from './server.ts';

const ORPHANS_TIMEOUT_MS = 120_000;
const LOOKUP_TIMEOUT_MS = 30_000;

const AccountParamsSchema = z.object({ id: z.string().min(1) });
const EntryParamsSchema = z.object({ id: z.string().min(1), systemId: z.string().min(1) });
const QuarantineRequestSchema = z.object({
  /** Or the host name: an entry of a machine that does not exist would keep nobody from picking the one that was meant. */
  systemId: z.string().min(1),
  reason: z.string().min(1).max(500),
});

export interface MachineQuestions {
  readonly clock: Clock;
  readonly engine: () => ClusterEngine;
  readonly client: (accountId: string) => AccountHandle | PcgError;
}

export function machineRoutes({ clock, engine, client }: MachineQuestions) {
  const find = async (accountId: string, wanted: string): Promise<Machine> => {
    const account = client(accountId);
    if (account instanceof PcgError) throw account;
    const { machines } = account.maas;
    const found = await withDeadline(
      clock,
      LOOKUP_TIMEOUT_MS,
      'looking for the machine',
      undefined,
      async (signal) =>
        (await machines.list({ hostnames: [wanted] }, signal))[0] ?? (await machines.get(wanted, signal)),
    );
    if (found) return found;
    throw new PcgError('NOT_FOUND', `MAAS shows this account no machine "${wanted}"`, {
      field: 'systemId',
      fix: 'Give the system id or the host name that MAAS shows.',
    });
  };
  return (server: FastifyInstance): void => {
    server.get('/v1/quarantine', () => engine().quarantine.list());
    server.post('/v1/accounts/:id/quarantine', async (request, reply) => {
      const { id } = parse(AccountParamsSchema, request.params);
      const { systemId: wanted, reason } = parse(QuarantineRequestSchema, request.body);
      const { systemId, hostname } = await find(id, wanted);
      await engine().quarantine.add({ account: id, systemId, hostname, reason });
      return reply.code(204).send();
    });
    server.delete('/v1/accounts/:id/quarantine/:systemId', async (request, reply) => {
      const { id, systemId } = parse(EntryParamsSchema, request.params);
      const entries = await engine().quarantine.list(id);
      const entry = entries.find((one) => one.systemId === systemId || one.hostname === systemId);
      if (!entry) throw new PcgError('NOT_FOUND', `no machine "${systemId}" is in quarantine`);
      await engine().quarantine.remove(id, entry.systemId);
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
