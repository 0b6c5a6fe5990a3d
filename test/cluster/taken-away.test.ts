/** Somebody deletes or releases a machine of a running cluster in MAAS: it is known within a minute and a bit. */
import { describe, expect, it } from 'vitest';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import { document as wanted } from '../support/engine.ts';
import { maasCaller } from '../support/maas-caller.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
const DOCUMENT = wanted({
  spec: clusterSpec({
    pools: [
      { role: 'control-plane', name: 'cp', size: 1, placement },
      { role: 'worker', name: 'w', size: 2, placement },
    ],
  }),
});
const MINUTE = 60_000;

const machinesOf = (status: ClusterStatus): string[] =>
  status.nodes.filter(({ role }) => role === 'worker').flatMap(({ systemId }) => systemId ?? []);

describe('a deployed machine that is taken away in MAAS', () => {
  it.each([
    ['deleted', 'DELETE', '', /machine of demo-w-\w+ as ours, although the node still runs/],
    ['released', 'POST', '?op=release', /machines are (no longer ours|allocated)/],
  ] as const)('and %s is noticed soon, with the cluster at rest', async (_how, method, op, words) => {
    await using site = await SimulatedSite.start({ speed: 1, light: true });
    await site.want(DOCUMENT);
    const running = await site.phase('Running', { withinMs: 120 * MINUTE });
    await site.clock.sleep(10 * MINUTE);
    const [systemId] = machinesOf(running);
    const admin = maasCaller(site.simulator.maasUrl, site.simulator.adminKey);
    const before = site.clock.monotonic();
    const { status } = await admin(method, `machines/${systemId}/${op}`);
    expect([200, 204]).toContain(status);
    const told = await site.until(
      'aware that the machine is not ours any more',
      ({ conditions }) =>
        conditions.some(({ type, status: state }) => type === 'MachinesAllocated' && state === 'False'),
      { withinMs: 20 * MINUTE },
    );
    expect(site.clock.monotonic() - before).toBeLessThan(75_000);
    const condition = told.conditions.find(({ type }) => type === 'MachinesAllocated');
    expect(condition?.message).toMatch(words);
  });
});
