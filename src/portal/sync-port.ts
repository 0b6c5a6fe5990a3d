/**
 * The portal's end of durable sync for one gateway: documents down, snapshots and events up. Everything
 * that comes up was written by another machine: it is validated, and a gateway speaks only of its own.
 * Delivering twice changes nothing; numbers never go back within one epoch (one pinned key).
 */
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { ClusterStatusSchema } from '../contract/cluster.ts';
import { type Event, EventSchema } from '../contract/events.ts';
import { GatewayStatusSchema } from '../contract/gateway.ts';
import type { PortalSyncPort, StoredDocument, SyncSnapshot } from '../tunnel/ports.ts';
import { adoptLocalAccounts } from './adopt-accounts.ts';
import { type Change, Changes } from './changes.ts';
import { writeDocument } from './documents.ts';
import { reserveFeedIds } from './store/feed-counter.ts';
import type { PortalDb, PortalTx } from './store/schema.ts';

export interface SyncPortDeps {
  readonly db: PortalDb;
  readonly clock: Clock;
  readonly log: Log;
  readonly changes: Changes;
}

/** A snapshot of 1 000 nodes with all tasks is about 2 MB; what is larger is a defect or an attack. */
const SNAPSHOT_MAX_BYTES = 8 * 1024 * 1024;
/** One event with its evidence. */
const EVENT_MAX_BYTES = 1024 * 1024;

/** Databases bound the variables of a statement; SQLite has the lower bound, 32 766. */
const ROWS_PER_STATEMENT = 500;

type Stored = 'stored' | 'stale' | { refused: string };

