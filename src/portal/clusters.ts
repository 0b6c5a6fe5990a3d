/**
 * Clusters: how they are found, shown and created. Creating validates and stores row and document in one
 * transaction; what becomes of it is read from the gateway's snapshots (sync-port.ts). Nothing here waits for
 * hardware. What is changed on a living cluster is in cluster-intent.ts.
 */
import { createHash } from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import type { Cluster, ClusterSpecRequest, Intent } from '../contract/cluster.ts';
import type { Principal } from '../tunnel/ports.ts';
import { accountRow } from './accounts.ts';
import type { Caller } from './auth.ts';
import { toCluster, toDocument } from './cluster-view.ts';
import { writeDocument } from './documents.ts';
import { isFresh } from './gateways.ts';
import { newId } from './ids.ts';
import type { Portal } from './portal.ts';
import { explainPlacement, refuseInfeasible } from './preflight.ts';
import { checkNodeSettings } from './node-settings.ts';
import { findProfile, resolveProfile } from './profiles.ts';
import { checkSchedules } from './schedules.ts';
import { sealSpec, withoutSecrets } from './sealing.ts';
import { isUniqueViolation } from './store/open.ts';
import type { ClustersTable } from './store/schema.ts';

export async function viewCluster(portal: Portal, row: ClustersTable, summary = false): Promise<Cluster> {
  const gateway = await portal.db
    .selectFrom('gateways')
    .select(['id', 'disconnected_at'])
    .where('id', '=', row.gateway_id)
    .executeTakeFirst();
  return view(portal, row, gateway, summary);
}

/** All living clusters, or with `deletedWithinMs` those deleted since then. */
export async function listClusters(portal: Portal, deletedWithinMs?: number): Promise<Cluster[]> {
  let query = portal.db
    .selectFrom('clusters')
    .leftJoin('gateways', 'gateways.id', 'clusters.gateway_id')
    .selectAll('clusters')
    .select(['gateways.id as gw_id', 'gateways.disconnected_at as gw_disconnected_at'])
    .orderBy('clusters.name', 'asc')
    .orderBy('clusters.id', 'asc');
  query =
    deletedWithinMs === undefined
      ? query.where('clusters.deleted_at', 'is', null)
      : query.where('clusters.deleted_at', '>=', portal.clock.now() - deletedWithinMs);
  const rows = await query.execute();
  return rows.map((row) =>
    view(
      portal,
      row,
      row.gw_id === null ? undefined : { id: row.gw_id, disconnected_at: row.gw_disconnected_at },
      true,
    ),
  );
}

export async function clusterRow(portal: Portal, id: string): Promise<ClustersTable> {
  const row = await portal.db.selectFrom('clusters').selectAll().where('id', '=', id).executeTakeFirst();
  if (!row) throw new PcgError('NOT_FOUND', `there is no cluster ${id}`);
  return row;
}

export interface CreateOptions {
  readonly caller: Caller;
  readonly principal: Principal;
  readonly preflight: 'required' | 'skip';
  readonly idempotencyKey: string | undefined;
}

/** `replayed`: this Idempotency-Key made the cluster earlier. */
export async function createCluster(
  portal: Portal,
  request: ClusterSpecRequest,
  options: CreateOptions,
): Promise<{ row: ClustersTable; replayed: boolean }> {
  const requestHash = createHash('sha256')
    .update(JSON.stringify(withoutSecrets(request)))
    .digest('hex');
  const earlier = await replay(portal, options, requestHash);
  if (earlier) return { row: earlier, replayed: true };
  try {
    return { row: await makeCluster(portal, request, options, requestHash), replayed: false };
  } catch (cause) {
    // The same request at the same moment may have won; its cluster then holds the name and the machines that this
    // one was refused for.
    const twin = await replay(portal, options, requestHash);
    if (twin) return { row: twin, replayed: true };
    throw cause;
  }
}

