/** A running cluster changes: scale, upgrade, repair, maintenance. Quorum and capacity are watched all the time. */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';

type Action = ClusterDocument['actions'][number];
type Rollout = 'expand-first' | 'contract-first';

function spec(control: 1 | 3 | 5, workers: number, rollout: Rollout = 'expand-first', policies = {}) {
  return clusterSpec({
    pools: [
      { role: 'control-plane', name: 'cp', size: control, rollout },
      { role: 'worker', name: 'workers', size: workers, rollout },
    ],
    policies,
  });
}

function profile(version: string) {
  const base = resolvedProfile();
  return { ...base, kubernetes: { ...base.kubernetes, kubernetesVersion: version } };
}

const workersReady = (status: ClusterStatus) =>
  status.nodes.filter((node) => node.role === 'worker' && node.phase === 'Ready').length;

async function approve(harness: EngineHarness, wanted: ClusterDocument): Promise<void> {
  const preview = await harness.until('preview', (status) => status.rollout?.state === 'preview');
  const action: Action = {
    id: `ac-approve-${preview.rollout?.plan}`,
    kind: 'approve-rollout',
    plan: preview.rollout?.plan ?? '',
  };
  await harness.want({ ...wanted, actions: [...wanted.actions, action] });
}

describe('scaling', () => {
  it('adds workers, and takes the right number away again', async () => {
    const site = new FakeSite(10);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 1) }));
    await harness.phase('Running');
    await harness.want(document({ spec: spec(3, 4) }));
    await harness.until('four workers', (status) => workersReady(status) === 4 && status.phase === 'Running');
    await harness.want(document({ spec: spec(3, 2) }));
    await harness.until('two workers', (status) => status.nodes.length === 5 && status.phase === 'Running');
    await harness.until('machines back', () => site.owned().length === 5);
    const api = [...site.apis.values()][0];
    expect([...(api?.objects.keys() ?? [])].filter((path) => path.startsWith('/api/v1/nodes/'))).toHaveLength(
      5,
    );
    expect(site.violations).toEqual([]);
  });

  it('grows and shrinks the control plane one member at a time', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(1, 1) }));
    await harness.phase('Running');
    await harness.want(document({ spec: spec(5, 1) }));
    await harness.until('five', (status) => status.nodes.length === 6 && status.phase === 'Running');
    expect([...site.apis.values()][0]?.etcd.size).toBe(5);
    await harness.want(document({ spec: spec(3, 1) }));
    await harness.until('three', (status) => status.nodes.length === 4 && status.phase === 'Running');
    expect([...site.apis.values()][0]?.etcd.size).toBe(3);
    expect(site.violations).toEqual([]);
  });
});

