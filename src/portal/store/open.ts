/**
 * Opens the portal's store and brings it to the newest schema. SQLite for one host, PostgreSQL for the
 * rest; everything above speaks Kysely and does not know which.
 */
import { Kysely, PostgresDialect } from 'kysely';
import { Migrator } from 'kysely/migration';
import { Pool, types } from 'pg';
import { describeError, PcgError } from '../../base/errors.ts';
import { migrations } from './migrations.ts';
import type { PortalDb, PortalTables } from './schema.ts';
import { nodeSqliteDialect } from './sqlite-dialect.ts';

export type StoreOptions =
  | { readonly kind: 'sqlite'; readonly path: string }
  | { readonly kind: 'postgres'; readonly url: string };

/** Connections to PostgreSQL; every query is short. */
const POOL_SIZE = 12;
/** SQLSTATE of a unique violation; SQLite's is an extended result code of SQLITE_CONSTRAINT. */
const PG_UNIQUE_VIOLATION = '23505';
const SQLITE_UNIQUE_CODES = [2067, 1555];

export async function openStore(options: StoreOptions): Promise<PortalDb> {
  const db = new Kysely<PortalTables>({ dialect: dialectFor(options) });
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) {
    await db.destroy();
    throw new PcgError(
      'STORAGE_FAILED',
      `the portal's ${options.kind} store could not be opened: ${describeError(error)}`,
      {
        field: 'store',
        ...(options.kind === 'postgres' && {
          fix: 'Check host, port, database, user and password of the address, and that PostgreSQL runs.',
        }),
        cause: error,
      },
    );
  }
  return db;
}

function dialectFor(options: StoreOptions) {
  if (options.kind === 'sqlite') {
    try {
      return nodeSqliteDialect(options.path);
    } catch (cause) {
      throw new PcgError('STORAGE_FAILED', `cannot open ${options.path}: ${describeError(cause)}`, {
        field: 'store',
        fix: 'Give a file in a directory that exists and that the portal may write.',
        cause,
      });
    }
  }
  const pool = new Pool({
    connectionString: options.url,
    max: POOL_SIZE,
    types: { getTypeParser: numbersForInt8 },
  });
  // An idle connection that the server closes must not end the process; the pool replaces it.
  pool.on('error', () => {});
  return new PostgresDialect({ pool });
}

/** Counts and times are far below 2^53, so int8 is read as a number. */
const numbersForInt8: typeof types.getTypeParser = (
  oid: (typeof types.builtins)['INT8'],
  format?: unknown,
) => (oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format as 'text'));

/** Did this write lose against a unique constraint? */
export function isUniqueViolation(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, errcode } = error as { code?: unknown; errcode?: unknown };
  return (
    code === PG_UNIQUE_VIOLATION || (typeof errcode === 'number' && SQLITE_UNIQUE_CODES.includes(errcode))
  );
}

/** Primary result codes of SQLite: READONLY, IOERR, FULL, CANTOPEN. */
const SQLITE_STORAGE_CODES = [8, 10, 13, 14];
/** PostgreSQL: disk full, read-only transaction (a standby), and every I/O error (class 58). */
const PG_STORAGE_CODES = /^(53100|25006|58...)$/;

/** The disk or the rights of the store are at fault; room or rights given, the same request succeeds. */
export function isStorageFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, errcode } = error as { code?: unknown; errcode?: unknown };
  return (
    (typeof errcode === 'number' && SQLITE_STORAGE_CODES.includes(errcode & 0xff)) ||
    (typeof code === 'string' && PG_STORAGE_CODES.test(code))
  );
}
