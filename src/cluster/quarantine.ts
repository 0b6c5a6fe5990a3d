/**
 * X6: machines that failed are not picked again for a time. Kept per cloud account and machine in the
 * collection `quarantine`; visible, and anybody may end it. An expired entry counts as absent.
 */
import type { z } from 'zod';
import type { QuarantineEntrySchema } from '../contract/api.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';

export type QuarantineEntry = z.infer<typeof QuarantineEntrySchema>;

const keyOf = (account: string, systemId: string) => `${account}/${systemId}`;

export interface Quarantine {
  /** Entries that still hold, of one account or of all. */
  list(now: number, account?: string): Promise<QuarantineEntry[]>;
  add(
    entry: { account: string; systemId: string; hostname: string; reason: string },
    now: number,
    forMs: number,
  ): Promise<void>;
  /** true when there was an entry. */
  remove(account: string, systemId: string): Promise<boolean>;
}

export function createQuarantine(records: Records): Quarantine {
  return {
    async list(now, account) {
      const stored = await records.list<QuarantineEntry>(COLLECTIONS.quarantine);
      const holding: QuarantineEntry[] = [];
      for (const { key, value } of stored) {
        if (Date.parse(value.until) <= now) await records.delete(COLLECTIONS.quarantine, key);
        else if (account === undefined || value.account === account) holding.push(value);
      }
      return holding;
    },
    async add(entry, now, forMs) {
      const value: QuarantineEntry = {
        ...entry,
        since: new Date(now).toISOString(),
        until: new Date(now + forMs).toISOString(),
      };
      await records.put(COLLECTIONS.quarantine, keyOf(entry.account, entry.systemId), value);
    },
    remove: (account, systemId) => records.delete(COLLECTIONS.quarantine, keyOf(account, systemId)),
  };
}
