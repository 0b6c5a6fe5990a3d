/** Questions about cloud accounts: validate a key before it is stored, list a site, explain a placement. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { withDeadline } from '../../base/clock.ts';
import { PcgError, toProblem } from '../../base/errors.ts';
import { type Log, Secret } from '../../base/log.ts';
import {
  type AccountReport,
  ExplainRequestSchema,
  type PlacementReport,
  ValidateAccountRequestSchema,
} from '../../contract/api.ts';
import { accountSealContext } from '../../contract/cloud-account.ts';
import { createMaasClient } from '../../maas/rest-client.ts';
import { rightsReport } from '../../maas/rights.ts';
import type { AccountHandle } from '../accounts.ts';
import { readInventory } from '../inventory.ts';
import { parse } from './server.ts';

/** A slow MAAS lists 1 000 machines in 20 s; a question must not wait for ever. */
const QUESTION_TIMEOUT_MS = 60_000;

export interface AccountQuestions {
  readonly clock: Clock;
  readonly log: Log;
  readonly client: (accountId: string) => AccountHandle | PcgError;
  readonly openSealed: (sealed: string, context: string) => Secret;
  readonly explain: (
    accountId: string,
    request: z.infer<typeof ExplainRequestSchema>,
    signal: AbortSignal,
  ) => Promise<PlacementReport>;
}

const AccountParamsSchema = z.object({ id: z.string().min(1) });

export function accountRoutes(questions: AccountQuestions) {
  const { clock, log } = questions;
  const within = <T>(what: string, work: (signal: AbortSignal) => Promise<T>) =>
    withDeadline(clock, QUESTION_TIMEOUT_MS, what, undefined, work);
  const handle = (params: unknown): { id: string; account: AccountHandle } => {
    const { id } = parse(AccountParamsSchema, params);
    const account = questions.client(id);
    if (account instanceof PcgError) throw account;
    return { id, account };
  };

  return (server: FastifyInstance): void => {
    server.post('/v1/accounts/validate', async (request): Promise<AccountReport> => {
      const body = parse(ValidateAccountRequestSchema, request.body);
      if (body.sealedKey === undefined)
        throw new PcgError('INVALID_INPUT', 'sealedKey: is needed', { field: 'sealedKey' });
      try {
        const apiKey = questions.openSealed(body.sealedKey, accountSealContext(body.account ?? ''));
        await using maas = createMaasClient({
          endpoint: body.endpoint,
          apiKey,
          clock,
          log,
          ...(body.caPem === undefined ? {} : { caPem: body.caPem }),
        });
        return await within('validation of the account', async (signal) => {
          const { username, isAdmin, version, rights } = await rightsReport(maas, signal);
          return {
            ok: true,
            maasVersion: version,
            username,
            isAdmin,
            rights: rights.map((right) => ({
              call: right.id,
              allowed: right.verdict === 'granted',
              consequence: right.verdict === 'granted' ? '' : right.neededFor,
            })),
          };
        });
      } catch (error) {
        return { ok: false, rights: [], problem: toProblem(error) };
      }
    });
    server.get('/v1/accounts/:id/inventory', (request) => {
      const { account } = handle(request.params);
      return within('reading the inventory', (signal) => readInventory(account.maas, signal));
    });
    server.get('/v1/accounts/:id/rights', (request) => {
      const { account } = handle(request.params);
      return within('reading the rights of the key', (signal) => rightsReport(account.maas, signal));
    });
    server.post('/v1/accounts/:id/explain', (request) => {
      const { id } = handle(request.params);
      const body = parse(ExplainRequestSchema, request.body);
      return within('explaining the placement', (signal) => questions.explain(id, body, signal));
    });
  };
}
