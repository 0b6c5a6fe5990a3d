/** Nodes that die under a running cluster, on the simulator: the ladder, its limits, and what is kept. */
import { describe, expect, it } from 'vitest';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import type { Policies } from '../../src/contract/policies.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { nothingLeft } from '../support/invariants.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };

function document(remediation: Partial<Policies['remediation']> = {}) {
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 3, placement },
        { role: 'worker', name: 'workers', size: 2, placement },
      ],
      policies: { remediation: { unhealthyAfterSeconds: 60, ...remediation } },
    }),
  });
}

const nodeOf = (status: ClusterStatus, role: string) => status.nodes.find((node) => node.role === role);

async function running(remediation: Partial<Policies['remediation']> = {}) {
  const site = await SimulatedSite.start({ speed: 200, timings: { powerCycleMs: 2500 } });
  await site.want(document(remediation));
  return { site, status: await site.phase('Running') };
}

describe('a node that dies', () => {
  it.each(['worker', 'control-plane'])(
    'a %s whose kernel panicked comes back by one power cycle, as the same node with another boot id',
    async (role) => {
      const { site, status } = await running();
      await using _site = site;
      const victim = nodeOf(status, role);
      const boot = () => bootIdOf(site, victim?.hostname);
      const before = boot();
      site.simulator.faults.add(parseFault(`node-dies:1@${victim?.hostname}`));
      await site.until('NotReady', ({ nodes }) => nodes.some(({ phase }) => phase === 'NotReady'));
      // Its pods too: while the node was away they counted as not Ready.
      const after = await site.until(
        'Ready again',
        ({ nodes, conditions }) =>
          nodes.every(({ phase }) => phase === 'Ready') &&
          conditions.find(({ type }) => type === 'ControlPlaneReady')?.status === 'True',
      );
      expect(nodeOf(after, role)?.systemId).toBe(victim?.systemId);
      expect(after.nodes.map(({ name }) => name).sort()).toEqual(status.nodes.map(({ name }) => name).sort());
      expect(boot()).not.toBe(before);
      expect(
        (await site.outbox.recentEvents({}, 200)).filter((e) => e.reason === 'PowerCycling'),
      ).toHaveLength(1);
    },
  );

  it.each(['worker', 'control-plane'])(
    'a %s that stays dark is replaced, with evidence, and etcd keeps its quorum',
    async (role) => {
      const { site, status } = await running();
      await using _site = site;
      const victim = nodeOf(status, role);
      site.simulator.faults.add(parseFault(`power-failure:1@${victim?.hostname}`));
      site.simulator.faults.add(parseFault(`node-dies:1@${victim?.hostname}`));
      let quorum = true;
      const after = await site.until('replaced', ({ nodes, phase }) => {
        quorum &&= site.kubernetes.clusters().every(({ etcd }) => etcd.quorum);
        return (
          phase === 'Running' &&
          nodes.length === 5 &&
          nodes.every((node) => node.phase === 'Ready' && node.name !== victim?.name)
        );
      });
      expect(quorum).toBe(true);
      // Its machine is out of the status a moment before its Node is.
      await nothingLeft(site);
      expect(after.nodes.map(({ systemId }) => systemId)).not.toContain(victim?.systemId);
      const [cluster] = site.kubernetes.clusters();
      expect(cluster?.etcd.members.map(({ up, learner }) => [up, learner])).toEqual(
        [1, 2, 3].map(() => [true, false]),
      );
      expect(cluster?.nodes).toHaveLength(5);
      const failed = (await site.outbox.recentEvents({}, 300)).find((e) => e.reason === 'MachineFailed');
      expect(failed).toMatchObject({ machine: victim?.systemId, error: { code: 'NODE_UNHEALTHY' } });
      expect(failed?.data?.['evidence']).toBeDefined();
      const quarantined = await site.engine.quarantine.list('ca-one');
      expect(quarantined.map(({ systemId }) => systemId)).toEqual([victim?.systemId]);
    },
  );

  it('is not replaced beyond the limit: the cluster runs on and says Degraded', async () => {
    const { site, status } = await running({ maxReplacements: 0 });
    await using _site = site;
    const victim = nodeOf(status, 'worker');
    site.simulator.faults.add(parseFault(`power-failure:1@${victim?.hostname}`));
    site.simulator.faults.add(parseFault(`node-dies:1@${victim?.hostname}`));
    const after = await site.until('degraded', ({ conditions }) =>
      conditions.some(({ type, reason }) => type === 'WorkersReady' && reason === 'Degraded'),
    );
    expect(after.conditions.find(({ type }) => type === 'WorkersReady')?.message).toContain(
      '0 machines were replaced already',
    );
    expect(after.phase).toBe('Running');
    expect(after.nodes.map(({ systemId }) => systemId)).toContain(victim?.systemId);
  });

  it('touches nothing while too many are unhealthy at once', async () => {
    const { site, status } = await running({ maxUnhealthyPercent: 10 });
    await using _site = site;
    for (const node of status.nodes.filter(({ role }) => role === 'worker'))
      site.simulator.faults.add(parseFault(`node-dies:1@${node.hostname}`));
    const after = await site.until('degraded', ({ conditions }) =>
      conditions.some(
        ({ type, message }) => type === 'WorkersReady' && message.includes('of 5 nodes are unhealthy'),
      ),
    );
    await site.clock.sleep(3000);
    const said = await site.outbox.recentEvents({}, 300);
    expect(said.filter(({ reason }) => reason === 'PowerCycling' || reason === 'MachineFailed')).toEqual([]);
    expect(site.engine.status('cl-demo')?.nodes.map(({ systemId }) => systemId)).toEqual(
      after.nodes.map(({ systemId }) => systemId),
    );
  });
});

function bootIdOf(site: SimulatedSite, hostname: string | undefined): string | undefined {
  for (const cluster of site.kubernetes.inside()) {
    const kubelet = cluster.kubelets.get(hostname ?? '');
    if (kubelet) return kubelet.bootId;
  }
  return undefined;
}
