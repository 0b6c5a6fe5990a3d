/**
 * Clusters: intent. Every change validates, raises the generation and replaces the document in one
 * transaction; what becomes of it is read from the gateway's snapshots (sync-port.ts). Nothing here waits
 * for hardware.
 */
import { createHash } from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import type { Cluster, ClusterDocument, ClusterSpec, Intent } from '../contract/cluster.ts';
import type { Principal } from '../tunnel/ports.ts';
import { accountRow } from './accounts.ts';
import type { Caller } from './auth.ts';
import { iso, toCluster, toDocument } from './cluster-view.ts';
import { writeDocument } from './documents.ts';
import { isFresh } from './gateways.ts';
import { newId } from './ids.ts';
import type { Portal } from './portal.ts';
import { explainPlacement, refuseInfeasible } from './preflight.ts';
import { findProfile, resolveProfile } from './profiles.ts';
import { checkChange } from './spec-change.ts';
import { isUniqueViolation } from './store/open.ts';
import type { ClustersTable, PortalTx } from './store/schema.ts';

/** One-off actions kept in the document; the gateway remembers by id which it has done. */
const ACTIONS_MAX = 100;

export type ClusterAction = Omit<ClusterDocument['actions'][number], 'id'>;

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
  spec: ClusterSpec,
  options: CreateOptions,
): Promise<{ row: ClustersTable; replayed: boolean }> {
  const requestHash = createHash('sha256').update(JSON.stringify(spec)).digest('hex');
  const earlier = await replay(portal, options, requestHash);
  if (earlier) return { row: earlier, replayed: true };

  const account = await accountRow(portal, spec.cloudAccount, 'spec.cloudAccount');
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
    if (!isUniqueViolation(cause)) throw cause;
    // Lost a race: against the same request (then it is ours), or against another cluster of this name.
    const twin = await replay(portal, options, requestHash);
    if (twin) return { row: twin, replayed: true };
    throw nameTaken(spec.name, cause);
  }
  portal.log.info({ cluster: row.id, gateway: row.gateway_id, by: options.caller.email }, 'cluster created');
  announce(portal, row);
  return { row, replayed: false };
}

/** Replaces the specification when `generation` is still the newest. */
export async function changeSpec(
  portal: Portal,
  id: string,
  generation: number,
  spec: ClusterSpec,
): Promise<ClustersTable> {
  const before = await clusterRow(portal, id);
  const profile = await findProfile(portal, spec.profile, 'spec.profile');
  const resolved = resolveProfile(profile, spec);
  checkChange(
    { spec: JSON.parse(before.spec), profile: JSON.parse(before.profile) },
    { spec, profile: resolved },
  );
  return await change(portal, id, (row) => {
    requirePresent(row);
    if (row.generation !== generation)
      throw new PcgError('CONFLICT', `the cluster is at generation ${row.generation}, not ${generation}`, {
        field: 'generation',
        details: { generation: row.generation },
      });
    return { spec: JSON.stringify(spec), profile: JSON.stringify(resolved), profile_id: profile.id };
  });
}

/** R121, R123: only what was provisioned, and only with its name typed. Again = no change. */
export async function deleteCluster(portal: Portal, id: string, confirm: string): Promise<ClustersTable> {
  return await change(portal, id, (row) => {
    requireConfirm(row, confirm);
    if (isLeaving(row)) return undefined;
    if (row.provisioned_at === null)
      throw new PcgError('CLUSTER_NOT_DELETABLE', 'the cluster is not provisioned yet', {
        details: { use: 'abort' },
      });
    return { intent: leave(portal, 'delete') };
  });
}

/** R123: stops provisioning and releases everything. */
export async function abortCluster(portal: Portal, id: string): Promise<ClustersTable> {
  return await change(portal, id, (row) => {
    if (isLeaving(row)) return undefined;
    if (row.provisioned_at !== null)
      throw new PcgError('CONFLICT', 'the cluster is provisioned: there is nothing to abort', {
        fix: 'Use Delete.',
        details: { use: 'delete' },
      });
    return { intent: leave(portal, 'abort') };
  });
}

/**
 * R124-R128. It waits for nothing: with the gateway away the cluster leaves the list at once, with the
 * machines last seen as leftovers; the gateway cleans up what it can when it returns.
 */
