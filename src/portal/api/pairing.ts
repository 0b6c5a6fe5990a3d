/** Pairing codes for administrators, and the two calls that a gateway makes before it has an identity here. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { PcgError } from '../../base/errors.ts';
import { CreatePairingCodeRequestSchema } from '../../contract/api.ts';
import { IdSchema, TimeSchema } from '../../contract/names.ts';
import {
  PairChallengeSchema,
  PairConfirmSchema,
  PairHelloSchema,
  PairingCodeSchema,
  PairResultSchema,
} from '../../contract/pairing.ts';
import { networkOf } from '../../tunnel/strangers.ts';
import { beginPair, confirmPair, createCode, findCode, revokeCode, toPairingCode } from '../pairing.ts';
import type { Portal } from '../portal.ts';
import { RateLimit } from '../rate-limit.ts';
import { callerOf } from '../request-guard.ts';
import { type App, IdParams, listOf, PROBLEMS } from './app.ts';

const CodeView = z.object({
  id: IdSchema,
  gatewayId: IdSchema,
  gatewayName: z.string(),
  state: z.enum(['open', 'paired', 'expired', 'revoked', 'locked']),
  createdAt: TimeSchema,
  expiresAt: TimeSchema,
  createdBy: z.string(),
  wrongProofs: z.int(),
});

/** Codes listed; older ones are history. */
const LIST_MAX = 200;

export function pairingRoutes(app: App, portal: Portal): void {
  const { db, clock, limits } = portal;
  const admin = { access: 'tenant-admin' as const };
  const tags = ['pairing'];
  const calls = new RateLimit(clock, limits.pairingCalls, limits.pairingWindowMs);
  const limit = (request: FastifyRequest) => {
    const network = networkOf(request.ip);
    const waitMs = calls.waitMs(network);
    calls.count(network);
    if (waitMs === 0) return;
    const retryAfterSeconds = Math.ceil(waitMs / 1000);
    throw new PcgError('TOO_MANY_TRIES', `too many pairing calls; try again in ${retryAfterSeconds} s`, {
      details: { retryAfterSeconds },
    });
  };

  app.post(
    '/pairing-codes',
    {
      config: admin,
      schema: {
        tags,
        summary: 'Make a pairing code; it is shown once and revokes older ones of the same gateway',
        body: CreatePairingCodeRequestSchema,
        response: { 201: PairingCodeSchema.extend({ gatewayId: IdSchema }), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      const made = await createCode(portal, request.body, callerOf(request).email);
      return reply.code(201).header('cache-control', 'no-store').send(made);
    },
  );

  app.get(
    '/pairing-codes',
    {
      config: admin,
      schema: {
        tags,
        summary: 'Pairing codes, newest first',
        response: { 200: listOf(CodeView), ...PROBLEMS },
      },
    },
    async () => {
      const rows = await db
        .selectFrom('pairing_codes')
        .selectAll()
        .orderBy('created_at', 'desc')
        .limit(LIST_MAX)
        .execute();
      return { items: rows.map((row) => toPairingCode(row, clock.now())) };
    },
  );

  app.get(
    '/pairing-codes/:id',
    {
      config: admin,
      schema: {
        tags,
        summary: 'One pairing code',
        params: IdParams,
        response: { 200: CodeView, ...PROBLEMS },
      },
    },
    async (request) => toPairingCode(await findCode(portal, request.params.id), clock.now()),
  );

  app.delete(
    '/pairing-codes/:id',
    {
      config: admin,
      schema: {
        tags,
        summary: 'Revoke a pairing code',
        params: IdParams,
        response: { 204: z.null(), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      await revokeCode(portal, request.params.id);
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/pair/hello',
    {
      config: { access: 'public' },
      schema: {
        tags,
        summary: 'Gateway: begin pairing',
        body: PairHelloSchema,
        response: { 200: PairChallengeSchema, ...PROBLEMS },
      },
    },
    async (request) => {
      limit(request);
      return await beginPair(portal, request.body);
    },
  );

  app.post(
    '/pair/confirm',
    {
      config: { access: 'public' },
      schema: {
        tags,
        summary: 'Gateway: prove the code and be known',
        body: PairConfirmSchema,
        response: { 200: PairResultSchema.extend({ proof: z.string() }), ...PROBLEMS },
      },
    },
    async (request) => {
      limit(request);
      return await confirmPair(portal, request.body);
    },
  );
}
