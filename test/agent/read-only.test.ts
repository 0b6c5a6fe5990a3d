/**
 * 41: a state directory whose file system is read-only: from the start, and all at once because its disk failed, as
 * ext4 does by itself. Both are the kernel's own doing, so they need root and mounts.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { startAgent } from '../../src/agent/agent.ts';
import { examine } from '../../src/agent/doctor.ts';
import { createSyncPort } from '../../src/agent/sync.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog, silentLog } from '../../src/base/log.ts';
import { AGENT_SETTINGS } from '../../src/config/agent-settings.ts';
import { loadSettings } from '../../src/config/settings.ts';
import {
  acquireProcessLock,
  READ_ONLY_FIX,
  RECORDS_SCHEMA,
  SqliteFile,
  SqliteRecords,
} from '../../src/store/sqlite.ts';
import { OUTBOX_SCHEMA, SqliteOutbox } from '../../src/store/sqlite-outbox.ts';
import type { GatewayStore } from '../support/tunnel-pair.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';

const root = process.getuid?.() === 0;
const SCHEMA = [...RECORDS_SCHEMA, ...OUTBOX_SCHEMA];

const startAt = (stateDir: string) =>
  startAgent({
    settings: loadSettings(AGENT_SETTINGS, {
      environment: { PCG_STATE_DIR: stateDir, PCG_LISTEN: '127.0.0.1:0' },
    }).values,
    clock: systemClock,
    log: silentLog,
    version: '0.0.0',
    hostname: 'host',
    environment: {},
  });

describe.skipIf(!root && !process.env['CI'])(
  root ? 'a read-only state directory' : 'a read-only state directory [SKIPPED: mounting needs root]',
  () => {
    it('41: is refused in words that say so, and everything is there when it is writable again', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'pcg-ro-'));
      const mount = (...options: string[]) => execFileSync('mount', [...options, directory]);
      mount('-t', 'tmpfs', '-o', 'size=16m', 'tmpfs');
      try {
        {
          await using _agent = await startAt(directory);
        }
        const path = join(directory, 'agent.db');
        {
          using file = SqliteFile.open(path, SCHEMA);
          await new SqliteRecords(file).put('documents', 'cluster/cl-1', { generation: 7, spec: null });
        }
        mount('-o', 'remount,ro');
        const readOnly = expect.objectContaining({
          code: 'STORAGE_FAILED',
          message: expect.stringContaining('read-only'),
          fix: READ_ONLY_FIX,
        });
        // SQLite itself would begin, without a lock
        expect(() => acquireProcessLock(join(directory, 'agent.lock'), '')).toThrowError(readOnly);
        expect(() => SqliteFile.open(path, SCHEMA)).toThrowError(readOnly);
        await expect(startAt(directory)).rejects.toEqual(readOnly);
        await expect(startAt(join(directory, 'deeper'))).rejects.toMatchObject({
          code: 'STORAGE_FAILED',
          message: expect.stringContaining('EROFS'),
        });
        const { checks } = await examine(
          {
            clock: systemClock,
            stateDir: directory,
            machineProxy: undefined,
            status: () => Promise.reject(new Error('not asked here')),
            accounts: () =>
              ({ list: () => [] }) as unknown as ReturnType<Parameters<typeof examine>[0]['accounts']>,
          },
          new AbortController().signal,
        );
        expect(checks.find(({ id }) => id === 'STORAGE_STATE_DIR')).toMatchObject({
          state: 'fail',
          code: 'STORAGE_FAILED',
          measured: expect.stringContaining('EROFS'),
          fix: READ_ONLY_FIX,
        });
        mount('-o', 'remount,rw');
        {
          using file = SqliteFile.open(path, SCHEMA);
          expect((await new SqliteRecords(file).get('documents', 'cluster/cl-1'))?.value).toMatchObject({
            generation: 7,
          });
        }
        await using _agent = await startAt(directory);
      } finally {
        execFileSync('umount', [directory]);
        rmSync(directory, { recursive: true });
      }
    });
  },
);

/** A small ext4 that the kernel makes read-only when told that its disk failed; undefined without loop devices. */
function failingDisk(): ({ at: string; fail(): void; repair(): void } & Disposable) | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'pcg-disk-'));
  const image = join(directory, 'image');
  const at = join(directory, 'at');
  mkdirSync(at);
  writeFileSync(image, Buffer.alloc(16 * 1024 * 1024));
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  const attached = spawnSync('losetup', ['--find', '--show', image], { encoding: 'utf8' });
  const device = attached.stdout?.trim();
  if (attached.status !== 0 || !/^\/dev\/loop\d+$/.test(device)) {
    rmSync(directory, { recursive: true });
    return undefined;
  }
  const mount = (): Buffer => execFileSync('mount', ['-o', 'errors=remount-ro', device, at]);
  mount();
  return {
    at,
    fail: () => writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, '1'),
    repair: () => {
      execFileSync('umount', [at]);
      // 1: it had errors and has none any more
      expect(spawnSync('e2fsck', ['-fy', device]).status).toBeLessThanOrEqual(1);
      mount();
    },
    [Symbol.dispose]: () => {
      execFileSync('umount', [at]);
      execFileSync('losetup', ['--detach', device]);
      rmSync(directory, { recursive: true });
    },
  };
}

