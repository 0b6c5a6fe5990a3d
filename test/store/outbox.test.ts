import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { SqliteFile } from '../../src/store/sqlite.ts';
import { OUTBOX_SCHEMA, SqliteOutbox } from '../../src/store/sqlite-outbox.ts';

function outbox() {
  const file = SqliteFile.open(':memory:', OUTBOX_SCHEMA);
  return { box: new SqliteOutbox(file, systemClock), file };
}

const draft = (message: string, cluster = 'cl-1') => ({
  severity: 'info' as const,
  reason: 'Test',
  message,
  cluster,
});

describe('outbox', () => {
  it('keeps only the newest unacknowledged snapshot and gives no revision to an equal one', async () => {
    const { box } = outbox();
    await box.putSnapshot('cluster', 'cl-1', { a: 1, b: [1] });
    await box.putSnapshot('cluster', 'cl-1', { b: [1], a: 1 });
    await box.putSnapshot('cluster', 'cl-1', { a: 2 });
    expect(await box.pendingSnapshots()).toEqual([
      { kind: 'cluster', id: 'cl-1', revision: 2, status: { a: 2 } },
    ]);
    await box.acknowledgeSnapshot('cluster', 'cl-1', 1);
    expect(await box.pendingSnapshots()).toHaveLength(1);
    await box.acknowledgeSnapshot('cluster', 'cl-1', 2);
    expect(await box.pendingSnapshots()).toEqual([]);
    await box.putSnapshot('cluster', 'cl-1', null);
    expect(await box.pendingSnapshots()).toEqual([
      { kind: 'cluster', id: 'cl-1', revision: 3, status: null },
    ]);
  });

  it('ignores an acknowledgement of a revision that was never given', async () => {
    const { box } = outbox();
    await box.putSnapshot('cluster', 'cl-1', { a: 1 });
    await box.acknowledgeSnapshot('cluster', 'cl-1', 99);
    await box.putSnapshot('cluster', 'cl-1', { a: 2 });
    expect(await box.pendingSnapshots()).toHaveLength(1);
  });

  it('numbers events from 1 without gaps and serves them after a sequence', async () => {
    const { box } = outbox();
    for (const message of ['a', 'b', 'c']) await box.appendEvent(draft(message));
    expect((await box.pendingEvents(1, 10)).map((event) => [event.seq, event.message])).toEqual([
      [2, 'b'],
      [3, 'c'],
    ]);
    await box.acknowledgeEvents(2);
    expect((await box.recentEvents({ cluster: 'cl-1' }, 2)).map((event) => event.seq)).toEqual([2, 3]);
    expect(await box.recentEvents({ cluster: 'cl-2' }, 2)).toEqual([]);
  });

  it('counts unacknowledged events that fell over the bound', async () => {
    const { box, file } = outbox();
    file.transaction(() => {
      for (let n = 0; n < 10_005; n += 1) void box.appendEvent(draft(`e${n}`));
    });
    await Promise.resolve();
    expect(await box.droppedEvents()).toBe(5);
  });

  it('offers every snapshot again to a portal that has lost events that it had', async () => {
    const { box } = outbox();
    await box.putSnapshot('cluster', 'cl-1', { a: 1 });
    for (const message of ['a', 'b', 'c']) await box.appendEvent(draft(message));
    await box.acknowledgeEvents(3);
    await box.acknowledgeSnapshot('cluster', 'cl-1', 1);
    await box.acknowledgeEvents(3);
    expect(await box.pendingSnapshots()).toEqual([]);
    await box.acknowledgeEvents(1);
    expect(await box.pendingSnapshots()).toHaveLength(1);
    expect(await box.pendingEvents(1, 10)).toHaveLength(2);
  });

  it('numbers snapshots beyond what the portal may hold after this store was restored', async () => {
    const { box } = outbox();
    await box.putSnapshot('cluster', 'cl-1', { a: 1 });
    await box.acknowledgeSnapshot('cluster', 'cl-1', 1);
    await box.acknowledgeEvents(40);
    const [again] = await box.pendingSnapshots();
    // The lost part of its life may have had any number of revisions.
    expect(again?.revision).toBeGreaterThan(100_000);
  });

  it('moves pending events behind numbers that the portal already holds', async () => {
    const { box } = outbox();
    await box.appendEvent(draft('old'));
    await box.acknowledgeEvents(1);
    await box.appendEvent(draft('new'));
    await box.acknowledgeEvents(40);
    expect((await box.pendingEvents(40, 10)).map((event) => [event.seq, event.message])).toEqual([
      [41, 'new'],
    ]);
    expect((await box.appendEvent(draft('next'))).seq).toBe(42);
  });
});
