/**
 * Pairing codes and what they become (R30-R36). The proofs are tunnel/pair.ts; here is the store: one code
 * lives per gateway, a wrong proof is counted before it is answered, and a gateway exists only once paired.
 */
import { PcgError } from '../base/errors.ts';
import type { PairChallenge, PairConfirm, PairHello, PairingCode, PairResult } from '../contract/pairing.ts';
import {
  beginPairing,
  type ConfirmOutcome,
  confirmPairing,
  createPairingCode,
  forgetExpiredKey,
  type PairingRecord,
  type PortalSide,
  revokePairing,
} from '../tunnel/pair.ts';
import type { Change } from './changes.ts';
import { iso } from './cluster-view.ts';
import { newId } from './ids.ts';
import type { Portal } from './portal.ts';
import { isUniqueViolation } from './store/open.ts';
import type { PairingCodesTable, PortalTx } from './store/schema.ts';

export interface PairingCodeView {
  readonly id: string;
  readonly gatewayId: string;
  readonly gatewayName: string;
  readonly state: 'open' | 'paired' | 'expired' | 'revoked' | 'locked';
  readonly createdAt: string;
  readonly expiresAt: string;
  readonly createdBy: string;
  readonly wrongProofs: number;
}

export function toPairingCode(row: PairingCodesTable, now: number): PairingCodeView {
  const record = JSON.parse(row.record) as PairingRecord;
  const expired = record.state.kind === 'open' && now >= record.expiresAt;
  return {
    id: row.id,
    gatewayId: row.gateway_id,
    gatewayName: row.gateway_name,
    state: expired ? 'expired' : record.state.kind,
    createdAt: iso(row.created_at),
    expiresAt: iso(row.expires_at),
    createdBy: row.created_by,
    wrongProofs: record.wrongProofs,
  };
}

/** The code's text is in the answer and nowhere else. `gateway` re-pairs that gateway in place (X17). */
export async function createCode(
  portal: Portal,
  input: { gatewayName: string; gateway?: string | undefined },
  createdBy: string,
): Promise<PairingCode & { gatewayId: string }> {
  const { db, clock, limits } = portal;
  const existing = await db
    .selectFrom('gateways')
    .select(['id', 'name'])
    .where((eb) =>
      input.gateway === undefined ? eb('name', '=', input.gatewayName) : eb('id', '=', input.gateway),
    )
    .executeTakeFirst();
  if (input.gateway === undefined && existing)
    throw new PcgError('CONFLICT', `a gateway ${existing.name} exists`, {
      field: 'gatewayName',
      fix: `Choose another name, or re-pair it in place with {"gateway": "${existing.id}"}.`,
      details: { gateway: existing.id },
    });
  if (input.gateway !== undefined && existing?.name !== input.gatewayName)
    throw existing
      ? new PcgError('INVALID_INPUT', `this gateway is named ${existing.name}`, { field: 'gatewayName' })
      : new PcgError('NOT_FOUND', `there is no gateway ${input.gateway}`, { field: 'gateway' });
  const { code, record } = createPairingCode({
    gatewayId: existing?.id ?? newId('gw'),
    gatewayName: input.gatewayName,
    now: clock.now(),
  });
  const bounded: PairingRecord = { ...record, expiresAt: record.createdAt + limits.pairingCodeTtlMs };
  const revoked = await db.transaction().execute(async (tx) => {
    const older = await tx
      .selectFrom('pairing_codes')
      .selectAll()
      .where('gateway_name', '=', input.gatewayName)
      .execute();
    const ended = await revokeRows(tx, older);
    await tx
      .insertInto('pairing_codes')
      .values({
        id: bounded.codeId,
        gateway_id: bounded.gatewayId,
        gateway_name: bounded.gatewayName,
        record: JSON.stringify(bounded),
        created_by: createdBy,
        created_at: bounded.createdAt,
        expires_at: bounded.expiresAt,
      })
      .execute();
    return ended;
  });
  portal.changes.notify(...[...revoked, bounded.codeId].map((id): Change => ({ kind: 'pairing-code', id })));
  portal.log.info(
    { pairingCode: bounded.codeId, gateway: bounded.gatewayId, by: createdBy },
    'pairing code created',
  );
  return {
    id: bounded.codeId,
    code: code.reveal(),
    gatewayId: bounded.gatewayId,
    gatewayName: bounded.gatewayName,
    expiresAt: iso(bounded.expiresAt),
  };
}

export async function findCode(portal: Portal, id: string): Promise<PairingCodesTable> {
  const row = await portal.db.selectFrom('pairing_codes').selectAll().where('id', '=', id).executeTakeFirst();
  if (!row) throw new PcgError('NOT_FOUND', `there is no pairing code ${id}`);
  return row;
}

export async function revokeCode(portal: Portal, id: string): Promise<void> {
  const row = await findCode(portal, id);
  await portal.db.transaction().execute((tx) => revokeRows(tx, [row]));
  portal.changes.notify({ kind: 'pairing-code', id });
}

export async function beginPair(portal: Portal, hello: PairHello): Promise<PairChallenge> {
  const row = await portal.db
    .selectFrom('pairing_codes')
    .select('record')
    .where('id', '=', hello.codeId)
    .executeTakeFirst();
  const record = row && (JSON.parse(row.record) as PairingRecord);
  return beginPairing(record, hello, portalSide(portal), portal.clock.now());
}