const hasLoops = root && spawnSync('losetup', ['--find']).status === 0;

describe.skipIf(!hasLoops)(
  hasLoops ? 'a disk that fails' : 'a disk that fails [SKIPPED: needs root and a loop device]',
  () => {
    it('41: under a gateway that works: documents wait and are kept, and the next life stores each once', async () => {
      using disk = failingDisk();
      if (disk === undefined) throw new Error('no loop device, though there was one a moment ago');
      const heard: string[] = [];
      const log = createLog({
        name: 'agent',
        destination: { write: (line: string) => void heard.push(line) },
      });
      await using portal = await startPortal();
      const wanted = portal.storeOf('gw-1');
      const changed: string[] = [];
      /** One process of the gateway on that disk. */
      const life = async () => {
        const file = SqliteFile.open(join(disk.at, 'agent.db'), SCHEMA);
        const store = createSyncPort({
          records: new SqliteRecords(file),
          outbox: new SqliteOutbox(file, systemClock),
          log: silentLog,
          documentChanged: (_kind, id) => void changed.push(id),
          current: () => {},
        });
        const gateway = startGateway(portal, { store: store as unknown as GatewayStore, log });
        await gateway.connected();
        return {
          store,
          [Symbol.asyncDispose]: async () => {
            await gateway.stop();
            file[Symbol.dispose]();
          },
        };
      };
      {
        await using _first = await life();
        wanted.want('cluster', 'cl-0', 1, null);
        await until(() => wanted.acknowledged.length === 1);
        disk.fail();
        for (let n = 1; n <= 5; n += 1) wanted.want('cluster', `cl-${n}`, 1, null);
        // the alarm
        await until(() =>
          heard.some((line) => /document not stored/.test(line) && /STORAGE_FAILED/.test(line)),
        );
        const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
        stream.end('alive');
        expect((await readAll(stream)).toString()).toBe('alive');
        expect(wanted.acknowledged).toHaveLength(1);
        expect(changed).toEqual(['cl-0']);
      }
      disk.repair();
      await using second = await life();
      await until(() => wanted.acknowledged.length === 6);
      expect(wanted.acknowledged.map(({ outcome }) => outcome)).toEqual(Array(6).fill('applied'));
      expect(changed.toSorted()).toEqual(['cl-0', 'cl-1', 'cl-2', 'cl-3', 'cl-4', 'cl-5']);
      expect(await second.store.known()).toHaveLength(6);
    });
  },
);
