/** Durable sync at the portal's end, on both stores: duplicates, holes, lies and stale words change nothing. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { Event } from '../../src/contract/events.ts';
import { Changes } from '../../src/portal/changes.ts';
import { writeDocument } from '../../src/portal/documents.ts';
import { openStore, type StoreOptions } from '../../src/portal/store/open.ts';
import type { PortalDb } from '../../src/portal/store/schema.ts';
import { createSyncPort } from '../../src/portal/sync-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { describeWith } from '../support/needs.ts';
import { clusterStatus, event, gatewayStatus } from '../support/portal.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';

const GATEWAY = 'gw-one';

interface Bench extends AsyncDisposable {
  readonly db: PortalDb;
  readonly clock: ManualClock;
  readonly changes: Changes;
  port(gateway?: string): ReturnType<typeof createSyncPort>;
  cluster(id: string, intent?: unknown): Promise<void>;
  stored(): Promise<{ seq: number; feed_id: number; cluster_id: string | null; reason: string }[]>;
}

async function bench(store: StoreOptions): Promise<Bench> {
  const db = await openStore(store);
  const clock = new ManualClock();
  const changes = new Changes();
  for (const id of [GATEWAY, 'gw-two'])
    await db
      .insertInto('gateways')
      .values({
        id,
        name: id.slice(3),
        public_key: '',
        sealing_key: '',
        words: '',
        created_at: 0,
        epoch: 1,
        last_event_seq: 0,
        status: null,
        status_revision: 0,
        status_received_at: null,
        disconnected_at: null,
        disconnect_reason: null,
      })
      .execute();
  return {
    db,
    clock,
    changes,
    port: (gateway = GATEWAY) => createSyncPort({ db, clock, log: silentLog, changes }, gateway),
    async cluster(id, intent = { kind: 'present' }) {
      await db.transaction().execute(async (tx) => {
        await tx
          .insertInto('clusters')
          .values({
            id,
            name: id,
            live_name: id,
            gateway_id: GATEWAY,
            account_id: 'ca-1',
            profile_id: 'pr-1',
            generation: 1,
            spec: '{}',
            profile: '{}',
            intent: JSON.stringify(intent),
            actions: '[]',
            created_by: 'me',
            created_at: 0,
            provisioned_at: null,
            deleted_at: null,
            status: null,
            status_revision: 0,
            status_received_at: null,
          })
          .execute();
        await writeDocument(tx, GATEWAY, 'cluster', id, { id });
      });
    },
    async stored() {
      const rows = await db.selectFrom('events').selectAll().orderBy('feed_id', 'asc').execute();
      return rows.map((row) => ({
        seq: row.seq,
        feed_id: row.feed_id,
        cluster_id: row.cluster_id,
        reason: JSON.parse(row.body).reason as string,
      }));
    },
    [Symbol.asyncDispose]: () => db.destroy(),
  };
}

function syncPortSuite(store: () => Promise<StoreOptions>) {
  const open = async () => bench(await store());

  it('stores every event once and in order, however often and overlapping it is delivered', async () => {
    await using b = await open();
    const port = b.port();
    expect(await port.appendEvents([event(1), event(2)])).toBe(2);
    expect(await port.appendEvents([event(1), event(2), event(3)])).toBe(3);
    expect(await port.appendEvents([event(2)])).toBe(3);
    expect(await port.appendEvents([])).toBe(3);
    expect((await b.stored()).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(await port.lastEventSeq()).toBe(3);
  });

  it('keeps order and numbers when two connections of one gateway deliver at once', async () => {
    await using b = await open();
    const batch = Array.from({ length: 50 }, (_, index) => event(index + 1));
    await Promise.all([
      b.port().appendEvents(batch),
      b.port().appendEvents(batch),
      b.port().appendEvents(batch),
    ]);
    const rows = await b.stored();
    expect(rows.map(({ seq }) => seq)).toEqual(batch.map(({ seq }) => seq));
    expect(new Set(rows.map(({ feed_id }) => feed_id)).size).toBe(50);
  });

  it('does not jump over a lost batch, but accepts a hole that is offered again', async () => {
    await using b = await open();
    const port = b.port();
    await port.appendEvents([event(1)]);
    expect(await port.appendEvents([event(5), event(6)])).toBe(1);
    expect(await port.appendEvents([event(2), event(3)])).toBe(3);
    expect(await port.appendEvents([event(8)])).toBe(3);
    expect(await port.appendEvents([event(8), event(9)])).toBe(9);
    expect((await b.stored()).map(({ seq }) => seq)).toEqual([1, 2, 3, 8, 9]);
  });

  it('takes more events at once than one statement may carry', async () => {
    await using b = await open();
    const many = Array.from({ length: 10_000 }, (_, index) => event(index + 1));
    expect(await b.port().appendEvents(many)).toBe(10_000);
  });

  it('replaces an event that it cannot read by a note and goes on', async () => {
    await using b = await open();
    const lies = [
      event(1),
      { seq: 2, severity: 'panic', cluster: 7 } as unknown as Event,
      event(3, { data: { blob: 'x'.repeat(2_000_000) } }),
      event(4),
    ];
    expect(await b.port().appendEvents(lies)).toBe(4);
    expect((await b.stored()).map(({ reason }) => reason)).toEqual([
      'MachineAllocated',
      'EventUnreadable',
      'EventUnreadable',
      'MachineAllocated',
    ]);
  });

  it("does not let a gateway write into another gateway's timeline", async () => {
    await using b = await open();
    await b.cluster('cl-mine');
    await b.port('gw-two').appendEvents([event(1, { cluster: 'cl-mine' })]);
    await b.port().appendEvents([event(1, { cluster: 'cl-mine' })]);
    expect((await b.stored()).map(({ cluster_id }) => cluster_id)).toEqual([null, 'cl-mine']);
    expect(
      await b
        .port('gw-two')
        .putSnapshot({ kind: 'cluster', id: 'cl-mine', revision: 9, status: clusterStatus() }),
    ).toMatchObject({ refused: expect.any(String) });
  });

  it('stores a snapshot only when it is newer', async () => {
    await using b = await open();
    await b.cluster('cl-one');
    const port = b.port();
    const put = (revision: number, done: number) =>
      port.putSnapshot({
        kind: 'cluster',
        id: 'cl-one',
        revision,
        status: clusterStatus({ progress: { done, total: 3 } }),
      });
    expect(await put(2, 1)).toBe('stored');
    expect(await put(2, 2)).toBe('stale');
    expect(await put(1, 3)).toBe('stale');
    const row = await b.db.selectFrom('clusters').selectAll().executeTakeFirstOrThrow();
    expect(JSON.parse(row.status ?? '').progress.done).toBe(1);
    expect(await put(3, 3)).toBe('stored');
  });

  it('refuses a snapshot that is not a status, is of unknown kind, or is far too large', async () => {
    await using b = await open();
    await b.cluster('cl-one');
    const put = (kind: string, id: string, status: unknown) =>
      b.port().putSnapshot({ kind, id, revision: 1, status });
    expect(await put('cluster', 'cl-one', { phase: 'Fine' })).toMatchObject({ refused: expect.any(String) });
    expect(await put('weather', 'x', {})).toMatchObject({ refused: expect.any(String) });
    expect(await put('cluster', 'cl-one', { blob: 'x'.repeat(9_000_000) })).toMatchObject({
      refused: expect.stringContaining('larger'),
    });
    expect(await put('gateway', GATEWAY, { version: 1 })).toMatchObject({ refused: expect.any(String) });
  });

  it('hands down the newest generation only, and what is withdrawn until that is acknowledged', async () => {
    await using b = await open();
    const port = b.port();
    await b.cluster('cl-one');
    const write = (spec: unknown) =>
      b.db.transaction().execute((tx) => writeDocument(tx, GATEWAY, 'cluster', 'cl-one', spec));
    await write({ v: 2 });
    expect(await port.documents()).toEqual([
      { kind: 'cluster', id: 'cl-one', generation: 2, spec: { v: 2 }, acknowledged: 0 },
    ]);
    await port.acknowledgeDocument('cluster', 'cl-one', 2, 'applied');
    await write(null);
    expect(await port.documents()).toEqual([
      { kind: 'cluster', id: 'cl-one', generation: 3, spec: null, acknowledged: 2 },
    ]);
    // An acknowledgement of an older or of an impossible generation says nothing.
    await port.acknowledgeDocument('cluster', 'cl-one', 1, 'applied');
    await port.acknowledgeDocument('cluster', 'cl-one', 99, 'applied');
    expect(await port.documents()).toMatchObject([{ acknowledged: 2 }]);
    await port.acknowledgeDocument('cluster', 'cl-one', 3, 'applied');
    // It stays known as withdrawn: a gateway that was restored from a backup may still have it.
    expect(await port.documents()).toMatchObject([{ generation: 3, spec: null, acknowledged: 3 }]);
  });

  it('counts on from what the gateway has after this store was restored from a backup', async () => {
    await using b = await open();
    const port = b.port();
    await b.cluster('cl-one');
    await port.acknowledgeDocument('cluster', 'cl-one', 7, 'stale');
    expect(await port.documents()).toMatchObject([{ generation: 7, acknowledged: 7 }]);
    const next = await b.db
      .transaction()
      .execute((tx) => writeDocument(tx, GATEWAY, 'cluster', 'cl-one', { v: 'next' }));
    expect(next).toBe(8);
    expect(await b.db.selectFrom('clusters').select('generation').execute()).toEqual([{ generation: 7 }]);
  });

  it('takes a deleted cluster off the list once the gateway says so, and withdraws its document', async () => {
    await using b = await open();
    await b.cluster('cl-one', { kind: 'delete', requestedAt: '2026-01-01T00:00:00.000Z', reason: 'delete' });
    const port = b.port();
    const rung: string[] = [];
    using _listening = port.onDocumentChange(() => rung.push('rung'));
    const gone = { kind: 'cluster', id: 'cl-one', revision: 5, status: clusterStatus({ phase: 'Deleted' }) };
    expect(await port.putSnapshot(gone)).toBe('stored');
    expect(await port.putSnapshot(gone)).toBe('stale');
    const row = await b.db.selectFrom('clusters').selectAll().executeTakeFirstOrThrow();
    expect(row).toMatchObject({ live_name: null, deleted_at: b.clock.now() });
    expect(await port.documents()).toMatchObject([
      { kind: 'cluster', id: 'cl-one', generation: 2, spec: null },
    ]);
    expect(rung).toEqual(['rung']);
  });

  it('keeps a cluster that nobody deleted, whatever the gateway says', async () => {
    await using b = await open();
    await b.cluster('cl-one');
    const port = b.port();
    await port.putSnapshot({
      kind: 'cluster',
      id: 'cl-one',
      revision: 1,
      status: clusterStatus({ phase: 'Deleted' }),
    });
    await port.putSnapshot({ kind: 'cluster', id: 'cl-one', revision: 2, status: null });
    const row = await b.db.selectFrom('clusters').selectAll().executeTakeFirstOrThrow();
    expect(row).toMatchObject({ deleted_at: null, live_name: 'cl-one' });
  });

  it("adopts the gateway's own MAAS account once (R81), and never another gateway's", async () => {
    await using b = await open();
    const put = (gateway: string, revision: number) =>
      b.port(gateway).putSnapshot({ kind: 'gateway', id: gateway, revision, status: gatewayStatus() });
    expect(await put(GATEWAY, 1)).toBe('stored');
    expect(await put(GATEWAY, 2)).toBe('stored');
    expect(await put('gw-two', 1)).toBe('stored');
    const accounts = await b.db.selectFrom('cloud_accounts').selectAll().execute();
    expect(accounts).toHaveLength(1);
    expect(accounts[0]).toMatchObject({
      id: 'ca-site1',
      gateway_id: GATEWAY,
      name: 'one-maas',
      sealed_key: null,
    });
    const [document] = await b.port().documents();
    expect(document?.spec).not.toHaveProperty('sealedKey');
  });
}

describe('on SQLite', () => {
  let directory = '';
  let count = 0;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'pcg-sync-'));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));
  syncPortSuite(async () => {
    count += 1;
    return { kind: 'sqlite', path: join(directory, `${count}.db`) };
  });
});

describeWith(['postgres'], 'on PostgreSQL', () => {
  let postgres: Postgres | undefined;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(() => postgres?.[Symbol.asyncDispose]());
  syncPortSuite(async () => ({ kind: 'postgres', url: postgres?.database() ?? '' }));
});
