/** The gateway's state directory is lost or restored: never a second cluster beside the first one's machines. */
import { describe, expect, it } from 'vitest';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';

const never = new AbortController().signal;

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
    const orphans = await harness.engine.orphans('ca-one', never);
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

  /** As a gateway that died between allocate and the annotations: only the agent name says whose it is. */
  async function halfTaken(site: FakeSite, systemId: string, gateway = 'gw-one'): Promise<void> {
    const agentName = `${gateway}.cl-demo.demo-w-x1.op1`;
    const comment = `pcg ${agentName} for cluster demo`;
    await site.client().machines.allocate({ agentName, comment, systemId }, never);
  }

  it('of a machine that has only its agent name are found again, and it is released on demand', async () => {
    const site = new FakeSite(4);
    await halfTaken(site, 'm0002');
    await halfTaken(site, 'm0003', 'gw-two');
    site.set('m0004', { owner: site.user, status: 'allocated' }); // by hand, with the same key
    await using harness = new EngineHarness(site);
    const orphans = await harness.engine.orphans('ca-one', never);
    expect(orphans.map(({ systemId, node, releasable }) => [systemId, node, releasable])).toEqual([
      ['m0002', 'demo-w-x1', true],
      ['m0004', '', false],
    ]);
    expect(await harness.engine.releaseOrphan('ca-one', 'm0003', never)).toBe('not-ours');
    expect(await harness.engine.releaseOrphan('ca-one', 'm0004', never)).toBe('not-ours');
    expect(await harness.engine.releaseOrphan('ca-one', 'm0002', never)).toBe('released');
    await harness.pause(100);
    expect(site.owned()).toEqual(['m0003', 'm0004']);
  });

  it('of a machine that was taken anew since its event say nothing: the agent name is asked of MAAS', async () => {
    const site = new FakeSite(2);
    await halfTaken(site, 'm0001');
    await site.client().machines.release('m0001', { erase: 'none', comment: '' }, never);
    await using harness = new EngineHarness(site);
    await harness.pause(100);
    site.set('m0001', { owner: site.user, status: 'allocated' }); // by hand; its event is that of the earlier life
    const orphans = await harness.engine.orphans('ca-one', never);
    expect(orphans.map(({ systemId, releasable }) => [systemId, releasable])).toEqual([['m0001', false]]);
  });

  it('stop a create and are released by a delete, also with nothing but agent names', async () => {
    const site = new FakeSite(14);
    await halfTaken(site, 'm0002');
    await using harness = new EngineHarness(site);
    await harness.want(document());
    expect((await harness.phase('Failed')).error?.code).toBe('CLUSTER_STATE_LOST');
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    expect(site.owned()).toEqual([]);
    expect(site.boxes.get('m0002')?.machine.status).toBe('ready');
  });

  it('never make an orphan of a machine that is claimed while the list is under way', async () => {
    const site = new FakeSite(14, { times: { callMs: 5 } });
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const hunting = new AbortController();
    const seen: string[] = [];
    const hunt = (async () => {
      while (!hunting.signal.aborted)
        for (const { systemId } of await harness.engine.orphans('ca-one', never)) seen.push(systemId);
    })();
    await harness.phase('Running');
    hunting.abort();
    await hunt;
    expect(seen).toEqual([]);
    expect(site.calls.get('list')).toBeGreaterThan(10);
  });
});
