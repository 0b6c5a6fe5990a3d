/** The gateway's state directory is lost or restored: never a second cluster beside the first one's machines. */
import { describe, expect, it } from 'vitest';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';

const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;

async function lostRecords(site: FakeSite): Promise<EngineHarness> {
  await using first = new EngineHarness(site);
  await first.want(document());
  await first.phase('Running');
  return new EngineHarness(site); // the same site, empty records
}

describe('records that were lost', () => {
  it('start no second cluster beside stamped machines, and say what to do', async () => {
    const site = new FakeSite(14);
    await using harness = await lostRecords(site);
    const before = site.owned().sort();
    const addresses = [...site.reserved.keys()];
    await harness.want(document());
    const failed = await harness.phase('Failed');
    expect(failed.error).toMatchObject({ code: 'CLUSTER_STATE_LOST', userFixable: true, retryable: false });
    expect(failed.error?.details?.['machines']).toHaveLength(6);
    await harness.pause(300);
    expect(site.owned().sort()).toEqual(before);
    expect([...site.reserved.keys()]).toEqual(addresses);
    const orphans = await harness.engine.orphans('ca-one', AbortSignal.timeout(5000));
    expect(orphans.map(({ systemId, releasable }) => [systemId, releasable]).sort()).toEqual(
      before.map((id) => [id, true]),
    );
  });

  it('and a delete releases the stamped machines and their address', async () => {
    const site = new FakeSite(14);
    await using harness = await lostRecords(site);
    await harness.want(document());
    await harness.phase('Failed');
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    expect(site.owned()).toEqual([]);
    expect([...site.reserved.keys()]).toEqual([]);
    expect(site.violations).toEqual([]);
  });

  it('a machine of another gateway or cluster is no reason to stop, and is never released', async () => {
    const site = new FakeSite(14);
    site.set('m0014', {
      owner: site.user,
      status: 'deployed',
      annotations: {
        'pcg-gateway': 'gw-two',
        'pcg-cluster': 'cl-demo',
        'pcg-node': 'x',
        'pcg-operation': 'y',
      },
    });
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    expect(site.owned()).toEqual(['m0014']);
  });

  it('of a restored directory that ends before the first machine was claimed refuse as well', async () => {
    const site = new FakeSite(14);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.until('endpoint', (status) => status.endpoint !== undefined);
    await harness.phase('Running');
    const stored = await harness.records.get<Record<string, unknown>>(COLLECTIONS.clusters, 'cl-demo');
    const { initializedAt: _initialized, ...rest } = stored?.value ?? {};
    harness.crash();
    await harness.pause(50);
    await using restored = new EngineHarness(site);
    await restored.records.put(COLLECTIONS.clusters, 'cl-demo', {
      ...rest,
      stage: { kind: 'provisioning', since: 1 },
      nodes: [],
    });
    await restored.want(document());
    const failed = await restored.phase('Failed');
    expect(failed.error?.code).toBe('CLUSTER_STATE_LOST');
    expect(site.owned()).toHaveLength(6);
  });
});
