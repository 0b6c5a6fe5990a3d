/**
 * Kysely over Node's own SQLite: a shim that gives `node:sqlite` the few methods that Kysely's dialect
 * wants. Statements are prepared once and kept; Kysely itself serialises use of the one connection.
 */
import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { SqliteAdapter, SqliteDialect, type SqliteStatement } from 'kysely';

/** Prepared statements kept; the portal has about 150 distinct ones, the rest are batch sizes. */
const STATEMENT_CACHE = 400;
/** Another process (a backup, `sqlite3`) may hold the lock this long. */
const BUSY_TIMEOUT_MS = 5_000;
const OWNER_ONLY = 0o600;

export function nodeSqliteDialect(path: string): SqliteDialect {
  if (path !== ':memory:') keepPrivate(path);
  const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
  // FULL: an acknowledged event is on disk, also when the power fails.
  if (path !== ':memory:') database.exec('pragma journal_mode = wal');
  database.exec('pragma synchronous = full');
  const cache = new Map<string, SqliteStatement>();
  return new AtomicDialect({
    database: {
      close: () => database.close(),
      prepare(sql) {
        const known = cache.get(sql);
        if (known) return known;
        const statement = adapt(database.prepare(sql));
        if (cache.size >= STATEMENT_CACHE) cache.delete(cache.keys().next().value as string);
        cache.set(sql, statement);
        return statement;
      },
    },
  });
}

/** SQLite takes changes of the schema back as any others, which Kysely's own dialect does not make use of. */
class AtomicAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** A portal that is killed while it makes its tables finds all of them at its next start, or none. */
class AtomicDialect extends SqliteDialect {
  override createAdapter(): SqliteAdapter {
    return new AtomicAdapter();
  }
}

/** It holds the portal's private keys and everybody's password hashes. SQLite gives its other files the same rights. */
function keepPrivate(path: string): void {
  closeSync(openSync(path, 'a', OWNER_ONLY));
  chmodSync(path, OWNER_ONLY);
}

function adapt(statement: StatementSync): SqliteStatement {
  const values = (parameters: ReadonlyArray<unknown>) => parameters as SQLInputValue[];
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...values(parameters)),
    run: (parameters) => statement.run(...values(parameters)),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  };
}
