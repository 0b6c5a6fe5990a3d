import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { acquireProcessLock, RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../../src/store/sqlite.ts';

function temporaryDirectory(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'pcg-store-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

describe('records in SQLite', () => {
  it('gives back what was put, with a revision that grows by one', async () => {
    using directory = temporaryDirectory();
    using file = SqliteFile.open(join(directory.path, 'state.db'), RECORDS_SCHEMA);
    const records = new SqliteRecords(file);
    expect(await records.put('clusters', 'a', { n: 1 })).toBe(1);
    expect(await records.put('clusters', 'a', { n: 2 })).toBe(2);
    expect(await records.get('clusters', 'a')).toEqual({ key: 'a', value: { n: 2 }, revision: 2 });
    expect(await records.get('other', 'a')).toBeUndefined();
  });

  it('refuses a write on another revision than the stored one and keeps the stored value', async () => {
    using file = SqliteFile.open(':memory:', RECORDS_SCHEMA);
    const records = new SqliteRecords(file);
    await records.put('clusters', 'a', 1, { ifRevision: 0 });
    await expect(records.put('clusters', 'a', 2, { ifRevision: 0 })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    await expect(records.put('clusters', 'a', 2, { ifRevision: 7 })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    expect((await records.get('clusters', 'a'))?.value).toBe(1);
  });

  it('tells watchers of the collection only, after the write', async () => {
    using file = SqliteFile.open(':memory:', RECORDS_SCHEMA);
    const records = new SqliteRecords(file);
    const heard: string[] = [];
    using _watch = records.watch('clusters', (key) => heard.push(key));
    await records.put('clusters', 'a', 1);
    await records.put('other', 'b', 1);
    expect(await records.delete('clusters', 'a')).toBe(true);
    expect(await records.delete('clusters', 'a')).toBe(false);
    expect(heard).toEqual(['a', 'a']);
  });

  it('creates the file readable by its owner only', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'deep', 'state.db');
    using _file = SqliteFile.open(path, RECORDS_SCHEMA);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('refuses a damaged file with a code and leaves it as it is', async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'state.db');
    {
      using file = SqliteFile.open(path, RECORDS_SCHEMA);
      const records = new SqliteRecords(file);
      for (let n = 0; n < 200; n += 1) await records.put('clusters', `k${n}`, 'x'.repeat(500));
    }
    const bytes = readFileSync(path);
    bytes.fill(0xaa, 4096 * 2, 4096 * 6);
    writeFileSync(path, bytes);
    expect(() => SqliteFile.open(path, RECORDS_SCHEMA)).toThrowError(
      expect.objectContaining({ code: 'STORAGE_FAILED' }),
    );
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it('rolls the whole transaction back when one part fails', async () => {
    using file = SqliteFile.open(':memory:', RECORDS_SCHEMA);
    const records = new SqliteRecords(file);
    expect(() =>
      file.transaction(() => {
        file.run("INSERT INTO records VALUES ('c', 'k', '1', 1)");
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(await records.list('c')).toEqual([]);
  });

  it('keeps every confirmed write through kill -9', async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'state.db');
    const script = `
      import { RECORDS_SCHEMA, SqliteFile, SqliteRecords } from ${JSON.stringify(join(import.meta.dirname, '../../src/store/sqlite.ts'))};
      const records = new SqliteRecords(SqliteFile.open(${JSON.stringify(path)}, RECORDS_SCHEMA));
      for (let n = 1; ; n += 1) { await records.put('c', 'n', n); process.stdout.write(n + '\\n'); }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let confirmed = 0;
    for await (const chunk of child.stdout) {
      const last = String(chunk).trim().split('\n').at(-1);
      confirmed = Math.max(confirmed, Number(last));
      if (confirmed > 50) break;
    }
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    using file = SqliteFile.open(path, RECORDS_SCHEMA);
    const stored = await new SqliteRecords(file).get<number>('c', 'n');
    expect(stored?.value).toBeGreaterThanOrEqual(confirmed);
  });

  it('lets one process work on a state directory, and the next one after it is gone', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'agent.lock');
    const lock = acquireProcessLock(path, 'Stop the other.');
    expect(() => acquireProcessLock(path, 'Stop the other.')).toThrowError(
      expect.objectContaining({ code: 'CONFLICT', fix: 'Stop the other.' }),
    );
    lock[Symbol.dispose]();
    acquireProcessLock(path, 'Stop the other.')[Symbol.dispose]();
  });
});
