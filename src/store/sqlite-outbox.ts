/**
 * The outbox in SQLite. Event numbers come from the table itself, so they have no gaps and survive crashes;
 * acknowledged events stay for local reading until the bound, unacknowledged ones are dropped last and counted.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import type { Event, EventDraft } from '../contract/events.ts';
import type { Outbox, Snapshot } from './outbox.ts';
import type { SqliteFile } from './sqlite.ts';

/** Unacknowledged events kept (tunnel.md section 6): a week offline replays facts, within bounds. */
const MAX_PENDING_EVENTS = 10_000;
/** Acknowledged events kept for `pcg clusters events` on the gateway. */
const MAX_LOCAL_EVENTS = 20_000;
/** Added to every revision after a restore: more than a store gives between two backups, far below 2^53. */
const LOST_REVISIONS = 1_000_000_000;

export const OUTBOX_SCHEMA: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS snapshots (
     kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, acknowledged INTEGER NOT NULL DEFAULT 0,
     status TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS events (
     seq INTEGER PRIMARY KEY, cluster TEXT, event TEXT NOT NULL)`,
  `CREATE INDEX IF NOT EXISTS events_cluster ON events (cluster, seq)`,
  `CREATE TABLE IF NOT EXISTS outbox_state (
     name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID`,
];

export class SqliteOutbox implements Outbox {
  readonly #file: SqliteFile;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();

  constructor(file: SqliteFile, clock: Clock) {
    this.#file = file;
    this.#clock = clock;
  }

  async putSnapshot(kind: string, id: string, status: unknown): Promise<void> {
    const text = JSON.stringify(status ?? null);
    const changed = this.#file.transaction(() => {
      const row = this.#file.get<{ revision: number; status: string }>(
        'SELECT revision, status FROM snapshots WHERE kind = ? AND id = ?',
        kind,
        id,
      );
      if (row && (row.status === text || isDeepStrictEqual(JSON.parse(row.status), JSON.parse(text))))
        return false;
      this.#file.run(
        `INSERT INTO snapshots (kind, id, revision, status) VALUES (?, ?, ?, ?)
         ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, status = excluded.status`,
        kind,
        id,
        (row?.revision ?? 0) + 1,
        text,
      );
      return true;
    });
    if (changed) this.#announce();
  }

  async appendEvent(draft: EventDraft): Promise<Event> {
    const event = this.#file.transaction(() => {
      const seq = this.#state('lastSeq') + 1;
      const written: Event = { ...draft, seq, time: new Date(this.#clock.now()).toISOString() };
      this.#setState('lastSeq', seq);
      this.#insert(written);
      this.#trim(seq);
      return written;
    });
    this.#announce();
    return event;
  }

  async pendingSnapshots(): Promise<Snapshot[]> {
    return this.#file
      .all<{ kind: string; id: string; revision: number; status: string }>(
        'SELECT kind, id, revision, status FROM snapshots WHERE acknowledged < revision ORDER BY kind, id',
      )
      .map((row) => ({
        kind: row.kind,
        id: row.id,
        revision: row.revision,
        status: JSON.parse(row.status) as unknown,
      }));
  }

  async pendingEvents(afterSeq: number, limit: number): Promise<Event[]> {
    return this.#events('SELECT event FROM events WHERE seq > ? ORDER BY seq LIMIT ?', afterSeq, limit);
  }

  async acknowledgeSnapshot(kind: string, id: string, revision: number): Promise<void> {
    this.#file.run(
      'UPDATE snapshots SET acknowledged = MAX(acknowledged, MIN(?, revision)) WHERE kind = ? AND id = ?',
      revision,
      kind,
      id,
    );
  }

  async acknowledgeEvents(seq: number): Promise<void> {
    const pendingAgain = this.#file.transaction(() => {
      const acknowledged = this.#state('acknowledged');
      const restored = seq > this.#state('lastSeq');
      if (restored) this.#renumberAfter(seq);
      else if (seq > acknowledged) this.#setState('acknowledged', seq);
      // The portal has lost what it had (or is another one): its snapshots are as old as its events.
      else if (seq < acknowledged) this.#file.run('UPDATE snapshots SET acknowledged = 0');
      return restored || seq < acknowledged;
    });
    if (pendingAgain) this.#announce();
  }

  async recentEvents(filter: { cluster?: string }, limit: number): Promise<Event[]> {
    const rows =
      filter.cluster === undefined
        ? this.#events('SELECT event FROM events ORDER BY seq DESC LIMIT ?', limit)
        : this.#events(
            'SELECT event FROM events WHERE cluster = ? ORDER BY seq DESC LIMIT ?',
            filter.cluster,
            limit,
          );
    return rows.reverse();
  }

  async unacknowledgedEvents(): Promise<number> {
    return this.#state('lastSeq') - this.#state('acknowledged');
  }

  async oldestUnacknowledgedAt(): Promise<number | undefined> {
    const [oldest] = await this.pendingEvents(this.#state('acknowledged'), 1);
    return oldest && Date.parse(oldest.time);
  }

  async droppedEvents(): Promise<number> {
    return this.#state('dropped');
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /**
   * The portal already holds numbers that this store never gave: the store was restored from a backup.
   * Pending events move behind the portal's newest, and snapshots behind every revision that it may have,
   * so that none is mistaken for a known or an older one.
   */
  #renumberAfter(portalSeq: number): void {
    const acknowledged = this.#state('acknowledged');
    const pending = this.#events('SELECT event FROM events WHERE seq > ? ORDER BY seq', acknowledged);
    this.#file.run('DELETE FROM events WHERE seq > ?', acknowledged);
    let seq = portalSeq;
    for (const event of pending) {
      seq += 1;
      this.#insert({ ...event, seq });
    }
    this.#setState('lastSeq', seq);
    this.#setState('acknowledged', portalSeq);
    this.#file.run('UPDATE snapshots SET revision = revision + ?', LOST_REVISIONS);
  }

  #insert(event: Event): void {
    this.#file.run(
      'INSERT INTO events (seq, cluster, event) VALUES (?, ?, ?)',
      event.seq,
      event.cluster ?? null,
      JSON.stringify(event),
    );
  }

  /** Drops what lies beyond the bounds. A dropped unacknowledged event is counted: never silent. */
  #trim(lastSeq: number): void {
    const acknowledged = this.#state('acknowledged');
    const oldestPending = Math.max(acknowledged, lastSeq - MAX_PENDING_EVENTS);
    const lost = oldestPending - acknowledged;
    if (lost > 0) {
      this.#setState('dropped', this.#state('dropped') + lost);
      this.#setState('acknowledged', oldestPending);
    }
    this.#file.run('DELETE FROM events WHERE seq <= ?', Math.min(oldestPending, lastSeq - MAX_LOCAL_EVENTS));
  }

  #events(sql: string, ...values: (string | number)[]): Event[] {
    return this.#file.all<{ event: string }>(sql, ...values).map((row) => JSON.parse(row.event) as Event);
  }

  #state(name: string): number {
    return (
      this.#file.get<{ value: number }>('SELECT value FROM outbox_state WHERE name = ?', name)?.value ?? 0
    );
  }

  #setState(name: string, value: number): void {
    this.#file.run(
      'INSERT INTO outbox_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
      name,
      value,
    );
  }

  #announce(): void {
    for (const listener of this.#listeners) listener();
  }
}