describe('upgrading', () => {
  it('shows what would move and moves nothing before the approval', async () => {
    const site = new FakeSite(10);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 2) }));
    const before = (await harness.phase('Running')).nodes.map((node) => node.name);
    await harness.want(document({ spec: spec(3, 2), profile: profile('v1.37.0') }));
    const preview = await harness.until('preview', (status) => status.rollout?.state === 'preview');
    expect(preview.rollout?.steps).toHaveLength(5);
    expect(preview.rollout?.steps[0]?.reason).toBe('Kubernetes v1.36.1 -> v1.37.0');
    await harness.pause(100);
    expect(harness.engine.status('cl-demo')?.nodes.map((node) => node.name)).toEqual(before);
  });

  it.each(['expand-first', 'contract-first'] as const)(
    '%s: replaces every node, control plane first',
    async (rollout) => {
      const site = new FakeSite(rollout === 'expand-first' ? 7 : 5);
      await using harness = new EngineHarness(site);
      await harness.want(document({ spec: spec(3, 2, rollout) }));
      const before = new Set((await harness.phase('Running')).nodes.map((node) => node.name));
      const wanted = document({ spec: spec(3, 2, rollout), profile: profile('v1.37.0') });
      await harness.want(wanted);
      await approve(harness, wanted);
      let least = 2;
      let workerMovedBeforeControlPlane = false;
      const done = await harness.until('upgraded', (status) => {
        least = Math.min(least, workersReady(status));
        const control = status.nodes.filter((node) => node.role === 'control-plane');
        const oldControl = control.some((node) => before.has(node.name) && node.phase === 'Ready');
        const newWorker = status.nodes.some((node) => node.role === 'worker' && !before.has(node.name));
        if (oldControl && newWorker) workerMovedBeforeControlPlane = true;
        return (
          status.phase === 'Running' &&
          status.nodes.every((node) => !before.has(node.name)) &&
          status.nodes.length === 5
        );
      });
      expect(done.nodes.map((node) => node.kubernetesVersion)).toEqual(Array(5).fill('v1.37.0'));
      expect(workerMovedBeforeControlPlane).toBe(false);
      expect(least).toBe(rollout === 'expand-first' ? 2 : 1);
      expect([...site.apis.values()][0]?.storedVersion).toBe('v1.37.0');
      expect(site.violations).toEqual([]);
    },
  );

  it('gives a node that is added before the approval the version that runs', async () => {
    const site = new FakeSite(10);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 1) }));
    await harness.phase('Running');
    const wanted = document({ spec: spec(3, 3), profile: profile('v1.37.0') });
    await harness.want(wanted);
    const grown = await harness.until('three workers', (status) => workersReady(status) === 3);
    expect(grown.nodes.map(({ kubernetesVersion }) => kubernetesVersion)).toEqual(Array(6).fill('v1.36.1'));
    expect(grown.rollout?.state).toBe('preview');
    expect(grown.rollout?.steps).toHaveLength(6);
    await approve(harness, wanted);
    await harness.until(
      'upgraded',
      ({ phase, nodes }) =>
        phase === 'Running' &&
        nodes.length === 6 &&
        nodes.every(({ kubernetesVersion }) => kubernetesVersion === 'v1.37.0'),
    );
    expect(site.violations).toEqual([]);
  });

  it('expand first without a spare machine does not start and says so', async () => {
    const site = new FakeSite(5);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 2) }));
    const before = (await harness.phase('Running')).nodes.map((node) => node.name);
    const wanted = document({ spec: spec(3, 2), profile: profile('v1.37.0') });
    await harness.want(wanted);
    await approve(harness, wanted);
    const blocked = await harness.until('blocked', (status) => status.rollout?.state === 'blocked');
    expect(blocked.rollout?.error).toMatchObject({ code: 'NO_SPARE_MACHINE', details: { pool: 'cp' } });
    expect(harness.engine.status('cl-demo')?.nodes.map((node) => node.name)).toEqual(before);
  });

  it('a lone control plane without a spare machine is told what it needs, whatever its strategy', async () => {
    const site = new FakeSite(2);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(1, 1, 'contract-first') }));
    await harness.phase('Running');
    await harness.want(document({ spec: spec(1, 1, 'contract-first'), profile: profile('v1.37.0') }));
    const preview = await harness.until('preview', (status) => status.rollout?.error !== undefined);
    expect(preview.rollout).toMatchObject({
      state: 'preview',
      error: { code: 'NO_SPARE_MACHINE', fix: expect.stringContaining('lone control plane') },
    });
  });

  it.each([
    ['v1.35.0', 'downgrade'],
    ['v1.38.0', 'skips-minor'],
  ])('refuses %s: %s', async (version, reason) => {
    const site = new FakeSite(7);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(1, 1) }));
    await harness.phase('Running');
    await harness.want(document({ spec: spec(1, 1), profile: profile(version) }));
    const refused = await harness.until('refused', (status) => status.error !== undefined);
    expect(refused.error).toMatchObject({ code: 'VERSION_SKEW', details: { reason } });
  });

  it('replaces a single control-plane node by growing to two first', async () => {
    const site = new FakeSite(4);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(1, 1, 'contract-first') }));
    const before = new Set((await harness.phase('Running')).nodes.map((node) => node.name));
    const wanted = document({ spec: spec(1, 1, 'contract-first'), profile: profile('v1.36.2') });
    await harness.want(wanted);
    await approve(harness, wanted);
    await harness.until(
      'upgraded',
      (status) => status.phase === 'Running' && status.nodes.every((node) => !before.has(node.name)),
    );
    expect(site.violations).toEqual([]);
  });

  it('survives being killed at random moments of an upgrade', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 2) }));
    const before = new Set((await harness.phase('Running')).nodes.map((node) => node.name));
    const wanted = document({ spec: spec(3, 2), profile: profile('v1.37.0') });
    await harness.want(wanted);
    await approve(harness, wanted);
    for (let crash = 0; crash < 12; crash += 1) {
      await harness.pause(20 + ((crash * 37) % 80));
      harness.crash();
    }
    await harness.until(
      'upgraded',
      (status) => status.phase === 'Running' && status.nodes.every((node) => !before.has(node.name)),
    );
    await harness.until('machines back', () => site.owned().length === 5);
    expect([...site.apis.values()][0]?.etcd.size).toBe(3);
    expect(site.violations).toEqual([]);
  });
});

