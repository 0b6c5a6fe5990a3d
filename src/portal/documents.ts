/**
 * Desired documents, one row per (gateway, kind, id), newest generation only. Written in the transaction
 * that changes the resource; the tunnel carries them down and reports what the gateway has on disk.
 */
import { sql } from 'kysely';
import type { PortalTx } from './store/schema.ts';

export type DocumentKind = 'cluster' | 'cloud-account';

/** Replaces the document with its next generation and returns that. `spec` null withdraws it. */
export async function writeDocument(
  tx: PortalTx,
  gatewayId: string,
  kind: DocumentKind,
  id: string,
  spec: unknown,
): Promise<number> {
  const body = spec === null ? null : JSON.stringify(spec);
  const row = await tx
    .insertInto('documents')
    .values({ gateway_id: gatewayId, kind, id, generation: 1, spec: body, acknowledged: 0, outcome: null })
    .onConflict((conflict) =>
      conflict.columns(['gateway_id', 'kind', 'id']).doUpdateSet({
        generation: sql<number>`documents.generation + 1`,
        spec: body,
      }),
    )
    .returning('generation')
    .executeTakeFirstOrThrow();
  return row.generation;
}
