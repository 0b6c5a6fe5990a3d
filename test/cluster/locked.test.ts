/** Operators lock machines in MAAS, which then refuses every change with a 403 without a word. */
import { describe, expect, it } from 'vitest';
import { ANNOTATION } from '../../src/cluster/ownership.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const never = new AbortController().signal;

const placement = { resourcePool: 'kubernetes' };
const DOCUMENT = document({
  spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: 1, placement }] }),
});
const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;
const HOURS = { withinMs: 2 * 3_600_000 };

describe('a locked machine', () => {
  it('holds a delete up, says so and how to go on, and is released when it is unlocked', async () => {
    await using site = await SimulatedSite.start({ speed: 1, light: true });
    await site.want(DOCUMENT);
    const running = await site.phase('Running', HOURS);
    const machine = site.simulator.region.machines.get(running.nodes[0]?.systemId ?? '');
    if (!machine) throw new Error('the status names no machine of MAAS');
    machine.locked = true;
    await site.want({ ...DOCUMENT, intent: DELETE });
    const held = await site.until(
      'told why the machine is not released',
      ({ nodes }) => nodes.some(({ tasks }) => tasks.some((task) => task.error?.code === 'RELEASE_FAILED')),
      HOURS,
    );
    expect(held.phase).toBe('Deleting');
    const problem = held.nodes.flatMap(({ tasks }) => tasks).find(({ error }) => error !== undefined)?.error;
    expect(problem).toMatchObject({ retryable: true, fix: `Unlock ${machine.hostname} in MAAS.` });
    expect(machine).toMatchObject({ status: 'deployed', locked: true });

    machine.locked = false;
    await site.phase('Deleted', HOURS);
    expect(site.simulator.ledger.leaked()).toEqual([]);
  });

  it('is an orphan that cannot be released, which is no matter of rights', async () => {
    await using site = await SimulatedSite.start({ speed: 1, light: true });
    const machine = [...site.simulator.region.machines.values()].find(({ status }) => status === 'ready');
    if (!machine) throw new Error('no machine is Ready');
    Object.assign(machine, { status: 'deployed', owner: 'admin', locked: true });
    const stamp = { gateway: 'gw-one', cluster: 'cl-gone', node: 'n1', operation: 'op1' } as const;
    for (const part of ['gateway', 'cluster', 'node', 'operation'] as const)
      machine.ownerData.set(ANNOTATION[part], stamp[part]);
    const release = () => site.engine.releaseOrphan('ca-one', machine.systemId, never);
    await expect(release()).rejects.toMatchObject({
      code: 'RELEASE_FAILED',
      fix: `Unlock ${machine.hostname} in MAAS.`,
    });
    machine.locked = false;
    expect(await release()).toBe('released');
  });

  it('without a record here holds no other one up, and is not said to be given back while it is not', async () => {
    const site = new FakeSite(14);
    {
      await using first = new EngineHarness(site);
      await first.want(document());
      await first.phase('Running');
    }
    const [systemId = ''] = site.owned();
    site.set(systemId, { locked: true });
    await using harness = new EngineHarness(site); // the same site, empty records
    await harness.want(document({ intent: DELETE }));
    await harness.until('rid of all others', () => site.owned().length === 1);
    await harness.pause(100);
    const givenBack = async () =>
      (await harness.outbox.recentEvents({}, 200))
        .filter(({ reason }) => reason === 'StrayReleased')
        .map(({ machine }) => machine);
    expect(site.owned()).toEqual([systemId]);
    expect(await givenBack()).not.toContain(systemId);
    site.set(systemId, { locked: false });
    await harness.phase('Deleted');
    expect(await givenBack()).toContain(systemId);
    expect(site.owned()).toEqual([]);
  });

  it('that dies is not switched off against the lock; why is said, and another machine takes over', async () => {
    await using site = await SimulatedSite.start({ speed: 200, timings: { powerCycleMs: 2500 } });
    const spec = clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 1, placement },
        { role: 'worker', name: 'w', size: 2, placement },
      ],
      policies: { remediation: { unhealthyAfterSeconds: 60 } },
    });
    await site.want(document({ spec }));
    const { nodes } = await site.phase('Running');
    const victim = nodes.find(({ role }) => role === 'worker');
    const machine = site.simulator.region.machines.get(victim?.systemId ?? '');
    if (!machine) throw new Error('the status names no machine of MAAS');
    machine.locked = true;
    site.simulator.faults.add(parseFault(`node-dies:1@${victim?.hostname}`));
    await site.until('another machine in its place', (status) =>
      status.nodes.some(({ name, phase }) => phase === 'Ready' && !nodes.some((node) => node.name === name)),
    );
    const failed = (await site.outbox.recentEvents({}, 300)).filter(({ reason }) => reason === 'StepFailed');
    expect(failed.map(({ error }) => error)).toContainEqual(
      expect.objectContaining({ code: 'MAAS_WRONG_STATE', fix: `Unlock ${machine.hostname} in MAAS.` }),
    );
    expect(machine).toMatchObject({ status: 'deployed', locked: true });
  });
});
