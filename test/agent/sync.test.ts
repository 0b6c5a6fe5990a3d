import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createSyncPort } from '../../src/agent/sync.ts';
import { memoryOutbox, memoryRecords } from '../support/memory-store.ts';

const account = (name: string) => ({ id: 'ca-1', name, endpoint: 'http://maas:5240/MAAS', enabled: true });

function port() {
  const changed: string[] = [];
  const records = memoryRecords();
  return {
    changed,
    records,
    sync: createSyncPort({
      records,
      outbox: memoryOutbox(),
      log: silentLog,
      documentChanged: (kind, id) => changed.push(`${kind}/${id}`),
      current: () => {},
    }),
  };
}

describe("the gateway's end of durable sync", () => {
  it('stores a newer generation once and calls an equal or older one stale (#42, #43)', async () => {
    const { sync, changed } = port();
    const document = { kind: 'cloud-account', id: 'ca-1', generation: 2, spec: account('two') };
    expect(await sync.apply(document)).toBe('applied');
    expect(await sync.apply(document)).toBe('stale');
    expect(await sync.apply({ ...document, generation: 1, spec: account('one') })).toBe('stale');
    expect(await sync.known()).toEqual([{ kind: 'cloud-account', id: 'ca-1', generation: 2 }]);
    expect(changed).toEqual(['cloud-account/ca-1']);
  });

  it('keeps a tombstone, so that an older generation of a deleted document cannot come back', async () => {
    const { sync, records } = port();
    await sync.apply({ kind: 'cloud-account', id: 'ca-1', generation: 3, spec: null });
    expect(
      await sync.apply({ kind: 'cloud-account', id: 'ca-1', generation: 2, spec: account('late') }),
    ).toBe('stale');
    expect((await records.get('documents', 'cloud-account/ca-1'))?.value).toEqual({
      generation: 3,
      spec: null,
    });
  });

  it('refuses what it cannot understand, naming the field, and stores nothing (#46)', async () => {
    const { sync, records } = port();
    expect(
      await sync.apply({
        kind: 'cloud-account',
        id: 'ca-1',
        generation: 1,
        spec: { ...account('x'), endpoint: 7 },
      }),
    ).toEqual({
      refused: expect.stringContaining('endpoint'),
    });
    expect(await sync.apply({ kind: 'toaster', id: 't', generation: 1, spec: {} })).toEqual({
      refused: expect.stringContaining('toaster'),
    });
    expect(await records.list('documents')).toEqual([]);
  });
});