describe('repair', () => {
  it('replaces a node on request, and a control-plane node with its etcd member', async () => {
    const site = new FakeSite(7);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 1) }));
    const running = await harness.phase('Running');
    const victim = running.nodes.find((node) => node.role === 'control-plane');
    await harness.want(
      document({
        spec: spec(3, 1),
        actions: [{ id: 'ac-replace', kind: 'replace-node', machine: victim?.systemId ?? '' }],
      }),
    );
    await harness.until(
      'replaced',
      (status) =>
        status.phase === 'Running' &&
        status.nodes.length === 4 &&
        !status.nodes.some((node) => node.name === victim?.name),
    );
    expect([...site.apis.values()][0]?.etcd.size).toBe(3);
    expect(site.violations).toEqual([]);
  });

  it('shows a node that fell silent as NotReady and keeps running', async () => {
    const site = new FakeSite(7);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 2) }));
    const running = await harness.phase('Running');
    const victim = running.nodes.find((node) => node.role === 'worker');
    [...site.apis.values()][0]?.stop(victim?.systemId ?? '');
    const sick = await harness.until('not ready', (status) =>
      status.nodes.some((node) => node.phase === 'NotReady'),
    );
    expect(sick.conditions.find(({ type }) => type === 'WorkersReady')?.status).toBe('False');
    expect(sick.phase).toBe('Running');
    expect(site.owned()).toHaveLength(5);
  });

  it('renews certificates by replacing the control plane alone', async () => {
    const site = new FakeSite(7);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(3, 2) }));
    const before = await harness.phase('Running');
    await harness.want(
      document({ spec: spec(3, 2), actions: [{ id: 'ac-rotate', kind: 'rotate-certificates' }] }),
    );
    const oldControl = new Set(
      before.nodes.filter((node) => node.role === 'control-plane').map((node) => node.name),
    );
    const after = await harness.until(
      'rotated',
      (status) =>
        status.phase === 'Running' &&
        status.nodes.length === 5 &&
        !status.nodes.some((node) => oldControl.has(node.name)),
    );
    const workers = (status: ClusterStatus) =>
      status.nodes.filter((node) => node.role === 'worker').map((node) => node.name);
    expect(workers(after)).toEqual(workers(before));
    expect(site.violations).toEqual([]);
  });

  it('takes a node out for maintenance and back', async () => {
    const site = new FakeSite(5);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: spec(1, 2) }));
    const running = await harness.phase('Running');
    const node = running.nodes.find(({ role }) => role === 'worker');
    const on: Action = { id: 'ac-on', kind: 'maintenance', machine: node?.name ?? '', on: true };
    const object = () =>
      [...site.apis.values()][0]?.objects.get(`/api/v1/nodes/${node?.hostname}`)?.['spec'] as {
        unschedulable?: boolean;
      };
    await harness.want(document({ spec: spec(1, 2), actions: [on] }));
    await harness.until(
      'cordoned',
      (status) => object().unschedulable === true && status.nodes.some(({ maintenance }) => maintenance),
    );
    await harness.want(document({ spec: spec(1, 2), actions: [on, { ...on, id: 'ac-off', on: false }] }));
    await harness.until(
      'schedulable',
      (status) => object().unschedulable === false && status.phase === 'Running',
    );
  });
});
