/** What tasks took at a site: kept by all clusters of an account together, none over what the others have seen. */
import { describe, expect, it } from 'vitest';
import { createHistories } from '../../src/cluster/history.ts';
import { COLLECTIONS, type Records } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { memoryRecords } from '../support/memory-store.ts';
import { clusterSpec } from '../support/node-input.ts';

describe('the history of an account', () => {
  it('is one for all who ask, and outlives them', async () => {
    const records = memoryRecords();
    const of = createHistories(records);
    const [one, two] = await Promise.all([of('ca-one'), of('ca-one')]);
    expect(one.usualMs('deploy')).toBeUndefined();
    await Promise.all([one.add('deploy', 10), two.add('deploy', 20), one.add('deploy', 30)]);
    expect(two.usualMs('deploy')).toBe(20);
    expect((await of('ca-two')).usualMs('deploy')).toBeUndefined();
    expect((await createHistories(records)('ca-one')).usualMs('deploy')).toBe(20);
    expect(one.isSlow('deploy', 41)).toBe(true);
    expect(one.isSlow('deploy', 40)).toBe(false);
  });

  it('is asked for again after it could not be read, and an entry that could not be written does not stop the next', async () => {
    const stored = memoryRecords();
    let broken = true;
    const fails = async () => {
      if (broken) throw new Error('the disk is away');
    };
    const records: Records = {
      delete: (collection, key) => stored.delete(collection, key),
      list: (collection) => stored.list(collection),
      watch: (collection, listener) => stored.watch(collection, listener),
      get: async (collection, key) => {
        await fails();
        return await stored.get(collection, key);
      },
      put: async (collection, key, value, options) => {
        await fails();
        return await stored.put(collection, key, value, options);
      },
    };
    const of = createHistories(records);
    await expect(of('ca-one')).rejects.toThrow('the disk is away');
    broken = false;
    const history = await of('ca-one');
    broken = true;
    await expect(history.add('deploy', 10)).rejects.toThrow('the disk is away');
    broken = false;
    await history.add('deploy', 30);
    expect((await stored.get(COLLECTIONS.history, 'ca-one'))?.value).toEqual({ deploy: [10, 30] });
  });

  it('has every machine of clusters that are built side by side', async () => {
    const site = new FakeSite(9);
    await using harness = new EngineHarness(site);
    const pools = [
      { role: 'control-plane' as const, name: 'cp', size: 1 as const },
      { role: 'worker' as const, name: 'workers', size: 2 },
    ];
    const ids = ['cl-one', 'cl-two', 'cl-three'];
    const named = (id: string) => document({ id, spec: clusterSpec({ name: id, pools }) });
    for (const id of ids) await harness.want(named(id));
    for (const cluster of ids)
      await harness.until(cluster, ({ phase }) => phase === 'Running', { cluster, withinMs: 60_000 });
    const stored = await harness.records.get<Record<string, number[]>>(COLLECTIONS.history, 'ca-one');
    expect(stored?.value['deploy']).toHaveLength(9);
    expect(stored?.value['node-ready']).toHaveLength(9);
  });
});
