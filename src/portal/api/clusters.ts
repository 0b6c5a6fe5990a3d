/** Clusters: create, look, change, leave. Answers are 202 where the gateway still has to do the work. */
import { z } from 'zod';
import { PcgError } from '../../base/errors.ts';
import { ClusterDocumentSchema, ClusterSchema, ClusterSpecRequestSchema } from '../../contract/cluster.ts';
import { EventSchema } from '../../contract/events.ts';
import { IdSchema } from '../../contract/names.ts';
import {
  abortCluster,
  addAction,
  changeSpec,
  type ClusterAction,
  deleteCluster,
  forceDeleteCluster,
  rejectRollout,
} from '../cluster-intent.ts';
import { clusterRow, createCluster, listClusters, viewCluster } from '../clusters.ts';
import { readEvents } from '../feed.ts';
import { renderKubeconfig } from '../kubeconfig.ts';
import type { Portal } from '../portal.ts';
import { callerOf, principalOf } from '../request-guard.ts';
import type { ClustersTable } from '../store/schema.ts';
import { type App, IdParams, listOf, PROBLEMS } from './app.ts';

const HOUR_MS = 3_600_000;
const EVENTS_MAX = 1_000;

const DeletedQuery = z.object({
  /** `72h`: those deleted within that time, instead of the living. */
  deleted: z
    .string()
    .regex(/^\d{1,3}h$/, 'give it like 72h')
    .optional(),
});
const EventsQuery = z.object({
  after: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .describe('Position to go on from, 0 = the beginning. Without it: the newest events.'),
  limit: z.coerce.number().int().min(1).max(EVENTS_MAX).default(200),
});
export const FeedEventSchema = EventSchema.extend({
  id: z.int().min(1).describe('Position in the feed: give it as `after` to go on.'),
  gateway: IdSchema,
});
const EventPage = z.object({ events: z.array(FeedEventSchema), next: z.int() });
const ConfirmName = z.object({ confirm: z.string().max(100).default('') });
const ActionBody = z.discriminatedUnion(
  'kind',
  // The portal gives the id.
  ClusterDocumentSchema.shape.actions
    .unwrap()
    .element.options.map((option) => (option as z.ZodObject).omit({ id: true })) as never,
);
const KEY_MAX_CHARS = 200;

