/** Where clusters are read: from a portal when one is named, else from the agent on this host. */
import { z } from 'zod';
import { PcgError } from '../base/errors.ts';
import { type Cluster, ClusterSchema, ClusterStatusSchema } from '../contract/cluster.ts';
import { EventSchema } from '../contract/events.ts';
import type { CliContext } from './context.ts';
import { askAgent } from './local-client.ts';
import { openPortal, type PortalFlags } from './portal-access.ts';
import type { PortalClient } from './portal-client.ts';
import { agentSocket, type SocketFlags } from './status.ts';

export type SourceFlags = SocketFlags & PortalFlags;

const ShownClusterSchema = z.object({
  id: z.string(),
  name: z.string(),
  phase: z.string(),
  done: z.int(),
  total: z.int(),
  message: z.string(),
  status: ClusterStatusSchema.optional(),
});
export type ShownCluster = z.infer<typeof ShownClusterSchema>;

/** Position in the stream of events, to go on from. */
const PortalEventsSchema = z.object({ events: z.array(EventSchema), next: z.int() });

export interface ClusterSource extends AsyncDisposable {
  list(): Promise<ShownCluster[]>;
  show(nameOrId: string): Promise<ShownCluster>;
  kubeconfig(nameOrId: string): Promise<string>;
  events(
    nameOrId: string | undefined,
    /** Undefined: the newest ones. */
    after: number | undefined,
    limit: number,
  ): Promise<z.infer<typeof PortalEventsSchema>>;
}

export function clusterSource(context: CliContext, flags: SourceFlags): ClusterSource {
  const portal = flags.socket === undefined ? openPortal(context, flags) : undefined;
  return portal ? portalSource(context, portal) : agentSource(context, flags);
}

/** By name or id, among the living. */
export async function findCluster(
  context: CliContext,
  client: PortalClient,
  nameOrId: string,
): Promise<Cluster> {
  const all = await listClusters(context, client);
  const found = all.find(({ id, spec }) => id === nameOrId || spec.name === nameOrId);
  if (!found)
    throw new PcgError('NOT_FOUND', `the portal has no cluster "${nameOrId}"`, {
      fix: all.length === 0 ? 'There is none yet.' : `Known: ${all.map(({ spec }) => spec.name).join(', ')}.`,
    });
  return asGiven(await client.call('GET', `/api/v1/clusters/${found.id}`, undefined, context.signal));
}

/**
 * The specification stays as the portal gave it: a portal of another version knows other fields, and what is
 * sent back must neither lose one nor hold one that only this program knows.
 */
function asGiven(answer: unknown): Cluster {
  return { ...ClusterSchema.parse(answer), spec: (answer as Cluster).spec };
}

/** Events of a cluster with their end, oldest first: those after a position, or the newest ones. */
export async function readEvents(
  context: CliContext,
  client: PortalClient,
  id: string,
  after: number | undefined,
  limit: number,
): Promise<z.infer<typeof PortalEventsSchema>> {
  const since = after === undefined ? '' : `after=${after}&`;
  const path = `/api/v1/clusters/${id}/events?${since}limit=${limit}`;
  return PortalEventsSchema.parse(await client.call('GET', path, undefined, context.signal));
}

async function listClusters(context: CliContext, client: PortalClient): Promise<Cluster[]> {
  const answer = await client.call('GET', '/api/v1/clusters', undefined, context.signal);
  return z.object({ items: z.array(ClusterSchema) }).parse(answer).items;
}

function portalSource(context: CliContext, client: PortalClient): ClusterSource {
  const { signal } = context;
  return {
    list: async () => (await listClusters(context, client)).map(shown),
    show: async (wanted) => shown(await findCluster(context, client, wanted)),
    async kubeconfig(wanted) {
      const { id } = await findCluster(context, client, wanted);
      return z
        .string()
        .parse(await client.call('GET', `/api/v1/clusters/${id}/kubeconfig`, undefined, signal));
    },
    async events(wanted, after, limit) {
      if (wanted === undefined)
        throw new PcgError('INVALID_INPUT', 'a portal gives the events of one cluster', {
          field: 'cluster',
          fix: 'Name the cluster.',
        });
      const { id } = await findCluster(context, client, wanted);
      return await readEvents(context, client, id, after, limit);
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

function shown(cluster: Cluster): ShownCluster {
  const { status } = cluster;
  const leaving = cluster.intent.kind !== 'present' && status?.phase !== 'Deleted' && !cluster.stale;
  const was = cluster.stale && cluster.lastKnownPhase ? `was ${cluster.lastKnownPhase}` : '';
  return {
    id: cluster.id,
    name: cluster.spec.name,
    phase: leaving ? 'Deleting' : (status?.phase ?? 'Pending'),
    done: status?.progress.done ?? 0,
    total: status?.progress.total ?? 0,
    message: was || (status?.error?.message ?? ''),
    ...(status ? { status } : {}),
  };
}

function agentSource(context: CliContext, flags: SocketFlags): ClusterSource {
  const ask = (path: string) => askAgent(agentSocket(context, flags), 'GET', path, context.signal);
  const list = async () => z.array(ShownClusterSchema).parse(await ask('/v1/clusters'));
  return {
    list,
    show: async (wanted) => ShownClusterSchema.parse(await ask(`/v1/clusters/${encodeURIComponent(wanted)}`)),
    async kubeconfig(wanted) {
      const id = (await list()).find(({ name }) => name === wanted)?.id ?? wanted;
      return z.string().parse(await ask(`/v1/clusters/${encodeURIComponent(id)}/kubeconfig`));
    },
    async events(cluster, after, limit) {
      const query = new URLSearchParams({
        limit: String(limit),
        ...(after === undefined ? {} : { after: String(after) }),
        ...(cluster === undefined ? {} : { cluster }),
      });
      const events = z.array(EventSchema).parse(await ask(`/v1/events?${query}`));
      return { events, next: Math.max(after ?? 0, ...events.map(({ seq }) => seq)) };
    },
    [Symbol.asyncDispose]: async () => {},
  };
}
