/** Records and outbox on an in-memory SQLite database: the real code, no file. */
import { type Clock, systemClock } from '../../src/base/clock.ts';
import type { Outbox } from '../../src/store/outbox.ts';
import type { Records } from '../../src/store/records.ts';
import { RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../../src/store/sqlite.ts';
import { OUTBOX_SCHEMA, SqliteOutbox } from '../../src/store/sqlite-outbox.ts';

export function memoryRecords(): Records {
  return new SqliteRecords(SqliteFile.open(':memory:', RECORDS_SCHEMA));
}

export function memoryOutbox(clock: Clock = systemClock): Outbox {
  return new SqliteOutbox(SqliteFile.open(':memory:', OUTBOX_SCHEMA), clock);
}
