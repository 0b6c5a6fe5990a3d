/**
 * R81: the MAAS account that a gateway was installed with appears in the portal by itself. The gateway
 * names it in its status; its key never leaves the site, so the document that goes down carries none.
 */
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { CloudAccountDocument } from '../contract/cloud-account.ts';
import type { GatewayStatus } from '../contract/gateway.ts';
import { IdSchema } from '../contract/names.ts';
import type { Change } from './changes.ts';
import { writeDocument } from './documents.ts';
import type { CloudAccountsTable, PortalTx } from './store/schema.ts';

/** A gateway names one or two; a longer list is a defect or an attack. */
const ADOPT_MAX = 20;

export async function adoptLocalAccounts(
  tx: PortalTx,
  clock: Clock,
  log: Log,
  gatewayId: string,
  status: GatewayStatus,
): Promise<Change[]> {
  const changes: Change[] = [];
  for (const account of status.accounts.slice(0, ADOPT_MAX)) {
    const known = await tx
      .selectFrom('cloud_accounts')
      .selectAll()
      .where('id', '=', account.id)
      .executeTakeFirst();
    if (known) {
      if (known.gateway_id !== gatewayId)
        log.warn({ account: account.id }, "gateway names another gateway's account");
      else if (known.is_default !== 0 && known.endpoint !== account.endpoint) {
        await tx
          .updateTable('cloud_accounts')
          .set({ endpoint: account.endpoint })
          .where('id', '=', account.id)
          .execute();
        changes.push({ kind: 'account', id: account.id });
      }
      continue;
    }
    if (!IdSchema.safeParse(account.id).success || !URL.canParse(account.endpoint)) {
      log.warn(
        { account: account.id, endpoint: account.endpoint },
        'gateway names an account that cannot be',
      );
      continue;
    }
    const row: CloudAccountsTable = {
      id: account.id,
      gateway_id: gatewayId,
      name: await freeName(tx, gatewayId),
      description: 'Made with the gateway.',
      scope: 'tenant',
      endpoint: account.endpoint,
      key_fingerprint: '',
      sealed_key: null,
      ca_pem: null,
      enabled: 1,
      is_default: 1,
      created_at: clock.now(),
    };
    await tx.insertInto('cloud_accounts').values(row).execute();
    await writeDocument(tx, gatewayId, 'cloud-account', row.id, accountDocument(row));
    changes.push({ kind: 'account', id: row.id }, { kind: 'documents', gateway: gatewayId });
  }
  return changes;
}

export function accountDocument(row: CloudAccountsTable): CloudAccountDocument {
  return {
    id: row.id,
    name: row.name,
    endpoint: row.endpoint,
    enabled: row.enabled !== 0,
    ...(row.sealed_key === null ? {} : { sealedKey: row.sealed_key }),
    ...(row.ca_pem === null ? {} : { caPem: row.ca_pem }),
  };
}

/** `<gateway>-maas`, `<gateway>-maas-2`, ... */
async function freeName(tx: PortalTx, gatewayId: string): Promise<string> {
  const gateway = await tx
    .selectFrom('gateways')
    .select('name')
    .where('id', '=', gatewayId)
    .executeTakeFirstOrThrow();
  const base = `${gateway.name.slice(0, 30)}-maas`;
  for (let n = 1; ; n += 1) {
    const name = n === 1 ? base : `${base}-${n}`;
    const taken = await tx
      .selectFrom('cloud_accounts')
      .select('id')
      .where('name', '=', name)
      .executeTakeFirst();
    if (!taken) return name;
  }
}
