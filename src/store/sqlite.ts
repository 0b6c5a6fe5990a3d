/**
 * The one door to SQLite (node:sqlite) and the embedded implementation of `Records`.
 * WAL with synchronous=FULL: when a write returns it survives a power cut. A file that fails its integrity
 * check is set aside and reported, never silently recreated over.
 */
import { accessSync, chmodSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { PcgError } from '../base/errors.ts';
import { makeDirectory } from './directory.ts';
import type { Records, StoredRecord } from './records.ts';

/** How long a writer waits for another process's lock before it fails, milliseconds. */
const BUSY_TIMEOUT_MS = 5_000;
/** SQLite's primary result code of a lock that another connection holds. */
const SQLITE_BUSY = 5;

/** An open database file with cached statements. */
export class SqliteFile implements Disposable {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #depth = 0;

  private constructor(path: string, database: DatabaseSync) {
    this.path = path;
    this.#database = database;
  }

  /** Opens or creates the file (0600) and brings it to `schema`, a list of idempotent statements. */
  static open(path: string, schema: readonly string[]): SqliteFile {
    try {
      if (path !== ':memory:') makeDirectory(dirname(path));
      const isNew = path !== ':memory:' && !existsSync(path);
      const database = new DatabaseSync(path);
      if (isNew) chmodSync(path, 0o600);
      database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
      database.exec('PRAGMA journal_mode = WAL');
      database.exec('PRAGMA synchronous = FULL');
      const check = database.prepare('PRAGMA quick_check(1)').get();
      if (check?.['quick_check'] !== 'ok') {
        database.close();
        throw new PcgError(
          'STORAGE_FAILED',
          `the database ${path} is damaged: ${String(check?.['quick_check'])}`,
          {
            fix: 'Restore it from a backup, or move it away: clusters are found again by their marks in MAAS.',
            retryable: false,
          },
        );
      }
      for (const statement of schema) database.exec(statement);
      return new SqliteFile(path, database);
    } catch (error) {
      throw storageError(path, error);
    }
  }

  run(sql: string, ...values: SQLInputValue[]): { changes: number } {
    return this.#guard(() => ({ changes: Number(this.#prepare(sql).run(...values).changes) }));
  }

  get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#guard(() => this.#prepare(sql).get(...values) as Row | undefined);
  }

  all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#guard(() => this.#prepare(sql).all(...values) as Row[]);
  }

  /** Runs `work` in one transaction (nested calls join it): all of it is on disk, or nothing. */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return work();
    return this.#guard(() => {
      this.#database.exec('BEGIN IMMEDIATE');
      this.#depth += 1;
      try {
        const result = work();
        this.#database.exec('COMMIT');
        return result;
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      } finally {
        this.#depth -= 1;
      }
    });
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw storageError(this.path, error);
    }
  }
}

/**
 * Makes sure that one process at a time works on a state directory. The operating system drops the lock with
 * the process, so kill -9 leaves nothing behind. Throws PcgError CONFLICT when another process holds it, STORAGE_FAILED
 * when the disk is to blame.
 */
export function acquireProcessLock(path: string, fix: string): Disposable {
  const database = openLockFile(path);
  try {
    database.exec('PRAGMA journal_mode = DELETE');
    database.exec('BEGIN EXCLUSIVE');
    // there SQLite begins without a lock
    if (isReadOnly(path)) throw new Error('no lock can be held');
  } catch (cause) {
    database.close();
    if (!isBusy(cause)) throw storageError(path, cause);
    throw new PcgError('CONFLICT', `another process works on ${dirname(path)}`, { fix, cause });
  }
  return { [Symbol.dispose]: () => database.close() };
}

function openLockFile(path: string): DatabaseSync {
  try {
    return new DatabaseSync(path);
  } catch (error) {
    throw storageError(path, error);
  }
}

function isBusy(error: unknown): boolean {
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) : 0;
  return (code & 0xff) === SQLITE_BUSY;
}

function storageError(path: string, error: unknown): unknown {
  if (error instanceof PcgError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const readOnly = isReadOnly(path);
  const why = readOnly ? `its file system is read-only (${reason})` : reason;
  return new PcgError('STORAGE_FAILED', `cannot use the database ${path}: ${why}`, {
    fix: readOnly ? READ_ONLY_FIX : undefined,
    cause: error,
  });
}

/** Linux makes a file system read-only when its disk fails. */
export const READ_ONLY_FIX =
  'Look for errors of the disk (`dmesg`), then mount the file system of the state directory writable again.';

/** SQLite itself says `unable to open` or `disk I/O error`. */
function isReadOnly(path: string): boolean {
  try {
    accessSync(dirname(path), constants.W_OK);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EROFS';
  }
}

export const RECORDS_SCHEMA: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS records (
     collection TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, revision INTEGER NOT NULL,
     PRIMARY KEY (collection, key)) WITHOUT ROWID`,
];

interface Row {
  key: string;
  value: string;
  revision: number;
}

/** Records in an open file. The file may hold other tables (the outbox), so that both share transactions. */
export class SqliteRecords implements Records {
  readonly #file: SqliteFile;
  readonly #listeners = new Map<string, Set<(key: string) => void>>();

  constructor(file: SqliteFile) {
    this.#file = file;
  }

  async get<T>(collection: string, key: string): Promise<StoredRecord<T> | undefined> {
    const row = this.#file.get<Row>(
      'SELECT key, value, revision FROM records WHERE collection = ? AND key = ?',
      collection,
      key,
    );
    return row && decode<T>(row);
  }

  async put<T>(
    collection: string,
    key: string,
    value: T,
    options: { ifRevision?: number } = {},
  ): Promise<number> {
    const revision = this.#file.transaction(() => {
      const current =
        this.#file.get<{ revision: number }>(
          'SELECT revision FROM records WHERE collection = ? AND key = ?',
          collection,
          key,
        )?.revision ?? 0;
      if (options.ifRevision !== undefined && options.ifRevision !== current) {
        throw new PcgError(
          'CONFLICT',
          `${collection}/${key} is at revision ${current}, not ${options.ifRevision}`,
        );
      }
      this.#file.run(
        `INSERT INTO records (collection, key, value, revision) VALUES (?, ?, ?, ?)
         ON CONFLICT (collection, key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
        collection,
        key,
        JSON.stringify(value),
        current + 1,
      );
      return current + 1;
    });
    this.#announce(collection, key);
    return revision;
  }

  async delete(collection: string, key: string): Promise<boolean> {
    const { changes } = this.#file.run(
      'DELETE FROM records WHERE collection = ? AND key = ?',
      collection,
      key,
    );
    if (changes > 0) this.#announce(collection, key);
    return changes > 0;
  }

  async list<T>(collection: string): Promise<StoredRecord<T>[]> {
    return this.#file
      .all<Row>('SELECT key, value, revision FROM records WHERE collection = ? ORDER BY key', collection)
      .map((row) => decode<T>(row));
  }

  watch(collection: string, listener: (key: string) => void): Disposable {
    const listeners = this.#listeners.get(collection) ?? new Set();
    this.#listeners.set(collection, listeners);
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  #announce(collection: string, key: string): void {
    for (const listener of this.#listeners.get(collection) ?? []) listener(key);
  }
}

function decode<T>(row: Row): StoredRecord<T> {
  return { key: row.key, value: JSON.parse(row.value) as T, revision: row.revision };
}
