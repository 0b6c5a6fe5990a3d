/** Control planes that let nobody become Ready, on the simulator: no machine is blamed for it, and every delete ends. */
import { describe, expect, it } from 'vitest';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { leaks, NO_LEAKS } from '../support/invariants.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { deployWeb, inside, webPods } from '../support/workload.ts';

const placement = { resourcePool: 'kubernetes' };
const document = (workers: number, control: 1 | 3 = 1) =>
  wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: control, placement },
        { role: 'worker', name: 'workers', size: workers, placement },
      ],
    }),
  });
const condition = (status: ClusterStatus, type: string) =>
  status.conditions.find((candidate) => candidate.type === type);
const configMap = (name: string) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default' },
});

async function running(workers: number) {
  const site = await SimulatedSite.start({ speed: 200 });
  await site.want(document(workers));
  await site.phase('Running');
  return site;
}

async function gone(site: SimulatedSite, workers: number, control: 1 | 3 = 1) {
  const requestedAt = new Date(site.clock.now()).toISOString();
  await site.want({
    ...document(workers, control),
    intent: { kind: 'delete', requestedAt, reason: 'delete' },
  });
  await site.phase('Deleted');
  expect(leaks(site)).toEqual(NO_LEAKS);
}

/** Three nodes are Ready on the machines that were there before, and none was blamed. Returns the reasons of all events. */
async function recovered(site: SimulatedSite, before: ClusterStatus): Promise<string[]> {
  const whole = await site.until(
    'three nodes',
    ({ phase, nodes }) =>
      phase === 'Running' && nodes.length === 3 && nodes.every((node) => node.phase === 'Ready'),
  );
  expect(whole.nodes.map(({ systemId }) => systemId).sort()).toEqual(
    before.nodes.map(({ systemId }) => systemId).sort(),
  );
  const said = (await site.outbox.recentEvents({}, 500)).map(({ reason }) => reason);
  expect(said).not.toContain('MachineFailed');
  return said;
}

describe('the double of a full etcd', () => {
  it('takes nothing new, tells and deletes what it has, and loses who must renew a lease', async () => {
    await using site = await running(1);
    const { core, controlPlanes } = inside(site);
    core.ensure(R.configmaps, configMap('before'));
    site.simulator.faults.replace([parseFault('etcd-nospace')]);
    const type = core.type(R.configmaps);
    const refused = expect.objectContaining({
      code: 500,
      message: 'etcdserver: mvcc: database space exceeded',
    });
    const thrown = (work: () => unknown): unknown => {
      try {
        work();
      } catch (error) {
        return error;
      }
      return 'taken';
    };
    expect(thrown(() => core.ensure(R.configmaps, configMap('after')))).toEqual(refused);
    const edit = () =>
      core.edit(R.configmaps, configMap('before').metadata, (draft) => (draft['data'] = { a: '1' }));
    expect(thrown(edit)).toEqual(refused);
    expect(core.objects.get(type, 'default', 'before').metadata.name).toBe('before');
    expect(core.objects.delete(type, 'default', 'before', {})).toHaveProperty('gone');
    const vip = () => [...controlPlanes.values()].some(({ virtualAddress }) => virtualAddress !== undefined);
    await site.until('without its endpoint', (now) => condition(now, 'Available')?.status === 'False');
    expect(vip()).toBe(false);
    // What runs is not touched by it, and nobody calls the nodes silent: nobody could write that.
    await site.clock.sleep(20_000);
    expect(core.store.list(R.nodes).flatMap(({ status }) => status?.conditions ?? [])).not.toContainEqual(
      expect.objectContaining({ status: 'Unknown' }),
    );
    site.simulator.faults.replace([]);
    await site.until('with it', (now) => condition(now, 'Available')?.status === 'True');
    expect(vip()).toBe(true);
    core.ensure(R.configmaps, configMap('after'));
  });
});

describe('a full etcd', () => {
  it('blames no machine that comes meanwhile, names itself, and lets all go on afterwards', async () => {
    await using site = await running(1);
    site.simulator.faults.replace([parseFault('etcd-nospace')]);
    await site.until('told', (now) => condition(now, 'ControlPlaneReady')?.reason === 'Degraded');
    await site.want(document(2));
    const held = await site.until('a worker that waits for its cause', ({ nodes }) =>
      nodes.some(({ tasks }) =>
        tasks.some(({ error }) => error?.message.includes('etcd alarm NOSPACE') === true),
      ),
    );
    expect(held.nodes).toHaveLength(3);
    await site.clock.sleep(2 * site.timings.joinDeadlineMs);
    site.simulator.faults.replace([]);
    const said = await recovered(site, held);
    expect(said).not.toContain('NodeNotReady');
  });

  it.each(['etcd-nospace', 'etcd-corrupt', 'scheduler-crash-loops'])(
    'and whatever else is wrong with it (%s) stops no delete, in the middle of a scale-up too',
    async (fault) => {
      await using site = await running(1);
      site.simulator.faults.replace([parseFault(fault)]);
      await site.until('told', (now) => condition(now, 'ControlPlaneReady')?.reason === 'Degraded');
      await site.want(document(2, 3));
      await site.until('machines on their way', ({ nodes }) => nodes.length === 5);
      await gone(site, 2, 3);
    },
  );
});

describe('a control plane whose only scheduler crashes', () => {
  it('places nothing, and no machine is replaced because its pods never came', async () => {
    await using site = await running(1);
    site.simulator.faults.replace([parseFault('scheduler-crash-loops')]);
    await site.until('told', (now) => condition(now, 'ControlPlaneReady')?.reason === 'Degraded');
    deployWeb(site);
    await site.want(document(2));
    const joined = await site.until('a worker without a network', ({ nodes }) =>
      nodes.some(({ tasks }) =>
        tasks.some(({ name, finishedAt }) => name === 'node-ready' && finishedAt === undefined),
      ),
    );
    await site.clock.sleep(2 * site.timings.joinDeadlineMs);
    expect(webPods(site).map(({ spec }) => spec?.nodeName)).toEqual([undefined, undefined]);
    site.simulator.faults.replace([]);
    await recovered(site, joined);
    await gone(site, 2);
  });
});
