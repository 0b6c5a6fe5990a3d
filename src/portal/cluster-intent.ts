/**
 * What is wanted of a living cluster: another specification, an action, its end. Every change sees the locked
 * row, raises the generation and replaces the document in one transaction. Nothing here waits for hardware.
 */
import { PcgError } from '../base/errors.ts';
import {
  type ClusterDocument,
  type ClusterSpecRequest,
  ClusterSpecSchema,
  ClusterStatusSchema,
  type Intent,
} from '../contract/cluster.ts';
import { iso, toDocument } from './cluster-view.ts';
import { announce, clusterRow } from './clusters.ts';
import { writeDocument } from './documents.ts';
import { newId } from './ids.ts';
import type { Portal } from './portal.ts';
import { findProfile, resolveProfile } from './profiles.ts';
import { requirePlan, runningProfile, settledBefore, takeBack } from './rollout-consent.ts';
import { checkNodeSettings } from './node-settings.ts';
import { checkSchedules } from './schedules.ts';
import { sealSpec } from './sealing.ts';
import { checkChange } from './spec-change.ts';
import type { ClustersTable, PortalTx } from './store/schema.ts';

/** One-off actions kept in the document; the gateway remembers by id which it has done. */
const ACTIONS_MAX = 100;

type WithoutId<A> = A extends { id: string } ? Omit<A, 'id'> : never;
export type ClusterAction = WithoutId<ClusterDocument['actions'][number]>;

/** Replaces the specification when `generation` is still the newest. */
export async function changeSpec(
  portal: Portal,
  id: string,
  generation: number,
  request: ClusterSpecRequest,
): Promise<ClustersTable> {
  const before = await clusterRow(portal, id);
  const known = ClusterSpecSchema.parse(JSON.parse(before.spec));
  checkNodeSettings(request);
  checkSchedules(request.policies);
  const spec = await sealSpec(portal, before.gateway_id, request, known.policies.backups.target);
  const profile = await findProfile(portal, spec.profile, 'spec.profile');
  const resolved = resolveProfile(profile, spec);
  checkChange({ spec: known, profile: runningProfile(before) }, { spec, profile: resolved });
  return await change(portal, id, (row) => {
    requirePresent(row);
    if (row.generation !== generation)
      throw new PcgError('CONFLICT', `the cluster is at generation ${row.generation}, not ${generation}`, {
        field: 'generation',
        details: { generation: row.generation },
      });
    return {
      spec: JSON.stringify(spec),
      profile: JSON.stringify(resolved),
      profile_id: profile.id,
      settled: settledBefore(row),
    };
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

/** What the action names must exist: the gateway would carry out nothing, and say nothing. */
export async function addAction(portal: Portal, id: string, action: ClusterAction): Promise<ClustersTable> {
  return await change(portal, id, (row) => {
    requirePresent(row);
    if (action.kind === 'approve-rollout') requirePlan(row, action.plan);
    if (action.kind === 'replace-node' || action.kind === 'maintenance') requireMachine(row, action.machine);
    const actions = JSON.parse(row.actions) as unknown[];
    const next = [...actions, { ...action, id: newId('ac') }].slice(-ACTIONS_MAX);
    return {
      actions: JSON.stringify(next),
      ...(action.kind === 'approve-rollout' ? { settled: null } : {}),
    };
  });
}

/** Takes a change back that waits for approval; the nodes stay what they are. */
export async function rejectRollout(portal: Portal, id: string, plan: string): Promise<ClustersTable> {
  return await change(portal, id, (row) => {
    requirePresent(row);
    return takeBack(row, plan);
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

function requireConfirm(row: ClustersTable, confirm: string): void {
  if (confirm !== row.name)
    throw new PcgError('INVALID_INPUT', "the confirmation is not the cluster's name", {
      field: 'confirm',
      fix: `Send {"confirm": "${row.name}"}.`,
    });
}

/** Node name, MAAS system id or host name, as the gateway last reported them. */
function requireMachine(row: ClustersTable, machine: string): void {
  const nodes = row.status === null ? [] : ClusterStatusSchema.parse(JSON.parse(row.status)).nodes;
  if (nodes.some((node) => [node.name, node.systemId, node.hostname].includes(machine))) return;
  throw new PcgError('NOT_FOUND', `the cluster has no node or machine ${machine}`, { field: 'machine' });
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
