/**
 * Every change of a living cluster on the simulator, with the gateway killed between any two steps and MAAS failing
 * by chance. Judged from the first moment to the last by what the doubles wrote down (test/support/invariants.ts).
 */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { type Allowed, leaks, NO_LEAKS, nothingLeft, siteBreaches } from '../support/invariants.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { calm, trouble } from '../support/trouble.ts';
import { deployWeb, inside, webReady } from '../support/workload.ts';

const SPEED = 200;
const placement = { resourcePool: 'kubernetes' };

interface Shape {
  readonly control: 1 | 3 | 5;
  readonly workers: number;
  readonly rollout?: 'expand-first' | 'contract-first';
  readonly version?: string;
  readonly actions?: ClusterDocument['actions'];
}

function document({ control, workers, rollout = 'expand-first', version = 'v1.35.4', actions = [] }: Shape) {
  const profile = resolvedProfile();
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: control, rollout, placement },
        { role: 'worker', name: 'workers', size: workers, rollout, placement },
      ],
    }),
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
    actions,
  });
}

const start = (seed: number) =>
  SimulatedSite.start({ speed: SPEED, seed, maasHurry: 20, timings: { quarantineMs: 60_000 } });

const settled = (site: SimulatedSite, { control, workers, version }: Shape) =>
  site.until(
    `${control} + ${workers} Running`,
    ({ phase, nodes }: ClusterStatus) =>
      phase === 'Running' &&
      nodes.length === control + workers &&
      nodes.filter(({ role }) => role === 'control-plane').length === control &&
      nodes.every(
        (node) => node.phase === 'Ready' && (version === undefined || node.kubernetesVersion === version),
      ),
    { withinMs: 120_000 },
  );

async function goneWithoutTrace(site: SimulatedSite, shape: Shape): Promise<void> {
  calm(site);
  const intent = {
    kind: 'delete',
    requestedAt: new Date(site.clock.now()).toISOString(),
    reason: 'delete',
  } as const;
  await site.want({ ...document(shape), intent });
  await site.phase('Deleted');
  expect(leaks(site)).toEqual(NO_LEAKS);
}

const voters = (site: SimulatedSite) =>
  inside(site)
    .etcd.members()
    .map(({ isLearner, up }) => ({ isLearner, up }));
const healthy = (count: number) => Array.from({ length: count }, () => ({ isLearner: false, up: true }));

async function expectNoBreach(site: SimulatedSite, allowed: Omit<Allowed, 'cluster'>): Promise<void> {
  expect(siteBreaches(site, { cluster: 'demo', ...allowed })).toEqual([]);
  await nothingLeft(site);
}

describe('sizes', () => {
  it('one control-plane node becomes three, five, three and one again; workers come and go', async () => {
    await using site = await start(1);
    await site.want(document({ control: 1, workers: 2 }));
    await settled(site, { control: 1, workers: 2 });
    const since = site.clock.now();
    deployWeb(site);
    trouble(site, 1, ['kills', 'maas']);
    for (const shape of [
      { control: 3, workers: 2 },
      { control: 5, workers: 4 },
      { control: 3, workers: 1 },
      { control: 1, workers: 2 },
    ] as const) {
      await site.want(document(shape));
      await settled(site, shape);
      expect(voters(site)).toEqual(healthy(shape.control));
      await nothingLeft(site);
    }
    await site.until('workload', () => webReady(site));
    await expectNoBreach(site, { since, workers: 1, controlPlanes: 1 });
    expect(site.kills).toBeGreaterThan(0);
    await goneWithoutTrace(site, { control: 1, workers: 2 });
  });

  it('five control-plane nodes are created one join after the other', async () => {
    await using site = await start(2);
    trouble(site, 2, ['kills', 'maas']);
    await site.want(document({ control: 5, workers: 1 }));
    await settled(site, { control: 5, workers: 1 });
    expect(voters(site)).toEqual(healthy(5));
    const joins = site.kubernetes.moments();
    expect(Math.max(...joins.map(({ learners }) => learners))).toBe(1);
    expect(joins.filter(({ what }) => what.kind === 'member-promoted')).toHaveLength(4);
    await expectNoBreach(site, { since: 0, workers: 0, controlPlanes: 0 });
    await goneWithoutTrace(site, { control: 5, workers: 1 });
  });
});

