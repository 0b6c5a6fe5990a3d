/** Gateways: list, one, remove, and questions that go through the tunnel to the gateway's own agent. */
import { z } from 'zod';
import { PcgError } from '../../base/errors.ts';
import { CloudAccountSchema } from '../../contract/cloud-account.ts';
import { GatewaySchema } from '../../contract/gateway.ts';
import { IdSchema } from '../../contract/names.ts';
import { toCloudAccount } from '../accounts.ts';
import { askAgent } from '../agent-questions.ts';
import { gatewayRow, removeGateway, toGateway } from '../gateways.ts';
import type { Portal } from '../portal.ts';
import { callerOf, principalOf } from '../request-guard.ts';
import { type App, ConfirmBody, IdParams, listOf, PROBLEMS } from './app.ts';

const GatewayDetail = GatewaySchema.extend({
  cloudAccounts: z.array(CloudAccountSchema),
  clusters: z.array(z.object({ id: IdSchema, name: z.string() })),
});
/** A path of the agent's API; dot segments are not paths. */
const AskParams = z.object({ id: IdSchema, '*': z.string().regex(/^(?!.*\.\.)[A-Za-z0-9/_.:-]{1,200}$/) });

export function gatewayRoutes(app: App, portal: Portal): void {
  const { db } = portal;
  const tags = ['gateways'];

  app.get(
    '/gateways',
    { schema: { tags, summary: 'All gateways', response: { 200: listOf(GatewaySchema), ...PROBLEMS } } },
    async () => {
      const rows = await db.selectFrom('gateways').selectAll().orderBy('name', 'asc').execute();
      return { items: rows.map((row) => toGateway(portal, row)) };
    },
  );

  app.get(
    '/gateways/:id',
    {
      schema: {
        tags,
        summary: 'One gateway',
        params: IdParams,
        response: { 200: GatewayDetail, ...PROBLEMS },
      },
    },
    async (request) => {
      const row = await gatewayRow(portal, request.params.id);
      const accounts = await db
        .selectFrom('cloud_accounts')
        .selectAll()
        .where('gateway_id', '=', row.id)
        .orderBy('name', 'asc')
        .execute();
      const clusters = await db
        .selectFrom('clusters')
        .select(['id', 'name'])
        .where('gateway_id', '=', row.id)
        .where('deleted_at', 'is', null)
        .orderBy('name', 'asc')
        .execute();
      return { ...toGateway(portal, row), cloudAccounts: accounts.map(toCloudAccount), clusters };
    },
  );

  app.delete(
    '/gateways/:id',
    {
      config: { access: 'tenant-admin' },
      schema: {
        tags,
        summary: 'Remove a gateway; refused while it has clusters, an offline one needs its name typed',
        params: IdParams,
        body: ConfirmBody,
        response: { 204: z.null(), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      await removeGateway(portal, request.params.id, request.body.confirm);
      return reply.code(204).send(null);
    },
  );

  for (const method of ['GET', 'POST', 'DELETE'] as const)
    app.route({
      method,
      url: '/gateways/:id/ask/*',
      // Reading is for everybody signed in; asking the gateway to do something is for administrators.
      config: { access: method === 'GET' ? 'viewer' : 'project-admin' },
      schema: {
        tags,
        summary: "Ask the gateway's agent (inventory, placement, doctor, quarantine, orphans, ...)",
        params: AskParams,
        ...(method === 'POST' ? { body: z.unknown() } : {}),
      },
      handler: async (request, reply) => {
        const { id, '*': path } = request.params as z.infer<typeof AskParams>;
        const row = await gatewayRow(portal, id);
        const query = request.url.includes('?') ? request.url.slice(request.url.indexOf('?')) : '';
        const answer = await askAgent(portal, row.id, {
          method,
          path: `/${path.startsWith('v1/') ? path : `v1/${path}`}${query}`,
          body: method === 'POST' ? (request.body ?? {}) : undefined,
          principal: principalOf(callerOf(request)),
        });
        if (answer.status === 401) throw new PcgError('FORBIDDEN', 'the gateway refuses this question');
        return reply.code(answer.status).send(answer.body);
      },
    });
}
