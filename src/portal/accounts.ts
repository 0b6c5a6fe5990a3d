/**
 * Cloud accounts (R95-R98). A key given in the clear is sealed to the gateway at once and forgotten; what
 * the portal keeps cannot be opened here. Nothing is stored before the gateway has tried it (R97).
 */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { PcgError } from '../base/errors.ts';
import {
  type AccountReport,
  AccountReportSchema,
  type CreateCloudAccountRequestSchema,
} from '../contract/api.ts';
import { accountSealContext, type CloudAccount } from '../contract/cloud-account.ts';
import type { Principal } from '../tunnel/ports.ts';
import { accountDocument } from './adopt-accounts.ts';
import { askAgentFor } from './agent-questions.ts';
import { iso } from './cluster-view.ts';
import { writeDocument } from './documents.ts';
import { gatewayRow } from './gateways.ts';
import { newId } from './ids.ts';
import type { Portal } from './portal.ts';
import { sealTo } from './sealing.ts';
import { isUniqueViolation } from './store/open.ts';
import type { CloudAccountsTable } from './store/schema.ts';

export type CreateCloudAccount = z.output<typeof CreateCloudAccountRequestSchema>;

export async function accountRow(portal: Portal, id: string, field?: string): Promise<CloudAccountsTable> {
  const row = await portal.db
    .selectFrom('cloud_accounts')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirst();
  if (!row) throw new PcgError('NOT_FOUND', `there is no cloud account ${id}`, { field });
  return row;
}

export function toCloudAccount(row: CloudAccountsTable): CloudAccount {
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    scope: row.scope === 'project' ? 'project' : 'tenant',
    gateway: row.gateway_id,
    endpoint: row.endpoint,
    keyFingerprint: row.key_fingerprint,
    enabled: row.enabled !== 0,
    createdAt: iso(row.created_at),
    default: row.is_default !== 0,
  };
}

export async function createAccount(
  portal: Portal,
  input: CreateCloudAccount,
  principal: Principal,
): Promise<{ account: CloudAccount; report: AccountReport }> {
  const gateway = await gatewayRow(portal, input.gateway).catch((error: unknown) => {
    throw error instanceof PcgError && error.code === 'NOT_FOUND'
      ? new PcgError('NOT_FOUND', error.message, { field: 'gateway' })
      : error;
  });
  const id = input.id ?? newId('ca');
  const sealedKey = sealedKeyOf(input, id, gateway.sealing_key);
  const report = await validate(
    portal,
    gateway.id,
    { endpoint: input.endpoint, sealedKey, account: id, caPem: input.caPem },
    principal,
  );
  const row: CloudAccountsTable = {
    id,
    gateway_id: gateway.id,
    name: input.name,
    description: input.description,
    scope: input.scope,
    endpoint: input.endpoint,
    key_fingerprint: input.apiKey === undefined ? '' : keyFingerprint(input.apiKey),
    sealed_key: sealedKey,
    ca_pem: input.caPem ?? null,
    enabled: 1,
    is_default: 0,
    created_at: portal.clock.now(),
  };
  try {
    await portal.db.transaction().execute(async (tx) => {
      await tx.insertInto('cloud_accounts').values(row).execute();
      await writeDocument(tx, gateway.id, 'cloud-account', id, accountDocument(row));
    });
  } catch (cause) {
    if (isUniqueViolation(cause))
      throw new PcgError('CONFLICT', `a cloud account ${input.name} exists`, { field: 'name', cause });
    throw cause;
  }
  portal.changes.notify({ kind: 'account', id }, { kind: 'documents', gateway: gateway.id });
  return { account: toCloudAccount(row), report };
}

export interface AccountChange {
  readonly description?: string | undefined;
  readonly enabled?: boolean | undefined;
  readonly endpoint?: string | undefined;
  readonly apiKey?: string | undefined;
  readonly sealedKey?: string | undefined;
  readonly caPem?: string | undefined;
}

