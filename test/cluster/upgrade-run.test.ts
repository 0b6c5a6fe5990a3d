/** Upgrades and drains of a cluster that carries workloads, on the simulator, with the gateway killed in between. */
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { ClusterDocument } from '../../src/contract/cluster.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { nothingLeft, siteBreaches } from '../support/invariants.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { deployWeb, inside, webPods, webReady } from '../support/workload.ts';

const placement = { resourcePool: 'kubernetes' };

function document(
  version: string,
  rollout: 'expand-first' | 'contract-first',
  actions: ClusterDocument['actions'] = [],
) {
  const profile = resolvedProfile();
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 3, rollout, placement },
        { role: 'worker', name: 'workers', size: 2, rollout, placement },
      ],
    }),
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
    actions,
  });
}

const COREFILE =
  '.:53 {\n    errors\n    hosts {\n        10.20.0.9 erp.example\n    }\n    forward . 10.20.0.2\n}\n';

/** What people do to a cluster, and what a kubeadm from before May 2026 did not create. */
function handEdit(site: SimulatedSite): void {
  const { core } = inside(site);
  core.edit(R.configmaps, { name: 'coredns', namespace: 'kube-system' }, (map) => {
    map.data = { Corefile: COREFILE };
  });
  core.edit(R.deployments, { name: 'coredns', namespace: 'kube-system' }, (deployment) => {
    deployment.spec.replicas = 3;
  });
  core.edit(R.clusterrolebindings, { name: 'kubeadm:cluster-admins' }, (binding) => {
    binding['subjects'] = [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'one-admin' }];
  });
  core.store.delete(R.clusterrolebindings, undefined, 'kubeadm:apiserver-kubelet-client');
}

/** kubeadm's own objects after the upgrade to v1.36.1. */
function expectUpgraded(site: SimulatedSite): void {
  const { core } = inside(site);
  const images = (app: string) =>
    new Set(
      core.store
        .list(R.pods)
        .filter(({ metadata }) => metadata.labels?.['k8s-app'] === app)
        .flatMap(({ spec }) => spec?.containers.map(({ image }: { image: string }) => image)),
    );
  expect(images('kube-proxy')).toEqual(new Set(['registry.k8s.io/kube-proxy:v1.36.1']));
  expect(images('kube-dns')).toEqual(new Set(['registry.k8s.io/coredns/coredns:v1.14.2']));
  expect(core.store.get(R.deployments, 'kube-system', 'coredns')?.spec?.replicas).toBe(3);
  expect(core.store.get(R.configmaps, 'kube-system', 'coredns')?.['data']).toEqual({ Corefile: COREFILE });
  const config = core.store.get(R.configmaps, 'kube-system', 'kubeadm-config');
  const stored = parse(config?.['data'].ClusterConfiguration);
  expect(stored).toMatchObject({ kubernetesVersion: 'v1.36.1', networking: { dnsDomain: 'cluster.local' } });
  expect(stored.featureGates ?? {}).toEqual({});
  const bound = (name: string) => core.store.get(R.clusterrolebindings, undefined, name);
  expect(bound('kubeadm:apiserver-kubelet-client')).toMatchObject({
    roleRef: { kind: 'ClusterRole', name: 'system:kubelet-api-admin' },
    subjects: [{ kind: 'User', name: 'kube-apiserver-kubelet-client' }],
  });
  // An administrator had narrowed it.
  expect(bound('kubeadm:cluster-admins')?.['subjects']).toMatchObject([{ name: 'one-admin' }]);
}

describe('an upgrade with workloads', () => {
  it.each(['expand-first', 'contract-first'] as const)(
    '%s, killed in the middle: quorum stays, no more nodes are down than allowed, pods leave before their machine',
    async (rollout) => {
      await using site = await SimulatedSite.start({ speed: 200 });
      await site.want(document('v1.35.4', rollout));
      const before = await site.phase('Running');
      const since = site.clock.now();
      deployWeb(site);
      await site.until('workload', () => webReady(site));
      handEdit(site);
      await site.want(document('v1.36.1', rollout));
      const preview = await site.until('preview', (status) => status.rollout?.state === 'preview');
      expect(preview.rollout?.steps).toHaveLength(5);
      expect(preview.nodes.map(({ name }) => name)).toEqual(before.nodes.map(({ name }) => name));
      const plan = preview.rollout?.plan ?? '';
      await site.want(document('v1.36.1', rollout, [{ id: 'ac-go', kind: 'approve-rollout', plan }]));

      const old = new Set(before.nodes.map(({ name }) => name));
      let kills = 0;
      await site.until(
        'upgraded',
        (status) => {
          const moved = status.nodes.filter(({ name, phase }) => phase === 'Ready' && !old.has(name)).length;
          if (moved > kills && kills < 4) {
            kills += 1;
            site.crash();
          }
          return status.phase === 'Running' && status.nodes.length === 5 && moved === 5;
        },
        { withinMs: 120_000 },
      );
      expect(
        siteBreaches(site, {
          cluster: 'demo',
          since,
          workers: rollout === 'expand-first' ? 2 : 1,
          controlPlanes: rollout === 'expand-first' ? 3 : 2,
        }),
      ).toEqual([]);
      // A machine that comes back is not taken again before its old Node is gone: nothing fails on the way.
      const said = await site.outbox.recentEvents({}, 1000);
      expect(said.filter(({ reason }) => reason === 'MachineFailed')).toEqual([]);
      expect(kills).toBe(4);
      await site.until('workload', () => webReady(site));
      // The last machine is out of the cluster's status a moment before its Node is.
      await nothingLeft(site);
      const { core, etcd } = inside(site);
      expect(etcd.voters()).toHaveLength(3);
      expect(core.store.list(R.nodes).map((node) => node.status?.nodeInfo?.kubeletVersion)).toEqual(
        Array(5).fill('v1.36.1'),
      );
      expectUpgraded(site);
      const events = await site.outbox.recentEvents({}, 1000);
      for (const { node } of events.filter(({ reason }) => reason === 'MachineReleased')) {
        const order = events.filter((event) => event.node === node).map(({ reason }) => reason);
        const [drained, released] = [order.indexOf('NodeDrained'), order.indexOf('MachineReleased')];
        expect(drained).toBeGreaterThanOrEqual(0);
        // Whichever end the list begins with, the drain lies on the far side of the release.
        expect(Math.sign(released - drained)).toBe(Math.sign(order.indexOf('NodeRemoved') - released));
      }
      expect(site.simulator.ledger.doublyAllocated()).toEqual([]);
    },
  );
});

