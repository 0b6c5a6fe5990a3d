/** Gateways: how they are shown, whether their word is fresh, and how one is removed (R86). */
import { PcgError } from '../base/errors.ts';
import { type Gateway, GatewayStatusSchema } from '../contract/gateway.ts';
import { fingerprint } from '../tunnel/identity.ts';
import { iso } from './cluster-view.ts';
import { revokeCodes } from './pairing.ts';
import type { Portal } from './portal.ts';
import type { GatewaysTable } from './store/schema.ts';

export async function gatewayRow(portal: Portal, id: string): Promise<GatewaysTable> {
  const row = await portal.db.selectFrom('gateways').selectAll().where('id', '=', id).executeTakeFirst();
  if (!row) throw new PcgError('NOT_FOUND', `there is no gateway ${id}`);
  return row;
}

export function toGateway(portal: Portal, row: GatewaysTable): Gateway {
  const live = portal.links.connection(row.id);
  const connection: Gateway['connection'] = live
    ? {
        state: 'connected',
        since: iso(live.since),
        remoteAddress: live.remoteAddress,
        ...(live.rttMs === undefined ? {} : { rttMs: Math.round(live.rttMs * 10) / 10 }),
      }
    : row.disconnected_at === null
      ? { state: 'never' }
      : { state: 'disconnected', since: iso(row.disconnected_at), reason: row.disconnect_reason ?? '' };
  const heardAt = Math.max(row.status_received_at ?? 0, row.disconnected_at ?? 0);
  const clone = portal.links.clone(row.id);
  const lastHeartbeatAt = live ? portal.clock.now() : heardAt;
  return {
    id: row.id,
    name: row.name,
    createdAt: iso(row.created_at),
    keyFingerprint: fingerprint(row.public_key),
    sealingKey: row.sealing_key,
    words: row.words,
    connection,
    ...(clone && { clone: { refusedAt: iso(clone.refusedAt), remoteAddresses: [...clone.remoteAddresses] } }),
    ...(lastHeartbeatAt > 0 ? { lastHeartbeatAt: iso(lastHeartbeatAt) } : {}),
    ...(row.status === null ? {} : { status: GatewayStatusSchema.parse(JSON.parse(row.status)) }),
  };
}

/** May this gateway's clusters be shown as reported? A short grace bridges a reconnect. */
export function isFresh(portal: Portal, row: Pick<GatewaysTable, 'id' | 'disconnected_at'>): boolean {
  if (portal.links.connection(row.id)) return true;
  return (
    row.disconnected_at !== null && portal.clock.now() - row.disconnected_at < portal.limits.staleAfterMs
  );
}

export interface LeftBehind {
  readonly id: string;
  readonly name: string;
  readonly phase: string;
}

/**
 * Forgets the gateway: its key is no longer accepted. Refused while clusters live on it. A gateway that is
 * away cannot clean up after itself, so that needs its name typed in `confirm`.
 */
export async function removeGateway(portal: Portal, id: string, confirm: string | undefined): Promise<void> {
  const row = await gatewayRow(portal, id);
  const living = await portal.db
    .selectFrom('clusters')
    .select(['id', 'name', 'status'])
    .where('gateway_id', '=', id)
    .where('deleted_at', 'is', null)
    .orderBy('name', 'asc')
    .execute();
  const clusters: LeftBehind[] = living.map((cluster) => ({
    id: cluster.id,
    name: cluster.name,
    phase: cluster.status === null ? 'Pending' : String(JSON.parse(cluster.status).phase),
  }));
  const online = portal.links.connection(id) !== undefined;
  if (clusters.length > 0 && (online || confirm !== row.name))
    throw new PcgError('GATEWAY_HAS_CLUSTERS', `gateway ${row.name} has ${clusters.length} cluster(s)`, {
      details: { clusters },
      ...(online
        ? {}
        : {
            fix: 'Delete the listed clusters first, or confirm with the gateway name to leave them behind.',
          }),
    });
  if (!online && confirm !== row.name)
    throw new PcgError('INVALID_INPUT', 'the gateway is offline: confirm with its name', {
      field: 'confirm',
      fix: `Send {"confirm": "${row.name}"}. Its service and its own machines stay behind and must be removed there.`,
    });
  const now = portal.clock.now();
  await portal.db.transaction().execute(async (tx) => {
    await tx
      .updateTable('clusters')
      .set({ deleted_at: now, live_name: null })
      .where('gateway_id', '=', id)
      .where('deleted_at', 'is', null)
      .execute();
    await tx.deleteFrom('documents').where('gateway_id', '=', id).execute();
    await tx.deleteFrom('cloud_accounts').where('gateway_id', '=', id).execute();
    await tx.deleteFrom('gateways').where('id', '=', id).execute();
    await revokeCodes(tx, id);
  });
  portal.links.disconnect(id, 'revoked');
  portal.log.info({ gateway: id, leftBehind: clusters.length }, 'gateway removed');
  portal.changes.notify(
    { kind: 'gateway', id },
    ...clusters.map((cluster) => ({ kind: 'cluster' as const, id: cluster.id, gateway: id })),
  );
}