/** A new endpoint or key is tried first, as at creation. The gateway's own account changes only its switch. */
export async function changeAccount(
  portal: Portal,
  id: string,
  change: AccountChange,
  principal: Principal,
): Promise<CloudAccount> {
  const row = await accountRow(portal, id);
  const touchesAccess = change.endpoint ?? change.apiKey ?? change.sealedKey ?? change.caPem;
  let next: CloudAccountsTable = {
    ...row,
    description: change.description ?? row.description,
    enabled: change.enabled === undefined ? row.enabled : Number(change.enabled),
  };
  if (touchesAccess !== undefined) {
    if (row.is_default !== 0)
      throw new PcgError('CONFLICT', "this account's endpoint and key live on the gateway", {
        fix: 'Change them in the settings of the gateway itself.',
      });
    const gateway = await gatewayRow(portal, row.gateway_id);
    const newKey = change.apiKey ?? change.sealedKey;
    const sealed = newKey === undefined ? row.sealed_key : sealedKeyOf(change, id, gateway.sealing_key);
    if (sealed === null) throw new PcgError('INVALID_INPUT', 'give the API key', { field: 'apiKey' });
    next = {
      ...next,
      endpoint: change.endpoint ?? row.endpoint,
      sealed_key: sealed,
      ca_pem: change.caPem ?? row.ca_pem,
      key_fingerprint: change.apiKey === undefined ? row.key_fingerprint : keyFingerprint(change.apiKey),
    };
    await validate(
      portal,
      gateway.id,
      { endpoint: next.endpoint, sealedKey: sealed, account: id, caPem: next.ca_pem ?? undefined },
      principal,
    );
  }
  await portal.db.transaction().execute(async (tx) => {
    const { id: _id, ...columns } = next;
    await tx.updateTable('cloud_accounts').set(columns).where('id', '=', id).execute();
    await writeDocument(tx, row.gateway_id, 'cloud-account', id, accountDocument(next));
  });
  portal.changes.notify({ kind: 'account', id }, { kind: 'documents', gateway: row.gateway_id });
  return toCloudAccount(next);
}

export async function removeAccount(portal: Portal, id: string): Promise<void> {
  const row = await accountRow(portal, id);
  if (row.is_default !== 0)
    throw new PcgError('CONFLICT', 'the account that came with the gateway goes with the gateway', {
      fix: 'Switch it off instead, or delete the gateway.',
    });
  await portal.db.transaction().execute(async (tx) => {
    const users = await tx
      .selectFrom('clusters')
      .select(['id', 'name'])
      .where('account_id', '=', id)
      .where('deleted_at', 'is', null)
      .execute();
    if (users.length > 0)
      throw new PcgError('CONFLICT', `${users.length} cluster(s) use this account`, {
        fix: 'Delete the listed clusters first.',
        details: { clusters: users },
      });
    await tx.deleteFrom('cloud_accounts').where('id', '=', id).execute();
    await writeDocument(tx, row.gateway_id, 'cloud-account', id, null);
  });
  portal.changes.notify({ kind: 'account', id }, { kind: 'documents', gateway: row.gateway_id });
}

async function validate(
  portal: Portal,
  gatewayId: string,
  body: { endpoint: string; sealedKey: string; account: string; caPem: string | undefined },
  principal: Principal,
): Promise<AccountReport> {
  const report = await askAgentFor(
    portal,
    gatewayId,
    { method: 'POST', path: '/v1/accounts/validate', body, principal },
    AccountReportSchema,
  );
  if (report.ok) return report;
  const problem = report.problem;
  throw new PcgError(
    problem?.code ?? 'MAAS_UNREACHABLE',
    problem?.message ?? 'the gateway could not use this account',
    {
      fix: problem?.fix,
      field: problem?.field ?? (problem?.code === 'MAAS_UNAUTHORIZED' ? 'apiKey' : 'endpoint'),
      details: { report },
    },
  );
}

function sealedKeyOf(
  input: { apiKey?: string | undefined; sealedKey?: string | undefined },
  accountId: string,
  sealingKey: string,
): string {
  if (input.sealedKey !== undefined) return input.sealedKey;
  if (input.apiKey === undefined)
    throw new PcgError('INVALID_INPUT', 'give apiKey, or sealedKey with id', { field: 'apiKey' });
  const apiKey = input.apiKey.replace(/\s/g, '');
  if (apiKey.split(':').filter(Boolean).length !== 3)
    throw new PcgError('MAAS_KEY_INVALID', 'the API key does not have three parts', { field: 'apiKey' });
  return sealTo(sealingKey, apiKey, accountSealContext(accountId));
}

/** Tells two keys apart without giving away the secret part. */
function keyFingerprint(apiKey: string): string {
  const [consumer = '', token = ''] = apiKey.replace(/\s/g, '').split(':');
  return createHash('sha256').update(`${consumer}:${token}`).digest('hex').slice(0, 12);
}
