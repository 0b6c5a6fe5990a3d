/** A machine that really runs out: of file descriptors (a limit of the kernel) and of disk (a full file system). */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createSyncPort } from '../../src/agent/sync.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../../src/store/sqlite.ts';
import { OUTBOX_SCHEMA, SqliteOutbox } from '../../src/store/sqlite-outbox.ts';
import { collect } from '../support/collect.ts';
import type { GatewayStore } from '../support/tunnel-pair.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { tcpServer } from '../support/wire.ts';

describe('file descriptors', () => {
  it('78: a dial without a descriptor is BUSY, the session lives, and freed ones are used', async () => {
    await using echo = await tcpServer((socket) => void socket.pipe(socket));
    const at = (path: string): string => new URL(path, import.meta.url).href;
    const script = `
      import { startGateway, startPortal, readAll } from '${at('../support/tunnel-pair.ts')}';
      import { createTcpTarget } from '${at('../../src/tunnel/tcp-target.ts')}';
      import { unhurriedClock } from '${at('../support/unhurried-clock.ts')}';
      const dial = createTcpTarget({
        allow: ['127.0.0.1:*'], allowAddressesForTests: ['127.0.0.1'], clock: unhurriedClock,
      });
      const portal = await startPortal();
      const gateway = startGateway(portal, { targets: (open, signal) => dial(open.target, signal) });
      await gateway.connected();
      const tunnel = portal.server.roster.tunnel(gateway.id);
      const open = () => tunnel.open({ target: 'tcp:127.0.0.1:${echo.port}' });
      const streams = [];
      const codes = [];
      for (let n = 0; n < 100; n += 1)
        await open().then((stream) => streams.push(stream), (error) => codes.push(error.code));
      const opened = streams.length;
      for (const stream of streams.splice(0, 10)) stream.destroy();
      let again;
      while (again === undefined) again = await open().catch(() => unhurriedClock.sleep(10));
      again.end('recovered');
      const said = String(await readAll(again));
      // those that were there all the time still work
      streams[0].end('alive');
      const alive = String(await readAll(streams[0]));
      const { epoch, attached } = portal.server.roster.get(gateway.id);
      process.stdout.write(JSON.stringify({ opened, codes, said, alive, epoch, attached }), () => process.exit(0));`;
    const child = spawn(
      'sh',
      [
        '-c',
        'ulimit -n 64 && exec "$0" "$@"',
        process.execPath,
        '--no-warnings',
        '--input-type=module',
        '-e',
        script,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const found = JSON.parse(String(await collect(child.stdout))) as Record<string, unknown> & {
      opened: number;
      codes: string[];
    };
    expect(found).toMatchObject({ said: 'recovered', alive: 'alive', epoch: 1, attached: true });
    expect(found.opened).toBeGreaterThan(5);
    expect(found.codes.length).toBe(100 - found.opened);
    expect(new Set(found.codes)).toEqual(new Set(['ERR_TUNNEL_BUSY']));
  });
});

const root = process.getuid?.() === 0;

describe.skipIf(!root && !process.env['CI'])(
  root ? 'disk' : 'disk [SKIPPED: mounting a small file system needs root]',
  () => {
    it('78: a full disk holds a document back until there is room, and neither loses nor doubles it', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'pcg-full-'));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]);
      try {
        using file = SqliteFile.open(join(directory, 'agent.db'), [...RECORDS_SCHEMA, ...OUTBOX_SCHEMA]);
        const changed: string[] = [];
        const store = createSyncPort({
          records: new SqliteRecords(file),
          outbox: new SqliteOutbox(file, systemClock),
          log: silentLog,
          documentChanged: (_kind, id) => void changed.push(id),
          current: () => {},
        });
        await using portal = await startPortal();
        await using gateway = startGateway(portal, { store: store as unknown as GatewayStore });
        await gateway.connected();
        const wanted = portal.storeOf('gw-1');
        const filler = join(directory, 'filler');
        fill(filler, directory);
        for (let n = 0; n < 20; n += 1) wanted.want('cluster', `cl-${n}`, 1, null);
        await systemClock.sleep(3_000);
        const early = wanted.acknowledged.length;
        expect(early).toBeLessThan(20);
        expect(new Set(wanted.acknowledged.map(({ outcome }) => outcome))).not.toContain('stale');
        // nothing else notices
        const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
        stream.end('alive');
        expect((await readAll(stream)).toString()).toBe('alive');
        rmSync(filler);
        await until(() => wanted.acknowledged.length === 20);
        expect(wanted.acknowledged.every(({ outcome }) => outcome === 'applied')).toBe(true);
        expect(changed.toSorted()).toEqual(Array.from({ length: 20 }, (_, n) => `cl-${n}`).toSorted());
        expect(await store.known()).toHaveLength(20);
        expect(portal.server.roster.get('gw-1')?.epoch).toBe(1);
      } finally {
        execFileSync('umount', [directory]);
        rmdirSync(directory);
      }
    });
  },
);

/** Takes all the room that is left. */
function fill(path: string, directory: string): void {
  const { bavail, bsize } = statfsSync(directory);
  writeFileSync(path, Buffer.alloc(bavail * bsize));
}