describe('an upgrade', () => {
  it.each([
    { seed: 3, control: 3, rollout: 'expand-first', kinds: ['kills'], workers: 2, controlPlanes: 3 },
    {
      seed: 4,
      control: 3,
      rollout: 'contract-first',
      kinds: ['maas', 'kills'],
      workers: 1,
      controlPlanes: 2,
    },
    { seed: 5, control: 1, rollout: 'expand-first', kinds: ['maas'], workers: 2, controlPlanes: 1 },
  ] as const)(
    'of $control control-plane nodes, $rollout, under $kinds',
    async ({ seed, control, rollout, kinds, workers, controlPlanes }) => {
      await using site = await start(seed);
      const before = { control, workers: 2, rollout } as const;
      await site.want(document(before));
      await settled(site, before);
      const since = site.clock.now();
      deployWeb(site);
      await site.until('workload', () => webReady(site));
      const after = { ...before, version: 'v1.36.1' };
      await site.want(document(after));
      const preview = await site.until('preview', ({ rollout: plan }) => plan?.state === 'preview');
      trouble(site, seed, [...kinds]);
      const plan = preview.rollout?.plan ?? '';
      await site.want(document({ ...after, actions: [{ id: 'ac-go', kind: 'approve-rollout', plan }] }));
      await settled(site, after);
      await site.until('workload', () => webReady(site));
      expect(voters(site)).toEqual(healthy(control));
      await expectNoBreach(site, { since, workers, controlPlanes });
      await goneWithoutTrace(site, after);
    },
  );
});

describe('a lone control plane', () => {
  it('that loses its machine makes everything Unknown and nothing is taken apart; it comes back with the machine', async () => {
    await using site = await start(6);
    const shape = { control: 1, workers: 2 } as const;
    await site.want(document(shape));
    const before = await settled(site, shape);
    const only = before.nodes.find(({ role }) => role === 'control-plane');
    site.simulator.faults.add(parseFault(`node-dies:1@${only?.hostname}`));
    const away = await site.until('unreachable', ({ conditions }) =>
      conditions.some(({ type, status }) => type === 'Available' && status === 'Unknown'),
    );
    expect(site.kubernetes.clusters()[0]?.etcd.quorum).toBe(false);
    const verdict = (type: string) => away.conditions.find((condition) => condition.type === type);
    for (const type of ['ControlPlaneReady', 'WorkersReady', 'Available'])
      expect(verdict(type)).toMatchObject({ status: 'Unknown', reason: 'Unreachable' });
    expect(new Set(away.nodes.map(({ phase }) => phase))).toEqual(new Set(['Unknown']));
    // Long enough for every ladder of repair; a kill in between forgets nothing.
    site.crash();
    await site.clock.sleep(4_000);
    const still = site.engine.status('cl-demo');
    expect(still?.nodes.map(({ name, systemId }) => [name, systemId])).toEqual(
      before.nodes.map(({ name, systemId }) => [name, systemId]),
    );
    expect(still?.phase).toBe('Unknown');
    expect(still?.conditions.find(({ type }) => type === 'NetworkReady')?.status).toBe('Unknown');
    const said = await site.outbox.recentEvents({}, 300);
    expect(
      said.filter(({ reason }) => ['MachineFailed', 'MachineReleased', 'PowerCycling'].includes(reason)),
    ).toEqual([]);
    const machine = only?.systemId ?? '';
    site.kubernetes.powerOff?.(machine);
    site.kubernetes.resume?.(machine);
    const after = await settled(site, shape);
    expect(after.nodes.map(({ name }) => name).sort()).toEqual(before.nodes.map(({ name }) => name).sort());
    await goneWithoutTrace(site, shape);
  });
});
