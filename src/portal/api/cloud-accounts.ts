/** Cloud accounts: MAAS regions reached through a gateway. */
import { z } from 'zod';
import { PcgError } from '../../base/errors.ts';
import {
  AccountReportSchema,
  CreateCloudAccountRequestSchema,
  ExplainRequestSchema,
  InventorySchema,
  PlacementReportSchema,
} from '../../contract/api.ts';
import { CloudAccountSchema } from '../../contract/cloud-account.ts';
import { accountRow, changeAccount, createAccount, removeAccount, toCloudAccount } from '../accounts.ts';
import { askAgentFor } from '../agent-questions.ts';
import { roleCovers } from '../auth.ts';
import type { Portal } from '../portal.ts';
import { explainPlacement } from '../preflight.ts';
import { callerOf, principalOf } from '../request-guard.ts';
import { type App, IdParams, listOf, PROBLEMS } from './app.ts';
import type { FastifyRequest } from 'fastify';

const ChangeSchema = z.object({
  description: z.string().max(500).optional(),
  enabled: z.boolean().optional(),
  endpoint: z.url().optional(),
  apiKey: z.string().max(500).optional(),
  sealedKey: z.string().max(10_000).optional(),
  caPem: z.string().max(200_000).optional(),
});

export function cloudAccountRoutes(app: App, portal: Portal): void {
  const { db } = portal;
  const tags = ['cloud-accounts'];
  const config = { access: 'project-admin' as const };
  /** R9: tenant scope is the tenant administrator's. */
  const requireScope = (request: FastifyRequest, scope: string) => {
    if (scope === 'tenant' && !roleCovers(callerOf(request).role, 'tenant-admin'))
      throw new PcgError('FORBIDDEN', 'accounts of tenant scope need the role tenant-admin', {
        field: 'scope',
        fix: 'Use {"scope": "project"}.',
      });
  };

  app.get(
    '/cloud-accounts',
    {
      schema: {
        tags,
        summary: 'All cloud accounts',
        response: { 200: listOf(CloudAccountSchema), ...PROBLEMS },
      },
    },
    async () => {
      const rows = await db.selectFrom('cloud_accounts').selectAll().orderBy('name', 'asc').execute();
      return { items: rows.map(toCloudAccount) };
    },
  );

  app.get(
    '/cloud-accounts/:id',
    {
      schema: {
        tags,
        summary: 'One cloud account',
        params: IdParams,
        response: { 200: CloudAccountSchema, ...PROBLEMS },
      },
    },
    async (request) => toCloudAccount(await accountRow(portal, request.params.id)),
  );

  app.post(
    '/cloud-accounts',
    {
      config,
      schema: {
        tags,
        summary: 'Add a MAAS account; the gateway tries it first, the key is sealed to the gateway',
        body: CreateCloudAccountRequestSchema,
        response: { 201: CloudAccountSchema.extend({ report: AccountReportSchema }), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      requireScope(request, request.body.scope);
      const { account, report } = await createAccount(portal, request.body, principalOf(callerOf(request)));
      return reply.code(201).send({ ...account, report });
    },
  );

  app.put(
    '/cloud-accounts/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Change an account or switch it on and off',
        params: IdParams,
        body: ChangeSchema,
        response: { 200: CloudAccountSchema, ...PROBLEMS },
      },
    },
    async (request) => {
      requireScope(request, (await accountRow(portal, request.params.id)).scope);
      return await changeAccount(portal, request.params.id, request.body, principalOf(callerOf(request)));
    },
  );

  app.delete(
    '/cloud-accounts/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Remove an account that no cluster uses',
        params: IdParams,
        response: { 204: z.null(), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      requireScope(request, (await accountRow(portal, request.params.id)).scope);
      await removeAccount(portal, request.params.id);
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/cloud-accounts/:id/inventory',
    {
      schema: {
        tags,
        summary: 'What the site has: zones, pools, domains, subnets, images',
        params: IdParams,
        response: { 200: InventorySchema, ...PROBLEMS },
      },
    },
    async (request) => {
      const row = await accountRow(portal, request.params.id);
      return await askAgentFor(
        portal,
        row.gateway_id,
        {
          method: 'GET',
          path: `/v1/accounts/${row.id}/inventory`,
          principal: principalOf(callerOf(request)),
        },
        InventorySchema,
      );
    },
  );

  app.post(
    '/cloud-accounts/:id/explain',
    {
      schema: {
        tags,
        summary: 'Would these pools find machines now, and if not, why',
        params: IdParams,
        body: ExplainRequestSchema,
        response: { 200: PlacementReportSchema, ...PROBLEMS },
      },
    },
    async (request) => {
      const row = await accountRow(portal, request.params.id);
      const { pools, network, image, domain } = request.body;
      return await explainPlacement(
        portal,
        { gateway: row.gateway_id, account: row.id, pools, network, image, domain },
        principalOf(callerOf(request)),
      );
    },
  );
}
