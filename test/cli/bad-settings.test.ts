/** Settings and addresses that cannot work: the command ends at once, names the one that is wrong and says why. Real processes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import { startPortal } from '../../src/portal/server.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { bareEnvironment, ENTRY } from '../support/program.ts';

const KEY = `${'a'.repeat(18)}:${'b'.repeat(18)}:${'c'.repeat(32)}`;

function pcg(args: readonly string[], environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, ...args], {
    env: { ...bareEnvironment(), PCG_LISTEN: '', ...environment },
    encoding: 'utf8',
    timeout: 2 * GIVE_UP_MS,
    killSignal: 'SIGKILL',
  });
  return { status, stdout, stderr };
}

describe('settings that cannot work', () => {
  let directory: string;
  const taken = createServer();
  let port: number;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'pcg-bad-'));
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    ({ port } = taken.address() as AddressInfo);
  });
  afterAll(() => {
    taken.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it.each([
    ['listen', { PCG_LISTEN: 'everywhere' }, 'host:port'],
    ['pollIdleMs', { PCG_POLL_IDLE_MS: '-4' }, 'less than'],
    ['simulatedSpeed', { PCG_SIMULATED_SPEED: '0' }, 'less than 1'],
    ['logLevel', { PCG_LOG_LEVEL: 'loud' }, 'debug'],
    ['httpsProxy', { PCG_HTTPS_PROXY: 'ftp://proxy:21' }, 'http://'],
    ['caFile', { PCG_CA_FILE: '/nonexistent' }, 'cannot read'],
    ['caFile', { PCG_CA_FILE: ENTRY }, 'no certificate'],
    ['tcpTargets', { PCG_TCP_TARGETS: '10.0.0.0/33:80' }, 'not a network'],
    ['maasApiKey', { PCG_MAAS_URL: 'http://10.0.0.1:5240/MAAS' }, 'no API key'],
  ])('are refused before anything starts: %s %j', (field, environment, reason) => {
    for (const command of [
      ['config', 'validate'],
      ['agent', '--state-dir', join(directory, 'agent')],
    ]) {
      const { status, stderr } = pcg(command, environment);
      expect(stderr).toMatch(new RegExp(`Error BAD_CONFIG: .*${reason}.*\\n\\s+field: ${field}\\n\\s+fix:`));
      expect(status).toBe(78);
    }
  });

  it('include a MAAS key and address that no MAAS could have', () => {
    const url = { PCG_MAAS_URL: 'http://10.0.0.1:5240/MAAS' };
    expect(pcg(['config', 'validate'], { ...url, PCG_MAAS_API_KEY: 'a:b' })).toMatchObject({
      status: 78,
      stderr: expect.stringContaining('MAAS_KEY_INVALID'),
    });
    expect(
      pcg(['config', 'validate'], { PCG_MAAS_URL: 'http://u:p@10.0.0.1/MAAS', PCG_MAAS_API_KEY: KEY }),
    ).toMatchObject({ status: 78, stderr: expect.stringContaining('MAAS_URL_INVALID') });
    expect(pcg(['config', 'validate'], { ...url, PCG_MAAS_API_KEY: KEY })).toMatchObject({ status: 0 });
  });

  it('say what is wrong with a file that cannot be read', () => {
    const path = join(directory, 'broken.yaml');
    writeFileSync(path, 'listen: [1\n');
    expect(pcg(['config', 'validate', '-c', path]).stderr).toMatch(/broken\.yaml: .*line/);
    expect(pcg(['config', 'validate', '-c', '/nonexistent']).stderr).toContain('no such file');
  });

  it.each([
    ['port', () => ['portal', '--port', String(port), '--store', join(directory, 'p.db')]],
    ['port', () => ['simulate', '--port', String(port)]],
    ['proxy-port', () => ['simulate', '--port', '0', '--proxy-port', String(port)]],
    ['listen', () => ['agent', '--state-dir', join(directory, 'a'), '--listen', `127.0.0.1:${port}`]],
  ])('name the %s that another program has', (field, command) => {
    const { status, stderr } = pcg(command(), { PCG_ADMIN_PASSWORD: 'long enough for all' });
    expect(stderr).toMatch(
      new RegExp(
        `Error BAD_CONFIG: .*127.0.0.1:${port}: another program listens there\\n\\s+field: ${field}`,
      ),
    );
    expect(status).toBe(78);
  });

  it.each([
    [['portal', '--log-level', 'loud'], '--log-level'],
    [['portal', '--public-url', 'portal.example'], '--public-url'],
    [['portal', '--admin-email', 'root'], '--admin-email'],
    [['simulate', '--log-level', 'loud'], '--log-level'],
    [['simulate', '--port', '0', '--maas-version', '9.9'], '--maas-version'],
    [['help', 'exit-code'], 'exit-codes'],
    [['help', 'nothing-like-it'], 'nothing-like-it'],
  ])('%j ends with 2 and names %s', (command, named) => {
    const { status, stderr } = pcg(command);
    expect(stderr).toContain(named);
    expect(stderr).not.toContain('INTERNAL');
    expect(status).toBe(2);
  });

  it('never hang where no directory can be made, and name the directory', () => {
    for (const path of ['/proc/pcg/state', join(ENTRY, 'below-a-file')]) {
      const { status, stderr } = pcg(['agent', '--state-dir', path]);
      expect(stderr).toMatch(/Error STORAGE_FAILED: .*(\/proc\/pcg|main\.ts)/);
      expect(status).toBe(1);
    }
  });

  it('two portals on one SQLite store are refused, and the store is its owner\u2019s alone', async () => {
    const path = join(directory, 'portal.db');
    const start = () =>
      startPortal({
        host: '127.0.0.1',
        port: 0,
        store: { kind: 'sqlite', path },
        admin: { email: 'root@example.test', password: new Secret('long enough for all') },
        clock: systemClock,
        log: silentLog,
        page: false,
      });
    await using _first = await start();
    await expect(start()).rejects.toMatchObject({ code: 'CONFLICT', fix: expect.stringContaining('portal') });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
  });
});