describe('a drain', () => {
  it('that a budget blocks names the budget, and goes on when the budget allows it', async () => {
    await using site = await SimulatedSite.start({ speed: 200, timings: { drainDeadlineMs: 60_000 } });
    await site.want(document('v1.36.1', 'contract-first'));
    const before = await site.phase('Running');
    deployWeb(site, { minAvailable: 2 });
    await site.until('workload', () => webReady(site));
    const hostname = webPods(site)[0]?.spec?.nodeName;
    const victim = before.nodes.find((node) => node.hostname === hostname);
    const action = { id: 'ac-replace', kind: 'replace-node' as const, machine: victim?.systemId ?? '' };
    await site.want(document('v1.36.1', 'contract-first', [action]));
    const drainOf = (nodes: typeof before.nodes) =>
      nodes.find(({ name }) => name === victim?.name)?.tasks.find(({ name }) => name === 'drain');
    const blocked = await site.until('blocked', ({ nodes }) => drainOf(nodes)?.error !== undefined);
    const drain = drainOf(blocked.nodes);
    expect(drain?.error).toMatchObject({
      code: 'DRAIN_BLOCKED',
      message: expect.stringContaining('web-budget'),
    });
    expect(drain?.waitingFor).toContain('web-budget');
    expect(site.simulator.region.machines.get(victim?.systemId ?? '')?.status).toBe('deployed');
    inside(site).core.edit(R.pdbs, { name: 'web-budget', namespace: 'default' }, (budget) => {
      budget.spec.minAvailable = 1;
    });
    await site.until(
      'replaced',
      ({ nodes, phase }) => phase === 'Running' && nodes.every(({ name }) => name !== victim?.name),
    );
    await site.until('workload', () => webReady(site));
  });

  it('is forced when its time is over', async () => {
    await using site = await SimulatedSite.start({ speed: 200, timings: { drainDeadlineMs: 3000 } });
    await site.want(document('v1.36.1', 'contract-first'));
    const before = await site.phase('Running');
    deployWeb(site, { minAvailable: 2 });
    await site.until('workload', () => webReady(site));
    const hostname = webPods(site)[0]?.spec?.nodeName;
    const victim = before.nodes.find((node) => node.hostname === hostname);
    const action = { id: 'ac-replace', kind: 'replace-node' as const, machine: victim?.systemId ?? '' };
    await site.want(document('v1.36.1', 'contract-first', [action]));
    await site.until(
      'replaced',
      ({ nodes, phase }) => phase === 'Running' && nodes.every(({ name }) => name !== victim?.name),
    );
    const events = await site.outbox.recentEvents({}, 300);
    expect(
      events.some(({ reason, error }) => reason === 'DrainBlocked' && error?.code === 'DRAIN_BLOCKED'),
    ).toBe(true);
  });

  it('that meets a pod which only a person may end waits for that person beyond every deadline', async () => {
    await using site = await SimulatedSite.start({ speed: 200, timings: { drainDeadlineMs: 500 } });
    const holding = (actions: ClusterDocument['actions'] = []) => {
      const base = document('v1.36.1', 'contract-first', actions);
      const policies = {
        ...base.spec.policies,
        drain: { unmanagedPods: 'hold' as const, localData: 'hold' as const },
      };
      return { ...base, spec: { ...base.spec, policies } };
    };
    await site.want(holding());
    const before = await site.phase('Running');
    const victim = before.nodes.find(({ role }) => role === 'worker');
    const { core } = inside(site);
    core.ensure(R.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'by-hand', namespace: 'default' },
      spec: { nodeName: victim?.hostname, containers: [{ name: 'c', image: 'registry.example/tool:1' }] },
    });
    await site.want(holding([{ id: 'ac-replace', kind: 'replace-node', machine: victim?.systemId ?? '' }]));
    const drainOf = (nodes: typeof before.nodes) =>
      nodes.find(({ name }) => name === victim?.name)?.tasks.find(({ name }) => name === 'drain');
    const held = await site.until('held', ({ nodes }) => drainOf(nodes)?.error !== undefined);
    expect(drainOf(held.nodes)?.error).toMatchObject({
      code: 'DRAIN_BLOCKED',
      message: expect.stringContaining('default/by-hand: has no controller'),
    });
    await site.clock.sleep(3_000);
    expect(core.store.get(R.pods, 'default', 'by-hand')).toBeDefined();
    expect(site.simulator.region.machines.get(victim?.systemId ?? '')?.status).toBe('deployed');
    core.objects.delete(core.type(R.pods), 'default', 'by-hand', {});
    await site.until(
      'replaced',
      ({ nodes, phase }) => phase === 'Running' && nodes.every(({ name }) => name !== victim?.name),
    );
  });
});
