/**
 * Numbers of the feed. The counter's row stays locked until the transaction ends, so that numbers become
 * visible in order: a reader that has seen n never finds a smaller one later.
 */
import { sql } from 'kysely';
import type { PortalTx } from './schema.ts';

/** Reserves `count` numbers and returns the first. */
export async function reserveFeedIds(tx: PortalTx, count: number): Promise<number> {
  const row = await tx
    .updateTable('counters')
    .set({ value: sql<number>`value + ${count}` })
    .where('name', '=', 'feed')
    .returning('value')
    .executeTakeFirstOrThrow();
  return row.value - count + 1;
}
