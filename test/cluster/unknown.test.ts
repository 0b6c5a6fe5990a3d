/** What nobody answers for is Unknown, never the last good value; and nothing is done about it. */
import { describe, expect, it } from 'vitest';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';

const state = (status: ClusterStatus, name: string) => status.conditions.find(({ type }) => type === name);
const unknown = (status: ClusterStatus) =>
  status.conditions.flatMap(({ type, status: value }) => (value === 'Unknown' ? [type] : [])).sort();

async function running() {
  const site = new FakeSite(8);
  const harness = new EngineHarness(site);
  await harness.want(document());
  const status = await harness.phase('Running');
  return { site, harness, status };
}

describe('a running cluster', () => {
  it('whose MAAS is away says so of its machines alone, once the last word is old', async () => {
    const { site, harness, status } = await running();
    await using _harness = harness;
    site.faults.maasDown = () => true;
    const away = await harness.until('unknown machines', (now) => unknown(now).length > 0);
    expect(unknown(away)).toEqual(['InfrastructureReady', 'MachinesAllocated']);
    expect(state(away, 'InfrastructureReady')).toMatchObject({
      reason: 'Stale',
      message: expect.stringContaining('last read'),
    });
    expect(state(away, 'Available')?.status).toBe('True');
    expect(away.phase).toBe('Running');
    expect(site.clock.now() - Date.parse(away.observedAt)).toBeLessThan(5_000);
    site.faults.maasDown = () => false;
    const back = await harness.until('known again', (now) => unknown(now).length === 0);
    expect(back.nodes.map(({ systemId }) => systemId)).toEqual(status.nodes.map(({ systemId }) => systemId));
    expect(site.violations).toEqual([]);
  });

  it('whose API server is silent is Unknown after a while, node by node, and keeps every machine', async () => {
    const { site, harness, status } = await running();
    await using _harness = harness;
    const [api] = site.apis.values();
    const control = status.nodes
      .filter(({ role }) => role === 'control-plane')
      .map(({ systemId = '' }) => systemId);
    for (const systemId of control) api?.stop(systemId);
    const silent = await harness.until('unreachable', (now) => state(now, 'Available')?.status === 'Unknown');
    expect(unknown(silent)).toEqual(['Available', 'ControlPlaneReady', 'NetworkReady', 'WorkersReady']);
    expect(state(silent, 'AddonsReady')?.reason).toBe('NotRequested');
    expect(silent.nodes.map(({ phase }) => phase)).toEqual(silent.nodes.map(() => 'Unknown'));
    const forgotten = await harness.phase('Unknown');
    expect(forgotten.error).toBeUndefined();
    await harness.pause(2_000);
    expect(site.owned()).toHaveLength(status.nodes.length);
    expect(site.violations).toEqual([]);
  });
});
