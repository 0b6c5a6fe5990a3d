/** Bad input: each gives a coded error that names the field and the fix, in CLI and API, and leaves nothing behind. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import type { ClusterSpecInput } from '../../src/contract/cluster.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { testPortal } from '../support/portal.ts';
import { Site } from '../support/site.ts';
import { bareEnvironment, ENTRY } from '../support/program.ts';

function pcg(args: string[], environment: Record<string, string>) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, ...args], {
    env: environment,
    encoding: 'utf8',
    timeout: 2 * GIVE_UP_MS,
  });
  return { status, stdout, stderr };
}

function run(
  args: string[],
  environment: Record<string, string>,
): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, [ENTRY, ...args], {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += String(chunk);
  });
  return new Promise((resolve) => void child.once('close', (code) => resolve({ code, stderr })));
}

describe('bad input to a running site', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.start({ speed: 200 });
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  const cases: [string, (spec: ClusterSpecInput) => ClusterSpecInput, { code: string; field: string }][] = [
    [
      'no machine that large',
      (spec) => resize(spec, { minCpu: 900 }),
      { code: 'NO_MATCHING_MACHINE', field: 'spec.pools[0]' },
    ],
    [
      'a pool that is too small',
      (spec) => ({
        ...spec,
        pools: spec.pools.map((pool) => (pool.role === 'worker' ? { ...pool, size: 500 } : pool)),
      }),
      { code: 'NOT_ENOUGH_MACHINES', field: 'spec.pools[1]' },
    ],
    [
      'a resource pool that does not exist',
      (spec) => resize(spec, { resourcePool: 'nowhere' }),
      { code: 'POOL_UNKNOWN', field: 'spec.pools[0].placement.resourcePool' },
    ],
    [
      'a zone that does not exist',
      (spec) => resize(spec, { zones: ['atlantis'] }),
      { code: 'ZONE_UNKNOWN', field: 'spec.pools[0].placement.zones[0]' },
    ],
    [
      'a domain that does not exist',
      (spec) => ({ ...spec, domain: 'nowhere.example' }),
      { code: 'DOMAIN_UNKNOWN', field: 'spec.domain' },
    ],
    [
      'pools that are no list',
      (spec) => ({ ...spec, pools: 'all' as never }),
      { code: 'INVALID_INPUT', field: 'spec.pools' },
    ],
    [
      'a field that nobody knows',
      (spec) => ({ ...spec, colour: 'red' }) as never,
      { code: 'INVALID_INPUT', field: 'spec.colour' },
    ],
    [
      'a cloud account that does not exist',
      (spec) => ({ ...spec, cloudAccount: 'ca-none' }),
      { code: 'NOT_FOUND', field: 'spec.cloudAccount' },
    ],
    [
      'two control-plane nodes',
      (spec) => ({
        ...spec,
        pools: spec.pools.map((pool) => (pool.role === 'control-plane' ? { ...pool, size: 2 as 1 } : pool)),
      }),
      { code: 'INVALID_INPUT', field: 'spec.pools[0].size' },
    ],
    [
      'a name that is no DNS label',
      (spec) => ({ ...spec, name: 'Not A Label' }),
      { code: 'INVALID_INPUT', field: 'spec.name' },
    ],
    [
      'a pod range over the machines',
      (spec) => ({ ...spec, network: { podCidr: '10.20.0.0/16' } }),
      { code: 'CIDR_OVERLAP', field: 'spec.network.podCidr' },
    ],
  ];

  it.each(cases)('refuses %s with a code and a fix', async (_title, change, expected) => {
    const before = await site.ledger();
    const error = await site.createCluster(change(site.spec())).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(PcgError);
    expect(error).toMatchObject(expected);
    expect((error as PcgError).fix.length).toBeGreaterThan(10);
    const after = await site.ledger();
    expect(after.leaked).toEqual(before.leaked);
    expect(
      await site.client.call('GET', '/api/v1/clusters', undefined, new AbortController().signal),
    ).toMatchObject({ items: [] });
  });

  it.each([
    ['a typing error', 'ABCDE-FGHJK-MNPQR', 'PAIRING_CODE_MALFORMED'],
    ['nothing at all', '-', 'PAIRING_CODE_MALFORMED'],
  ])('pcg pair with %s exits with 4 and the reason', (_title, code, expected) => {
    const result = pcg(['pair', '--portal-url', site.portalUrl], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/other`,
      PCG_PAIRING_CODE: code,
    });
    expect(result.status).toBe(4);
    expect(result.stderr).toContain(`Error ${expected}`);
    expect(result.stderr).toContain('fix:');
  });

  it('a code that another gateway has used is refused as used', async () => {
    const code = await site.pairingCode('second');
    const first = pcg(['pair', '--portal-url', site.portalUrl], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/first`,
      PCG_PAIRING_CODE: code,
    });
    expect(first.status, first.stderr).toBe(0);
    const again = pcg(['pair', '--portal-url', site.portalUrl], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/first`,
      PCG_PAIRING_CODE: code,
    });
    expect(again.status, again.stderr).toBe(0);
    const other = pcg(['pair', '--portal-url', site.portalUrl], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/third`,
      PCG_PAIRING_CODE: code,
    });
    expect(other.status).toBe(4);
    expect(other.stderr).toContain('Error PAIRING_CODE_USED');
  });

  it('a code of another portal is refused as unknown, and leaves no gateway', async () => {
    await using other = await testPortal();
    const { body } = await other.call('POST', '/api/v1/pairing-codes', { gatewayName: 'elsewhere' });
    const before = await gateways(site);
    const result = pcg(['pair', '--portal-url', site.portalUrl], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/wrong`,
      PCG_PAIRING_CODE: body.code,
    });
    expect(result.status).toBe(4);
    expect(result.stderr).toContain('Error PAIRING_CODE_UNKNOWN');
    expect(result.stderr).toContain('fix:');
    expect(await gateways(site)).toEqual(before);
  });

  it('a portal that is not there is exit code 6', async () => {
    const result = pcg(['pair', '--portal-url', 'http://127.0.0.1:1'], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/other`,
      PCG_PAIRING_CODE: await site.pairingCode('nobody'),
    });
    expect(result.status, result.stderr).toBe(6);
    expect(result.stderr).toContain('Error PORTAL_UNREACHABLE');
  });
});

describe('bad input to a portal a day later', () => {
  it('an expired code is refused as expired, and leaves no gateway', async () => {
    let skewMs = 0;
    await using portal = await testPortal({ clock: { ...systemClock, now: () => Date.now() + skewMs } });
    const { body } = await portal.call('POST', '/api/v1/pairing-codes', { gatewayName: 'late' });
    skewMs = 24 * 3_600_000 + 1;
    const state = mkdtempSync(join(tmpdir(), 'pcg-late-'));
    try {
      // Not spawnSync: the portal that is asked lives in this process.
      const result = await run(['pair', '--portal-url', portal.url], {
        ...bareEnvironment(),
        PCG_STATE_DIR: state,
        PCG_PAIRING_CODE: body.code,
      });
      expect(result.code).toBe(4);
      expect(result.stderr).toContain('Error PAIRING_CODE_EXPIRED');
      expect(result.stderr).toContain('fix:');
      skewMs = 0;
      expect((await portal.call('GET', '/api/v1/gateways')).body.items).toEqual([]);
    } finally {
      rmSync(state, { recursive: true, force: true });
    }
  });
});

describe('a MAAS that cannot be used', () => {
  const wrongKey = `${'a'.repeat(18)}:${'b'.repeat(18)}:${'c'.repeat(32)}`;

  it('is named with its field and the fix, in API and CLI, and no cluster stays behind', async () => {
    await using site = await Site.withoutAgent({ speed: 200 });
    await site.pair();
    await site.startAgent({ PCG_MAAS_API_KEY: wrongKey });
    await site.waitForAccount();
    const refused = () =>
      site.createCluster().then(
        () => undefined,
        (reason: unknown) => reason,
      );
    expect(await refused()).toMatchObject({
      code: 'MAAS_UNAUTHORIZED',
      field: 'spec.cloudAccount',
      fix: expect.stringContaining('key'),
    });
    const status = pcg(['status'], site.environment());
    expect(status.stdout).toContain('MAAS_UNAUTHORIZED');
    const [gateway] = await gateways(site);
    const account = { name: 'second', gateway: gateway?.id, endpoint: site.maasUrl, apiKey: wrongKey };
    await expect(site.call('POST', '/api/v1/cloud-accounts', account)).rejects.toMatchObject({
      code: 'MAAS_UNAUTHORIZED',
      field: 'apiKey',
    });

    await site.killAgent();
    await site.startAgent();
    site.simulator.kill('SIGKILL');
    await site.simulator.exited;
    expect(await refused()).toMatchObject({
      code: 'MAAS_UNREACHABLE',
      field: 'spec.cloudAccount',
      fix: expect.stringContaining('endpoint'),
    });
    await expect(site.call('POST', '/api/v1/cloud-accounts', account)).rejects.toMatchObject({
      code: 'MAAS_UNREACHABLE',
      field: 'endpoint',
    });
    expect(await site.call('GET', '/api/v1/clusters')).toMatchObject({ items: [] });
    expect(await site.call('GET', '/api/v1/cloud-accounts')).toMatchObject({ items: [{ default: true }] });
  });
});

const gateways = async (site: Site) =>
  ((await site.call('GET', '/api/v1/gateways')) as { items: { id: string; name: string }[] }).items.map(
    ({ id, name }) => ({ id, name }),
  );

function resize(spec: ClusterSpecInput, placement: Record<string, unknown>): ClusterSpecInput {
  return {
    ...spec,
    pools: spec.pools.map((pool) => ({ ...pool, placement: { ...pool.placement, ...placement } })),
  };
}