export async function confirmPair(
  portal: Portal,
  confirm: PairConfirm,
): Promise<PairResult & { proof: string }> {
  const changes: Change[] = [];
  const { outcome, rekeyed } = await portal.db
    .transaction()
    .execute((tx) => confirmIn(tx, portal, confirm, changes))
    .catch((cause: unknown) => {
      throw isUniqueViolation(cause)
        ? new PcgError('CONFLICT', 'a gateway of this name was paired meanwhile', { cause })
        : cause;
    });
  if (rekeyed !== undefined) portal.links.disconnect(rekeyed, 'superseded');
  portal.changes.notify(...changes);
  if (outcome.kind === 'refused') {
    portal.log.warn({ pairingCode: confirm.codeId, code: outcome.error.code }, 'pairing refused');
    throw outcome.error;
  }
  portal.log.info(
    { pairingCode: confirm.codeId, gateway: outcome.gateway.id, kind: outcome.kind },
    'gateway paired',
  );
  return outcome.result;
}

async function confirmIn(
  tx: PortalTx,
  portal: Portal,
  confirm: PairConfirm,
  changes: Change[],
): Promise<{ outcome: ConfirmOutcome; rekeyed: string | undefined }> {
  const now = portal.clock.now();
  // The write takes the row's lock: two gateways with one code cannot both be the first.
  const row = await tx
    .updateTable('pairing_codes')
    .set((eb) => ({ expires_at: eb.ref('expires_at') }))
    .where('id', '=', confirm.codeId)
    .returning(['record'])
    .executeTakeFirst();
  const record = row && (JSON.parse(row.record) as PairingRecord);
  const outcome = confirmPairing(record, confirm, portalSide(portal), now);
  if (outcome.record)
    await tx
      .updateTable('pairing_codes')
      .set({ record: JSON.stringify(outcome.record) })
      .where('id', '=', outcome.record.codeId)
      .execute();
  changes.push({ kind: 'pairing-code', id: confirm.codeId });
  if (outcome.kind !== 'paired') return { outcome, rekeyed: undefined };

  const { gateway } = outcome;
  const pinned = {
    public_key: gateway.publicKey,
    sealing_key: gateway.sealingKey,
    words: gateway.words,
  };
  const existing = await tx
    .selectFrom('gateways')
    .select(['public_key', 'epoch'])
    .where('id', '=', gateway.id)
    .executeTakeFirst();
  changes.push({ kind: 'gateway', id: gateway.id });
  if (!existing) {
    await tx
      .insertInto('gateways')
      .values({
        id: gateway.id,
        name: gateway.name,
        ...pinned,
        created_at: now,
        epoch: 1,
        last_event_seq: 0,
        status: null,
        status_revision: 0,
        status_received_at: null,
        disconnected_at: null,
        disconnect_reason: null,
      })
      .execute();
    return { outcome, rekeyed: undefined };
  }
  const rekeyed = existing.public_key !== gateway.publicKey;
  // Another key is another installation: its event sequence and revisions start again.
  const restart = rekeyed ? { epoch: existing.epoch + 1, last_event_seq: 0, status_revision: 0 } : {};
  await tx
    .updateTable('gateways')
    .set({ ...pinned, ...restart })
    .where('id', '=', gateway.id)
    .execute();
  if (rekeyed)
    await tx
      .updateTable('clusters')
      .set({ status_revision: 0 })
      .where('gateway_id', '=', gateway.id)
      .execute();
  return { outcome, rekeyed: rekeyed ? gateway.id : undefined };
}

/** Ends every code of a gateway, also paired ones: a removed gateway cannot come back by repeating. */
export async function revokeCodes(tx: PortalTx, gatewayId: string): Promise<void> {
  const rows = await tx.selectFrom('pairing_codes').selectAll().where('gateway_id', '=', gatewayId).execute();
  await revokeRows(tx, rows);
}

/** Wipes the keys of codes whose life has ended. */
export async function sweepCodes(portal: Portal): Promise<void> {
  const now = portal.clock.now();
  const rows = await portal.db
    .selectFrom('pairing_codes')
    .selectAll()
    .where('expires_at', '<=', now)
    .execute();
  for (const row of rows) {
    const record = JSON.parse(row.record) as PairingRecord;
    const swept = forgetExpiredKey(record, now);
    if (swept === record) continue;
    await portal.db
      .updateTable('pairing_codes')
      .set({ record: JSON.stringify(swept) })
      .where('id', '=', row.id)
      .execute();
  }
}

async function revokeRows(tx: PortalTx, rows: readonly PairingCodesTable[]): Promise<string[]> {
  const ended: string[] = [];
  for (const row of rows) {
    const record = JSON.parse(row.record) as PairingRecord;
    if (record.state.kind === 'revoked') continue;
    await tx
      .updateTable('pairing_codes')
      .set({ record: JSON.stringify(revokePairing(record)) })
      .where('id', '=', row.id)
      .execute();
    ended.push(row.id);
  }
  return ended;
}

function portalSide(portal: Portal): PortalSide {
  return {
    publicKey: portal.identity.publicKey,
    tunnelUrl: portal.tunnelUrl,
    ...(portal.knowsItsUrl ? { isOwnUrl: (url: string) => sameOrigin(url, portal.publicUrl) } : {}),
  };
}

function sameOrigin(left: string, right: string): boolean {
  return URL.canParse(left) && new URL(left).origin === new URL(right).origin;
}
