/**
 * Day 2 through the whole product: several clusters of one site change, grow, shrink, roll, lose machines and
 * go, all at the same time. Each of these is disturbed at a random moment by everything at once: MAAS fails, the
 * portal goes away, and the agent is killed and comes back without it.
 * Judged by the simulator's own books: no machine leaks or has two owners, quorum stays, never more nodes are
 * away than the strategy allows, and no machine stops with workloads on it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Cluster, ClusterSpecInput } from '../../src/contract/cluster.ts';
import type { Profile } from '../../src/contract/profile.ts';
import { DayTwo } from '../support/day-two.ts';
import { Site } from '../support/site.ts';

const SPEED = 100;
const MACHINES = 150;
const UPGRADE_TO = 'v1.37.0';
const ABORTS = 3;
const LONGEST_BEFORE_ABORT_MS = 6_000;
const FORCE_DELETE_AFTER_S = 15 * 60;

describe('day 2, with everything going wrong by chance', () => {
  let day: DayTwo;
  let site: Site;
  /** Machines that a scenario leaves behind on purpose. */
  const leftBehind: string[] = [];

  beforeAll(async () => {
    site = await Site.start({ speed: SPEED, machines: MACHINES });
    day = new DayTwo(site);
  });

  afterAll(async () => {
    try {
      const { leaked, doublyAllocated, leakedAddresses } = await site.ledger();
      expect(leaked.map((one) => (one as { systemId: string }).systemId).sort()).toEqual(leftBehind.sort());
      expect(doublyAllocated).toEqual([]);
      expect(leakedAddresses).toEqual([]);
    } finally {
      await site?.[Symbol.asyncDispose]();
    }
  });

  const spec = (
    name: string,
    controlPlane: 1 | 3,
    workers: number,
    more: { profile?: Profile; rollout?: 'contract-first'; remediation?: { maxReplacements: number } } = {},
  ): ClusterSpecInput => {
    const base = site.spec({ name, controlPlane, workers });
    const { rollout, profile } = more;
    return {
      ...base,
      ...(profile ? { profile: profile.id } : {}),
      pools: base.pools.map((pool) => (rollout ? { ...pool, rollout } : pool)),
    };
  };

  const idsOf = (cluster: Cluster, pool: string) =>
    (cluster.status?.nodes ?? [])
      .filter((node) => node.pool === pool)
      .flatMap(({ systemId }) => systemId ?? []);

  const judge = async (
    cluster: Cluster,
    allowed: { workers: number; controlPlanes: number },
    broken: string[] = [],
  ) => {
    expect(await day.breaches(cluster.spec.name, allowed, broken)).toEqual([]);
    // The last Node goes a moment after everything runs.
    await site.until(
      `no Node in ${cluster.spec.name} of a machine that went`,
      async () => (await day.leftNodes(cluster)).length === 0,
    );
  };

  it.concurrent('workers and control plane grow and shrink', async () => {
    const profile = await day.addProfile('scale');
    const { id } = await day.running(spec('scale', 1, 1, { profile }));
    await day.resize(id, 'workers', 3);
    await day.disturb();
    await day.settled(id, { control: 1, workers: 3 });
    await day.resize(id, 'workers', 1);
    await day.disturb();
    await day.settled(id, { control: 1, workers: 1 });
    await day.resize(id, 'control', 3);
    await day.disturb();
    const grown = await day.settled(id, { control: 3, workers: 1 });
    const { clusters } = await day.books();
    const members = clusters.find(({ name }) => name === 'scale')?.etcd.members ?? [];
    expect(members.map(({ learner, up }) => ({ learner, up }))).toEqual(
      Array.from({ length: 3 }, () => ({ learner: false, up: true })),
    );
    await judge(grown, { workers: 1, controlPlanes: 1 });
    const before = (await day.departures('scale')).length;
    await day.gone(grown);
    // Delete drains nothing: the books would have shown workloads that were not evicted before.
    const atOnce = (await day.departures('scale')).slice(before);
    expect(atOnce.flatMap(({ workloads }) => workloads)).not.toEqual([]);
  });

  it.concurrent.each([
    { name: 'expand', controlPlane: 1, rollout: undefined, workers: 2, controlPlanes: 1 },
    { name: 'contract', controlPlane: 3, rollout: 'contract-first', workers: 1, controlPlanes: 2 },
  ] as const)(
    'a new Kubernetes version rolls through after its approval ($name first)',
    async ({ name, controlPlane, rollout, workers, controlPlanes }) => {
      const profile = await day.addProfile(name);
      const before = await day.running(
        spec(name, controlPlane, 2, { profile, ...(rollout ? { rollout } : {}) }),
      );
      await day.upgradeProfile(profile, UPGRADE_TO);
      await day.change(before.id, (same) => same);
      const preview = await day.until(
        before.id,
        'a preview',
        ({ status }) => status?.rollout?.state === 'preview',
      );
      expect(preview.status?.rollout?.steps).toHaveLength(controlPlane + 2);
      for (const { reason } of preview.status?.rollout?.steps ?? []) expect(reason).toContain(UPGRADE_TO);
      await systemClock.sleep(1_000);
      expect(await day.departures(name), 'nothing moves before the approval').toEqual([]);

      await day.act(before.id, { kind: 'approve-rollout', plan: preview.status?.rollout?.plan ?? '' });
      await day.disturb();
      const after = await day.until(
        before.id,
        `all on ${UPGRADE_TO}`,
        ({ status }) =>
          status?.phase === 'Running' &&
          status.nodes.length === controlPlane + 2 &&
          status.nodes.every((node) => node.kubernetesVersion === UPGRADE_TO && node.phase === 'Ready'),
      );
      expect(await day.departures(name)).toHaveLength(controlPlane + 2);
      await judge(after, { workers, controlPlanes });
      await day.gone(after);
    },
  );

  it.concurrent('maintenance empties a node and gives it back, replacement gives another machine, also of a lone control plane', async () => {
    const profile = await day.addProfile('maintain');
    const cluster = await day.running(spec('maintain', 1, 2, { profile }));
    const [machine = '', other = ''] = idsOf(cluster, 'workers');
    const node = async () => {
      const { clusters } = await day.books();
      const hostname = cluster.status?.nodes.find(({ systemId }) => systemId === machine)?.hostname;
      return clusters.find(({ name }) => name === 'maintain')?.nodes.find(({ name }) => name === hostname);
    };
    await day.act(cluster.id, { kind: 'maintenance', machine, on: true });
    await day.disturb();
    await site.until('a cordoned node', async () => (await node())?.unschedulable);
    await day.until(cluster.id, 'maintenance shown', ({ status }) =>
      status?.nodes.some((one) => one.systemId === machine && one.maintenance),
    );
    await day.act(cluster.id, { kind: 'maintenance', machine, on: false });
    await site.until('a node that takes work', async () => (await node())?.unschedulable === false);

    await day.act(cluster.id, { kind: 'replace-node', machine: other });
    await day.disturb();
    const after = await day.until(
      cluster.id,
      'another machine',
      ({ status }) =>
        status?.phase === 'Running' &&
        status.nodes.length === 3 &&
        status.nodes.every(({ phase, systemId }) => phase === 'Ready' && systemId !== other),
    );
    expect(idsOf(after, 'workers')).toContain(machine);

    const [only = ''] = idsOf(after, 'control');
    await day.act(cluster.id, { kind: 'replace-node', machine: only });
    await day.disturb();
    const last = await day.until(
      cluster.id,
      'another control plane',
      ({ status }) =>
        status?.phase === 'Running' &&
        status.nodes.length === 3 &&
        status.nodes.every(({ phase, systemId }) => phase === 'Ready' && systemId !== only),
    );
    await judge(last, { workers: 0, controlPlanes: 1 });
    await day.gone(last);
  });

  it.concurrent('a worker that dies and does not come back is replaced', async () => {
    const base = spec('remedy', 1, 3);
    const cluster = await day.running({
      ...base,
      policies: { remediation: { unhealthyAfterSeconds: 60 } },
    });
    const [dead = ''] = idsOf(cluster, 'workers');
    const fault = `power-failure@${dead}`;
    await day.fault(fault);
    await day.simulator('POST', `machines/${dead}/power-loss`);
    await day.disturb();
    const after = await day.until(cluster.id, 'a replacement', ({ status }) => {
      const workers = status?.nodes.filter(({ pool }) => pool === 'workers') ?? [];
      const ready = workers.filter(({ phase }) => phase === 'Ready');
      return ready.length === 3 && ready.every(({ systemId }) => systemId !== dead);
    });
    await day.mend(fault);
    await day.settled(cluster.id, { control: 1, workers: 3 });
    await judge(after, { workers: 2, controlPlanes: 1 }, [dead]);
    const disturbed = day.disturb();
    await day.gone(after);
    await disturbed;
  });

  it.concurrent(`abort at ${ABORTS} random moments of provisioning gives every machine back`, async () => {
    await Promise.all(
      Array.from({ length: ABORTS }, async (_, index) => {
        const cluster = await day.begin(spec(`abort-${index}`, 1, 2));
        await systemClock.sleep(Math.random() * LONGEST_BEFORE_ABORT_MS);
        const disturbed = index === 0 ? day.disturb() : undefined;
        await day.gone(cluster, 'abort');
        await disturbed;
      }),
    );
  });

  it.concurrent('force delete waits its 15 minutes and lists what nobody has released', async () => {
    const cluster = await day.running(spec('stuck', 1, 1));
    const machines = [...idsOf(cluster, 'control'), ...idsOf(cluster, 'workers')];
    for (const machine of machines) await day.fault(`release-stuck@${machine}`);
    const force = () => day.call('POST', `/clusters/${cluster.id}/force-delete`, { confirm: 'stuck' });
    await expect(force()).rejects.toMatchObject({ code: 'FORCE_DELETE_TOO_EARLY' });
    const asked = performance.now();
    await day.call('POST', `/clusters/${cluster.id}/delete`, { confirm: 'stuck' });
    const early: unknown = await force().catch((error: unknown) => error);
    expect(early).toMatchObject({
      code: 'FORCE_DELETE_TOO_EARLY',
      details: { secondsLeft: expect.any(Number), forceDeleteAt: expect.any(String) },
    });
    const { secondsLeft } = (early as { details: { secondsLeft: number } }).details;
    const passed = (performance.now() - asked) / 1_000;
    expect(secondsLeft).toBeGreaterThanOrEqual(Math.floor(FORCE_DELETE_AFTER_S - passed - 1));
    expect(secondsLeft).toBeLessThanOrEqual(FORCE_DELETE_AFTER_S);

    await day.passTime(cluster.id, FORCE_DELETE_AFTER_S * 1_000);
    const disturbed = day.disturb();
    await force();
    const forced = await day.until(
      cluster.id,
      'forgotten, with leftovers',
      ({ deletedAt, status }) => deletedAt !== undefined && (status?.leftovers.length ?? 0) > 0,
    );
    const left = forced.status?.leftovers.filter(({ kind }) => kind === 'machine').map(({ id }) => id) ?? [];
    expect(left.sort()).toEqual(machines.sort());
    leftBehind.push(...machines);
    await disturbed;
  });
});
