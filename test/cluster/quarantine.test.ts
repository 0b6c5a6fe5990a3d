/** X6: set aside for a time, per account, and over a restart. */
import { describe, expect, it } from 'vitest';
import { createQuarantine } from '../../src/cluster/quarantine.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import { memoryRecords } from '../support/memory-store.ts';

const NOW = Date.parse('2026-11-21T12:00:00Z');
const HELD_MS = DEFAULT_TIMINGS.quarantineMs;
const failed = (account: string, systemId: string) => ({
  account,
  systemId,
  hostname: `host-${systemId}`,
  reason: 'DEPLOY_FAILED: curtin failed',
});

describe('a machine that failed', () => {
  it('is set aside for its time and no longer, also by the process that comes after', async () => {
    const records = memoryRecords();
    await createQuarantine(records).add(failed('ca-one', 'm1'), NOW, HELD_MS);
    const later = createQuarantine(records);
    expect(await later.list(NOW + HELD_MS - 1, 'ca-one')).toEqual([
      { ...failed('ca-one', 'm1'), since: '2026-11-21T12:00:00.000Z', until: '2026-11-22T12:00:00.000Z' },
    ]);
    expect(await later.list(NOW + HELD_MS, 'ca-one')).toEqual([]);
    // Gone for good: a clock that is set back does not bring it back.
    expect(await later.list(NOW, 'ca-one')).toEqual([]);
  });

  it('that fails again is set aside anew, and another account does not see it', async () => {
    const quarantine = createQuarantine(memoryRecords());
    await quarantine.add(failed('ca-one', 'm1'), NOW, HELD_MS);
    await quarantine.add(failed('ca-one', 'm1'), NOW + HELD_MS / 2, HELD_MS);
    await quarantine.add(failed('ca-two', 'm1'), NOW, HELD_MS);
    expect(await quarantine.list(NOW + HELD_MS, 'ca-one')).toHaveLength(1);
    expect(await quarantine.list(NOW + HELD_MS, 'ca-two')).toEqual([]);
    expect(await quarantine.remove('ca-two', 'm1')).toBe(false);
    expect(await quarantine.remove('ca-one', 'm1')).toBe(true);
    expect(await quarantine.list(NOW)).toEqual([]);
  });
});