export function createSyncPort(deps: SyncPortDeps, gatewayId: string): PortalSyncPort {
  const { db, clock, changes } = deps;
  const log = deps.log.child({ gateway: gatewayId });
  /** First sequence beyond a hole that was offered once and not taken. */
  let offeredBeyondHole: number | undefined;

  async function putGatewaySnapshot(
    tx: PortalTx,
    snapshot: SyncSnapshot,
    notices: Change[],
  ): Promise<Stored> {
    const parsed = GatewayStatusSchema.safeParse(snapshot.status);
    if (!parsed.success) return { refused: firstIssue(parsed.error) };
    const { numUpdatedRows } = await tx
      .updateTable('gateways')
      .set({
        status: JSON.stringify(parsed.data),
        status_revision: snapshot.revision,
        status_received_at: clock.now(),
      })
      .where('id', '=', gatewayId)
      .where('status_revision', '<', snapshot.revision)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) return 'stale';
    notices.push({ kind: 'gateway', id: gatewayId });
    notices.push(...(await adoptLocalAccounts(tx, clock, log, gatewayId, parsed.data)));
    return 'stored';
  }

  async function putClusterSnapshot(
    tx: PortalTx,
    snapshot: SyncSnapshot,
    notices: Change[],
  ): Promise<Stored> {
    const row = await tx
      .selectFrom('clusters')
      .select(['id', 'status_revision', 'provisioned_at', 'deleted_at', 'intent'])
      .where('id', '=', snapshot.id)
      .where('gateway_id', '=', gatewayId)
      .executeTakeFirst();
    if (!row) return { refused: 'this gateway has no such cluster' };
    if (snapshot.revision <= row.status_revision) return 'stale';
    const now = clock.now();
    const received = { status_revision: snapshot.revision, status_received_at: now };
    const wantedGone = (JSON.parse(row.intent) as { kind: string }).kind !== 'present';
    let gone = snapshot.status === null;
    let content = {};
    if (snapshot.status !== null) {
      const parsed = ClusterStatusSchema.safeParse(snapshot.status);
      if (!parsed.success) return { refused: firstIssue(parsed.error) };
      const status = parsed.data;
      gone = status.phase === 'Deleted';
      // A cluster that nobody asked to delete is shown as what it is, and stays in the list.
      const running = status.phase === 'Running' || status.phase === 'Updating';
      content = {
        status: JSON.stringify(status),
        ...(running && row.provisioned_at === null ? { provisioned_at: now } : {}),
      };
    }
    const finished = gone && wantedGone;
    await tx
      .updateTable('clusters')
      .set({
        ...received,
        ...content,
        ...(finished ? { live_name: null } : {}),
        ...(finished && row.deleted_at === null ? { deleted_at: now } : {}),
      })
      .where('id', '=', row.id)
      .execute();
    if (finished && (await documentIsThere(tx, gatewayId, row.id))) {
      await writeDocument(tx, gatewayId, 'cluster', row.id, null);
      notices.push({ kind: 'documents', gateway: gatewayId });
    }
    notices.push({ kind: 'cluster', id: row.id, gateway: gatewayId });
    return 'stored';
  }

  return {
    async documents() {
      const rows = await db
        .selectFrom('documents')
        .selectAll()
        .where('gateway_id', '=', gatewayId)
        .orderBy('kind', 'asc')
        .orderBy('id', 'asc')
        .execute();
      return rows.map(
        (row): StoredDocument => ({
          kind: row.kind,
          id: row.id,
          generation: row.generation,
          spec: row.spec === null ? null : JSON.parse(row.spec),
          acknowledged: row.acknowledged,
        }),
      );
    },

    async acknowledgeDocument(kind, id, generation, outcome) {
      const refused = typeof outcome === 'object' ? outcome.refused : null;
      if (outcome === 'stale') await goOnBehind(kind, id, generation);
      // An acknowledgement of an older generation says nothing about the current one.
      const { numUpdatedRows } = await db
        .updateTable('documents')
        .set({ acknowledged: generation, outcome: refused })
        .where('gateway_id', '=', gatewayId)
        .where('kind', '=', kind)
        .where('id', '=', id)
        .where('acknowledged', '<=', generation)
        .where('generation', '>=', generation)
        .executeTakeFirst();
      if (numUpdatedRows === 0n) return;
      if (refused !== null) log.warn({ kind, id, generation, refused }, 'gateway refused a document');
      if (kind === 'cluster') changes.notify({ kind: 'cluster', id, gateway: gatewayId });
    },

    async putSnapshot(snapshot) {
      const size = JSON.stringify(snapshot.status)?.length ?? 0;
      if (size > SNAPSHOT_MAX_BYTES)
        return { refused: `status of ${size} bytes is larger than ${SNAPSHOT_MAX_BYTES}` };
      const notices: Change[] = [];
      const outcome = await db.transaction().execute((tx) => {
        if (snapshot.kind === 'gateway') return putGatewaySnapshot(tx, snapshot, notices);
        if (snapshot.kind === 'cluster') return putClusterSnapshot(tx, snapshot, notices);
        return Promise.resolve({ refused: `unknown kind ${snapshot.kind}` });
      });
      if (typeof outcome === 'object')
        log.warn({ kind: snapshot.kind, id: snapshot.id, refused: outcome.refused }, 'snapshot refused');
      changes.notify(...notices);
      return outcome;
    },

    async appendEvents(events) {
      if (events.length === 0) return await lastSeq(db, gatewayId);
      const stored = await db.transaction().execute(async (tx) => {
        // The counter's lock comes first: it also serialises two ports of one gateway (old and new socket).
        const firstId = await reserveFeedIds(tx, events.length);
        const gateway = await tx
          .selectFrom('gateways')
          .select(['epoch', 'last_event_seq'])
          .where('id', '=', gatewayId)
          .executeTakeFirst();
        if (!gateway) return { seq: 0, added: 0 };
        const own = await ownClusters(tx, gatewayId, events);
        let next = gateway.last_event_seq + 1;
        const ordered = [...events].sort((a, b) => a.seq - b.seq);
        const rows = [];
        for (const raw of ordered) {
          if (raw.seq < next) continue;
          if (raw.seq > next && !mayJump(raw.seq, gateway)) break;
          const event = readEvent(raw, own);
          if (raw.seq > next)
            log.warn({ from: next, to: raw.seq - 1 }, 'gateway has dropped events; the hole is final');
          rows.push({
            feed_id: firstId + rows.length,
            gateway_id: gatewayId,
            epoch: gateway.epoch,
            seq: raw.seq,
            cluster_id: event.cluster ?? null,
            time: Date.parse(event.time),
            body: JSON.stringify(event),
          });
          next = raw.seq + 1;
        }
        if (rows.length > 0) {
          for (let at = 0; at < rows.length; at += ROWS_PER_STATEMENT)
            await tx
              .insertInto('events')
              .values(rows.slice(at, at + ROWS_PER_STATEMENT))
              .execute();
          await tx
            .updateTable('gateways')
            .set({ last_event_seq: next - 1 })
            .where('id', '=', gatewayId)
            .execute();
        }
        return { seq: next - 1, added: rows.length };
      });
      if (stored.added > 0) changes.notify({ kind: 'events' });
      return stored.seq;
    },

    lastEventSeq: () => lastSeq(db, gatewayId),

    onDocumentChange(listener) {
      return changes.onDocuments(gatewayId, listener);
    },
  };

  /**
   * The gateway was told more than this store remembers: it was restored from a backup. The lost intent cannot be
   * known; the old one must not overrule it, and the next one must count.
   */
  async function goOnBehind(kind: string, id: string, generation: number): Promise<void> {
    await db.transaction().execute(async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable('documents')
        .set({ generation })
        .where('gateway_id', '=', gatewayId)
        .where('kind', '=', kind)
        .where('id', '=', id)
        .where('generation', '<', generation)
        .executeTakeFirst();
      if (numUpdatedRows === 0n) return;
      log.error(
        { kind, id, generation },
        'gateway has a newer document than this store: restored from a backup?',
      );
      if (kind !== 'cluster') return;
      await tx
        .updateTable('clusters')
        .set({ generation })
        .where('id', '=', id)
        .where('gateway_id', '=', gatewayId)
        .where('generation', '<', generation)
        .execute();
    });
  }

  /**
   * A gateway that was away for very long has dropped its oldest events and can never deliver them. The
   * first offer beyond a hole may be a lost batch, so it is refused; the same offer again is the truth.
   */
  function mayJump(seq: number, gateway: { last_event_seq: number; epoch: number }): boolean {
    const startsEpoch = gateway.last_event_seq === 0 && gateway.epoch > 1;
    if (startsEpoch || offeredBeyondHole === seq) {
      offeredBeyondHole = undefined;
      return true;
    }
    offeredBeyondHole = seq;
    return false;
  }

  /** An event that does not parse keeps its place with what is safe of it: the sequence must go on. */
  function readEvent(raw: Event, own: ReadonlySet<string>): Event {
    const parsed = EventSchema.safeParse(raw);
    const tooLarge = parsed.success && JSON.stringify(parsed.data).length > EVENT_MAX_BYTES;
    if (!parsed.success || tooLarge) {
      const why = parsed.success ? `larger than ${EVENT_MAX_BYTES} bytes` : firstIssue(parsed.error);
      log.warn({ seq: raw.seq, why }, 'event replaced by a note');
      return {
        seq: raw.seq,
        time: new Date(clock.now()).toISOString(),
        severity: 'warning',
        reason: 'EventUnreadable',
        message: `The gateway sent an event that the portal cannot keep: ${why}`,
      };
    }
    const { cluster, ...rest } = parsed.data;
    return cluster === undefined || own.has(cluster) ? parsed.data : rest;
  }
}