async function makeCluster(
  portal: Portal,
  request: ClusterSpecRequest,
  options: CreateOptions,
  requestHash: string,
): Promise<ClustersTable> {
  const account = await accountRow(portal, request.cloudAccount, 'spec.cloudAccount');
  checkNodeSettings(request);
  checkSchedules(request.policies);
  const spec = await sealSpec(portal, account.gateway_id, request);
  if (account.enabled === 0)
    throw new PcgError('CONFLICT', `cloud account ${account.name} is switched off for clusters`, {
      field: 'spec.cloudAccount',
      fix: 'Switch it on at the cloud account, or choose another one.',
    });
  const profile = await findProfile(portal, spec.profile, 'spec.profile');
  const resolved = resolveProfile(profile, spec);
  await refuseTakenName(portal, spec.name);
  if (options.preflight === 'required') {
    const report = await explainPlacement(
      portal,
      {
        gateway: account.gateway_id,
        account: account.id,
        pools: spec.pools,
        network: spec.network,
        image: resolved.os.image,
        domain: spec.domain,
        hurried: true,
      },
      options.principal,
    );
    refuseInfeasible(report);
  }

  const now = portal.clock.now();
  const row: ClustersTable = {
    id: newId('cl'),
    name: spec.name,
    live_name: spec.name,
    gateway_id: account.gateway_id,
    account_id: account.id,
    profile_id: profile.id,
    generation: 1,
    spec: JSON.stringify(spec),
    profile: JSON.stringify(resolved),
    settled: null,
    intent: JSON.stringify({ kind: 'present' } satisfies Intent),
    actions: '[]',
    created_by: options.caller.email,
    created_at: now,
    provisioned_at: null,
    deleted_at: null,
    status: null,
    status_revision: 0,
    status_received_at: null,
  };
  try {
    await portal.db.transaction().execute(async (tx) => {
      if (options.idempotencyKey !== undefined)
        await tx
          .insertInto('idempotency')
          .values({
            user_id: options.caller.userId,
            key: options.idempotencyKey,
            request_hash: requestHash,
            cluster_id: row.id,
            created_at: now,
          })
          .execute();
      await tx.insertInto('clusters').values(row).execute();
      await writeDocument(tx, row.gateway_id, 'cluster', row.id, toDocument(row));
    });
  } catch (cause) {
    throw isUniqueViolation(cause) ? nameTaken(spec.name, cause) : cause;
  }
  portal.log.info({ cluster: row.id, gateway: row.gateway_id, by: options.caller.email }, 'cluster created');
  announce(portal, row);
  return row;
}

export function announce(portal: Portal, row: ClustersTable): void {
  portal.changes.notify(
    { kind: 'documents', gateway: row.gateway_id },
    { kind: 'cluster', id: row.id, gateway: row.gateway_id },
  );
}

function view(
  portal: Portal,
  row: ClustersTable,
  gateway: { id: string; disconnected_at: number | null } | undefined,
  summary: boolean,
): Cluster {
  return toCluster(row, {
    fresh: gateway !== undefined && isFresh(portal, gateway),
    forceDeleteAfterMs: portal.limits.forceDeleteAfterMs,
    summary,
  });
}

async function replay(
  portal: Portal,
  options: CreateOptions,
  requestHash: string,
): Promise<ClustersTable | undefined> {
  if (options.idempotencyKey === undefined) return undefined;
  const seen = await portal.db
    .selectFrom('idempotency')
    .selectAll()
    .where('user_id', '=', options.caller.userId)
    .where('key', '=', options.idempotencyKey)
    .executeTakeFirst();
  if (!seen) return undefined;
  if (seen.request_hash !== requestHash)
    throw new PcgError('CONFLICT', 'this Idempotency-Key was used for another request', {
      fix: 'Use a new key for a new request.',
      field: 'Idempotency-Key',
    });
  return await clusterRow(portal, seen.cluster_id);
}

async function refuseTakenName(portal: Portal, name: string): Promise<void> {
  const taken = await portal.db
    .selectFrom('clusters')
    .select('id')
    .where('live_name', '=', name)
    .executeTakeFirst();
  if (taken) throw nameTaken(name);
}

function nameTaken(name: string, cause?: unknown): PcgError {
  return new PcgError('CLUSTER_NAME_TAKEN', `a cluster ${name} exists`, { field: 'spec.name', cause });
}
