/**
 * The cluster as the API shows it, from its row. A gateway that is away makes the phase Unknown and keeps
 * the last known one beside it: never stale green. Deleted is final and stays.
 */
import {
  type Cluster,
  type ClusterDocument,
  type ClusterStatus,
  ClusterDocumentSchema,
  ClusterSpecSchema,
  ClusterStatusSchema,
  IntentSchema,
} from '../contract/cluster.ts';
import type { Condition } from '../contract/conditions.ts';
import type { ClustersTable } from './store/schema.ts';

export interface ClusterViewOptions {
  /** The gateway is connected, or was within the grace time. */
  readonly fresh: boolean;
  readonly forceDeleteAfterMs: number;
  /** Without tasks: for lists. */
  readonly summary: boolean;
}

export function toCluster(row: ClustersTable, options: ClusterViewOptions): Cluster {
  const intent = IntentSchema.parse(JSON.parse(row.intent));
  const status = row.status === null ? undefined : ClusterStatusSchema.parse(JSON.parse(row.status));
  const stale = row.deleted_at === null && !options.fresh;
  return {
    id: row.id,
    generation: row.generation,
    createdAt: iso(row.created_at),
    gateway: row.gateway_id,
    spec: ClusterSpecSchema.parse(JSON.parse(row.spec)),
    intent,
    stale,
    provisioned: row.provisioned_at !== null,
    ...(row.deleted_at === null ? {} : { deletedAt: iso(row.deleted_at) }),
    ...(status === undefined ? {} : { status: show(status, stale, options.summary) }),
    ...(status === undefined ? {} : { lastKnownPhase: status.phase }),
    ...(row.status_received_at === null ? {} : { statusReceivedAt: iso(row.status_received_at) }),
    ...(intent.kind === 'delete' && row.deleted_at === null
      ? { forceDeleteAt: iso(Date.parse(intent.requestedAt) + options.forceDeleteAfterMs) }
      : {}),
  };
}

function show(status: ClusterStatus, stale: boolean, summary: boolean): ClusterStatus {
  const shown: ClusterStatus =
    stale && status.phase !== 'Deleted'
      ? { ...status, phase: 'Unknown', conditions: status.conditions.map(unknown) }
      : status;
  if (!summary) return shown;
  return { ...shown, tasks: [], nodes: shown.nodes.map((node) => ({ ...node, tasks: [] })) };
}

/** Nobody has looked since: what was true then is told, not claimed. */
function unknown({ status, message, ...condition }: Condition): Condition {
  const last = `last known: ${status}${message === '' ? '' : `, ${message}`}`;
  return { ...condition, status: 'Unknown', reason: 'Stale', message: last };
}

/** The document that goes down for this row. */
export function toDocument(row: ClustersTable): ClusterDocument {
  return ClusterDocumentSchema.parse({
    id: row.id,
    spec: JSON.parse(row.spec),
    profile: JSON.parse(row.profile),
    intent: JSON.parse(row.intent),
    actions: JSON.parse(row.actions),
  });
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}