async function lastSeq(db: PortalDb, gatewayId: string): Promise<number> {
  const row = await db
    .selectFrom('gateways')
    .select('last_event_seq')
    .where('id', '=', gatewayId)
    .executeTakeFirst();
  return row?.last_event_seq ?? 0;
}

async function ownClusters(tx: PortalTx, gatewayId: string, events: readonly Event[]): Promise<Set<string>> {
  const named = [...new Set(events.map((event) => event.cluster).filter((id) => typeof id === 'string'))];
  const own = new Set<string>();
  for (let at = 0; at < named.length; at += ROWS_PER_STATEMENT) {
    const rows = await tx
      .selectFrom('clusters')
      .select('id')
      .where('gateway_id', '=', gatewayId)
      .where('id', 'in', named.slice(at, at + ROWS_PER_STATEMENT))
      .execute();
    for (const row of rows) own.add(row.id);
  }
  return own;
}

async function documentIsThere(tx: PortalTx, gatewayId: string, id: string): Promise<boolean> {
  const row = await tx
    .selectFrom('documents')
    .select('spec')
    .where('gateway_id', '=', gatewayId)
    .where('kind', '=', 'cluster')
    .where('id', '=', id)
    .executeTakeFirst();
  return row !== undefined && row.spec !== null;
}

function firstIssue(error: { issues: readonly { path: PropertyKey[]; message: string }[] }): string {
  const issue = error.issues[0];
  return issue ? `${issue.path.map(String).join('.')}: ${issue.message}` : describeError(error);
}
