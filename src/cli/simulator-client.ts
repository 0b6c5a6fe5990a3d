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
});
export type LedgerSummary = z.infer<typeof LedgerSchema>;

export function readLedger(maasUrl: string, signal: AbortSignal): Promise<LedgerSummary> {
  return read(maasUrl, 'ledger', LedgerSchema, signal);
}

const StatsSchema = z.object({
  /** Requests to the MAAS API so far. */
  requests: z.int(),
  byRoute: z.record(z.string(), z.int()),
  bytesSent: z.int(),
  bytesReceived: z.int(),
  peakInFlight: z.int(),
});
export type SimulatorStats = z.infer<typeof StatsSchema>;

export function readStats(maasUrl: string, signal: AbortSignal): Promise<SimulatorStats> {
  return read(maasUrl, 'stats', StatsSchema, signal);
}

async function read<T>(maasUrl: string, what: string, schema: z.ZodType<T>, signal: AbortSignal): Promise<T> {
  const answer = await request(new URL(`/simulator/${what}`, maasUrl), { signal });
  return schema.parse(await answer.body.json());
}
