/** Reads the simulator's own books: who holds which machine, what was allocated twice, how much was asked. */
import { request } from 'undici';
import { z } from 'zod';

const LedgerSchema = z.object({
  /** Machines taken through the API and not back yet. */
  leaked: z.array(z.unknown()),
  doublyAllocated: z.array(z.unknown()),
  /** Addresses reserved through the API and not released yet. */
  leakedAddresses: z.array(z.unknown()),
  /** Names of nodes that held several machines at once. */
  sharedAgentNames: z.array(z.unknown()),
  /** Requests to the MAAS API so far. */
  requests: z.int(),
});
export type LedgerSummary = z.infer<typeof LedgerSchema>;

export async function readLedger(maasUrl: string, signal: AbortSignal): Promise<LedgerSummary> {
  const answer = await request(new URL('/simulator/ledger', maasUrl), { signal });
  return LedgerSchema.parse(await answer.body.json());
}