export async function forceDeleteCluster(
  portal: Portal,
  id: string,
  confirm: string,
): Promise<ClustersTable> {
  return await change(portal, id, (row) => {
    requireConfirm(row, confirm);
    const intent = JSON.parse(row.intent) as Intent;
    if (row.deleted_at !== null || intent.kind === 'force-delete') return undefined;
    const now = portal.clock.now();
    if (intent.kind !== 'delete')
      throw new PcgError('FORCE_DELETE_TOO_EARLY', 'the cluster is not being deleted', {
        fix: 'Use Delete first; Force delete opens 15 minutes later.',
      });
    const opensAt = Date.parse(intent.requestedAt) + portal.limits.forceDeleteAfterMs;
    if (now < opensAt)
      throw new PcgError('FORCE_DELETE_TOO_EARLY', `force delete opens at ${iso(opensAt)}`, {
        details: { forceDeleteAt: iso(opensAt), secondsLeft: Math.ceil((opensAt - now) / 1000) },
      });
    const wanted = {
      intent: JSON.stringify({ kind: 'force-delete', requestedAt: iso(now) } satisfies Intent),
    };
    if (portal.links.connection(row.gateway_id)) return wanted;
    return { ...wanted, deleted_at: now, live_name: null, ...withLeftovers(row, now) };
  });
}

export async function addAction(portal: Portal, id: string, action: ClusterAction): Promise<ClustersTable> {
  return await change(portal, id, (row) => {
    requirePresent(row);
    const actions = JSON.parse(row.actions) as unknown[];
    const next = [...actions, { ...action, id: newId('ac') }].slice(-ACTIONS_MAX);
    return { actions: JSON.stringify(next) };
  });
}

/** One change of a cluster: `decide` sees the locked row and returns new columns, or undefined for none. */
async function change(
  portal: Portal,
  id: string,
  decide: (row: ClustersTable) => Partial<ClustersTable> | undefined,
): Promise<ClustersTable> {
  const { row, changed } = await portal.db.transaction().execute(async (tx) => {
    const current = await lockCluster(tx, id);
    const columns = decide(current);
    if (!columns) return { row: current, changed: false };
    const next: ClustersTable = { ...current, ...columns, generation: current.generation + 1 };
    await tx
      .updateTable('clusters')
      .set({ ...columns, generation: next.generation })
      .where('id', '=', id)
      .execute();
    await writeDocument(tx, next.gateway_id, 'cluster', id, toDocument(next));
    return { row: next, changed: true };
  });
  if (changed) announce(portal, row);
  return row;
}

/** A write that changes nothing takes the row's lock on PostgreSQL; SQLite has one writer anyway. */
async function lockCluster(tx: PortalTx, id: string): Promise<ClustersTable> {
  const row = await tx
    .updateTable('clusters')
    .set((eb) => ({ generation: eb.ref('generation') }))
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new PcgError('NOT_FOUND', `there is no cluster ${id}`);
  return row;
}

function announce(portal: Portal, row: ClustersTable): void {
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

function requireConfirm(row: ClustersTable, confirm: string): void {
  if (confirm !== row.name)
    throw new PcgError('INVALID_INPUT', "the confirmation is not the cluster's name", {
      field: 'confirm',
      fix: `Send {"confirm": "${row.name}"}.`,
    });
}

function isLeaving(row: ClustersTable): boolean {
  return row.deleted_at !== null || (JSON.parse(row.intent) as Intent).kind !== 'present';
}

function requirePresent(row: ClustersTable): void {
  if (isLeaving(row))
    throw new PcgError(
      'CONFLICT',
      row.deleted_at === null ? 'the cluster is being deleted' : 'the cluster is deleted',
    );
}

function leave(portal: Portal, reason: 'delete' | 'abort'): string {
  return JSON.stringify({ kind: 'delete', requestedAt: iso(portal.clock.now()), reason } satisfies Intent);
}

/** The last known machines, for somebody to look after, when nobody could be asked. */
function withLeftovers(row: ClustersTable, now: number): Partial<ClustersTable> {
  if (row.status === null) return {};
  const status = JSON.parse(row.status);
  const leftovers = status.nodes
    .filter((node: { systemId?: string; phase: string }) => node.systemId && node.phase !== 'Released')
    .map((node: { systemId: string; hostname?: string; name: string }) => ({
      kind: 'machine',
      id: node.systemId,
      name: node.hostname ?? node.name,
      reason: 'The gateway was away; it releases the machine when it returns.',
    }));
  return {
    status: JSON.stringify({ ...status, phase: 'Deleted', leftovers }),
    status_received_at: now,
  };
}
