/** A store that cannot be written is told as such: with a code, a fix, and the promise that a retry can help. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import Fastify from 'fastify';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { Portal } from '../../src/portal/portal.ts';
import { createErrorHandler } from '../../src/portal/problem-reply.ts';
import { openStore } from '../../src/portal/store/open.ts';
import { migrations } from '../../src/portal/store/migrations.ts';

function thrownBy(work: (db: DatabaseSync) => void): unknown {
  using db = new DatabaseSync(':memory:');
  db.exec('CREATE TABLE t (v TEXT)');
  try {
    work(db);
  } catch (error) {
    return error;
  }
  throw new Error('SQLite did not complain');
}

const CASES: [string, () => unknown][] = [
  [
    'full',
    () =>
      thrownBy((db) => {
        db.exec('PRAGMA max_page_count = 2');
        for (let n = 0; n < 10; n += 1) db.prepare('INSERT INTO t VALUES (?)').run('x'.repeat(4000));
      }),
  ],
  [
    'read-only',
    () =>
      thrownBy((db) => {
        db.exec('PRAGMA query_only = 1');
        db.exec("INSERT INTO t VALUES ('x')");
      }),
  ],
  ['full (PostgreSQL)', () => Object.assign(new Error('could not extend file'), { code: '53100' })],
];

const url = (file: string) => JSON.stringify(new URL(`../../src/portal/store/${file}`, import.meta.url).href);
const KILLED_AT_THE_END_OF_A_STEP = `
  import { migrations } from ${url('migrations.ts')};
  import { openStore } from ${url('open.ts')};
  const [path, step] = process.argv.slice(1);
  const { up } = migrations[step];
  migrations[step].up = async (db) => {
    await up(db);
    process.kill(process.pid, 'SIGKILL');
  };
  await openStore({ kind: 'sqlite', path });
`;

describe("the portal's store", () => {
  it.each(CASES)('when %s is STORAGE_FAILED to the caller, never "internal error"', async (_title, fail) => {
    await using server = Fastify();
    server.setErrorHandler(createErrorHandler({ log: silentLog } as Portal));
    server.get('/', () => {
      throw fail();
    });
    const answer = await server.inject('/');
    expect(answer.statusCode).toBe(507);
    expect(answer.json()).toMatchObject({
      code: 'STORAGE_FAILED',
      retryable: true,
      fix: expect.stringContaining('space'),
    });
  });

  it.each(Object.keys(migrations))(
    'opens after kill -9 in the middle of what makes its tables (%s)',
    async (step) => {
      const directory = mkdtempSync(join(tmpdir(), 'pcg-store-'));
      try {
        const path = join(directory, 'portal.db');
        const { signal, stderr } = spawnSync(
          process.execPath,
          ['--input-type=module', '--eval', KILLED_AT_THE_END_OF_A_STEP, path, step],
          { encoding: 'utf8' },
        );
        expect({ signal, stderr }).toEqual({ signal: 'SIGKILL', stderr: '' });
        const db = await openStore({ kind: 'sqlite', path });
        expect(await db.selectFrom('clusters').select(['id', 'settled']).execute()).toEqual([]);
        await db.destroy();
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
  );
});