export function clusterRoutes(app: App, portal: Portal): void {
  const tags = ['clusters'];
  const config = { access: 'project-admin' as const };

  app.get(
    '/clusters',
    {
      schema: {
        tags,
        summary: 'Living clusters, without tasks; with ?deleted=72h the recently deleted ones',
        querystring: DeletedQuery,
        response: { 200: listOf(ClusterSchema), ...PROBLEMS },
      },
    },
    async (request) => {
      const { deleted } = request.query;
      const withinMs = deleted === undefined ? undefined : Number.parseInt(deleted, 10) * HOUR_MS;
      if (withinMs !== undefined && withinMs > portal.limits.deletedFilterMaxMs)
        throw new PcgError('INVALID_INPUT', `at most ${portal.limits.deletedFilterMaxMs / HOUR_MS}h`, {
          field: 'deleted',
        });
      return { items: await listClusters(portal, withinMs) };
    },
  );

  app.post(
    '/clusters',
    {
      config,
      schema: {
        tags,
        summary:
          'Create a cluster; placement is checked through the gateway first (?preflight=skip does not)',
        querystring: z.object({ preflight: z.enum(['required', 'skip']).default('required') }),
        body: z.object({ spec: ClusterSpecRequestSchema }),
        response: { 200: ClusterSchema, 201: ClusterSchema, ...PROBLEMS },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request);
      const key = request.headers['idempotency-key'];
      if (Array.isArray(key) || (key !== undefined && (key.length === 0 || key.length > KEY_MAX_CHARS)))
        throw new PcgError('INVALID_INPUT', `one key of 1 to ${KEY_MAX_CHARS} characters`, {
          field: 'Idempotency-Key',
        });
      const { row, replayed } = await createCluster(portal, request.body.spec, {
        caller,
        principal: principalOf(caller),
        preflight: request.query.preflight,
        idempotencyKey: key,
      });
      return reply.code(replayed ? 200 : 201).send(await viewCluster(portal, row));
    },
  );

  app.get(
    '/clusters/:id',
    {
      schema: {
        tags,
        summary: 'One cluster with all tasks',
        params: IdParams,
        response: { 200: ClusterSchema, ...PROBLEMS },
      },
    },
    async (request) => await viewCluster(portal, await clusterRow(portal, request.params.id)),
  );

  /** A change of what is wanted of one cluster: 202 with the cluster, and a line in the log of who wanted it. */
  const wish = <B extends z.ZodType>(
    method: 'POST' | 'PUT',
    verb: string,
    summary: string,
    body: B,
    act: (id: string, body: z.output<B>) => Promise<ClustersTable>,
  ) =>
    app.route({
      method,
      url: `/clusters/:id/${verb}`,
      config,
      schema: { tags, summary, params: IdParams, body, response: { 202: ClusterSchema, ...PROBLEMS } },
      handler: async (request, reply) => {
        const { id } = request.params as z.output<typeof IdParams>;
        const row = await act(id, request.body as z.output<B>);
        portal.log.info({ cluster: row.id, by: callerOf(request).email, verb }, 'cluster change requested');
        return reply.code(202).send(await viewCluster(portal, row));
      },
    });

  wish(
    'PUT',
    'spec',
    'Replace the specification at its newest generation',
    z.object({ generation: z.int().min(1), spec: ClusterSpecRequestSchema }),
    (id, { generation, spec }) => changeSpec(portal, id, generation, spec),
  );
  wish('POST', 'delete', 'Delete a provisioned cluster; its name confirms', ConfirmName, (id, { confirm }) =>
    deleteCluster(portal, id, confirm),
  );
  wish('POST', 'abort', 'Stop provisioning and release everything', z.object({}), (id) =>
    abortCluster(portal, id),
  );
  wish(
    'POST',
    'force-delete',
    'Forget a cluster that does not finish deleting; opens 15 minutes after Delete',
    ConfirmName,
    (id, { confirm }) => forceDeleteCluster(portal, id, confirm),
  );
  wish(
    'POST',
    'actions',
    'One-off actions: retry, replace-node, maintenance, approve-rollout, ...',
    ActionBody,
    (id, action) => addAction(portal, id, action as ClusterAction),
  );
  wish(
    'POST',
    'reject-rollout',
    'Take a change back that waits for approval; the plan names which',
    z.object({ plan: z.string().min(1).max(100) }),
    (id, { plan }) => rejectRollout(portal, id, plan),
  );

  app.get(
    '/clusters/:id/events',
    {
      schema: {
        tags,
        summary: 'Events of a cluster, oldest first',
        params: IdParams,
        querystring: EventsQuery,
        response: { 200: EventPage, ...PROBLEMS },
      },
    },
    async (request) => {
      const { after, limit } = request.query;
      const row = await clusterRow(portal, request.params.id);
      const events = await readEvents(portal, { cluster: row.id, after, limit });
      return { events, next: events.at(-1)?.id ?? after ?? 0 };
    },
  );

  app.get(
    '/clusters/:id/kubeconfig',
    {
      schema: {
        tags,
        summary: 'kubeconfig that goes through this portal, as the signed-in user',
        params: IdParams,
        produces: ['application/yaml'],
      },
    },
    async (request, reply) => {
      const row = await clusterRow(portal, request.params.id);
      const text = await renderKubeconfig(portal, row, callerOf(request), request.host);
      return reply
        .header('cache-control', 'no-store')
        .header('content-disposition', `attachment; filename="${row.name}.kubeconfig"`)
        .type('application/yaml')
        .send(text);
    },
  );
}
