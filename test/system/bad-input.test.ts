/** Bad input: each gives a coded error that names the field and the fix, in CLI and API, and leaves nothing behind. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import type { ClusterSpecInput } from '../../src/contract/cluster.ts';
import { Site } from '../support/site.ts';

const ENTRY = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

function pcg(args: string[], environment: Record<string, string>) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, ...args], {
    env: environment,
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status, stdout, stderr };
}

describe('bad input to a running site', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.start({ speed: 200 });
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  const cases: [string, (spec: ClusterSpecInput) => ClusterSpecInput, { code: string; field?: string }][] = [
    ['no machine that large', (spec) => resize(spec, { minCpu: 900 }), { code: 'NO_MATCHING_MACHINE' }],
    [
      'a pool that is too small',
      (spec) => ({
        ...spec,
        pools: spec.pools.map((pool) => (pool.role === 'worker' ? { ...pool, size: 500 } : pool)),
      }),
      { code: 'NOT_ENOUGH_MACHINES' },
    ],
    [
      'a resource pool that does not exist',
      (spec) => resize(spec, { resourcePool: 'nowhere' }),
      { code: 'POOL_UNKNOWN' },
    ],
    ['a zone that does not exist', (spec) => resize(spec, { zones: ['atlantis'] }), { code: 'ZONE_UNKNOWN' }],
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
      { code: 'CIDR_OVERLAP' },
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

  it('a portal that is not there is exit code 6', () => {
    const result = pcg(['pair', '--portal-url', 'http://127.0.0.1:1'], {
      ...site.environment(),
      PCG_STATE_DIR: `${site.directory}/other`,
      PCG_PAIRING_CODE: 'ABCDE-FGHJK-MNPQR',
    });
    expect([4, 6]).toContain(result.status);
  });
});

function resize(spec: ClusterSpecInput, placement: Record<string, unknown>): ClusterSpecInput {
  return {
    ...spec,
    pools: spec.pools.map((pool) => ({ ...pool, placement: { ...pool.placement, ...placement } })),
  };
}
