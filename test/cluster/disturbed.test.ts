/**
 * What is done to single nodes and by policies of a living cluster, and its end, with the gateway killed between any
 * two steps and MAAS failing by chance. The same judge as in transitions.test.ts.
 */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { type Allowed, leaks, NO_LEAKS, nothingLeft, siteBreaches } from '../support/invariants.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { calm, trouble } from '../support/trouble.ts';
import { deployWeb, inside, webReady } from '../support/workload.ts';

const HOUR = 60 * 60 * 1000;
const DAY = 24 * HOUR;
const placement = { resourcePool: 'kubernetes' };
const KINDS = ['kills', 'maas'] as const;
type Actions = ClusterDocument['actions'];

function document(actions: Actions = [], changes: Partial<ClusterDocument> = {}) {
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 3, placement },
        { role: 'worker', name: 'workers', size: 2, placement },
      ],
      policies: { remediation: { unhealthyAfterSeconds: 60 } },
    }),
    actions,
    ...changes,
  });
}

/** A cluster of 3 + 2 with a workload, before the trouble begins. */
async function running(seed: number, options: Partial<Parameters<typeof SimulatedSite.start>[0]> = {}) {
  const site = await SimulatedSite.start({ speed: 200, seed, maasHurry: 20, ...options });
  await site.want(document());
  const before = await settled(site);
  const since = site.clock.now();
  deployWeb(site);
  await site.until('workload', () => webReady(site));
  const judge = async (allowed: Omit<Allowed, 'cluster' | 'since'>) => {
    calm(site);
    expect(site.kills).toBeGreaterThan(0);
    await settled(site);
    await site.until('workload', () => webReady(site));
    expect(siteBreaches(site, { cluster: 'demo', since, ...allowed })).toEqual([]);
    await nothingLeft(site);
    await gone(site);
  };
  return { site, before, since, judge };
}

const settled = (site: SimulatedSite, also: (status: ClusterStatus) => boolean = () => true) =>
  site.until(
    'five nodes Running',
    (status) =>
      status.phase === 'Running' &&
      status.nodes.length === 5 &&
      status.nodes.every(({ phase }) => phase === 'Ready') &&
      also(status),
    { withinMs: 120_000 },
  );

function intent(site: SimulatedSite, kind: 'delete' | 'force-delete') {
  const requestedAt = new Date(site.clock.now()).toISOString();
  return kind === 'delete'
    ? ({ kind, requestedAt, reason: 'delete' } as const)
    : ({ kind, requestedAt } as const);
}

async function gone(site: SimulatedSite): Promise<void> {
  await site.want(document([], { intent: intent(site, 'delete') }));
  await site.phase('Deleted');
  expect(leaks(site)).toEqual(NO_LEAKS);
}

const systemIds = ({ nodes }: ClusterStatus, role: string) =>
  nodes.flatMap((node) => (node.role === role ? (node.systemId ?? []) : []));
const machines = ({ nodes }: ClusterStatus) =>
  nodes.map(({ name, systemId }) => `${name} ${systemId}`).sort();

describe('while the gateway is killed and MAAS fails', () => {
  it.each([
    ['worker', 21, { workers: 1, controlPlanes: 3 }],
    ['control-plane', 22, { workers: 2, controlPlanes: 2 }],
  ])('a %s is replaced on request by another machine', async (role, seed, allowed) => {
    const { site, before, judge } = await running(seed);
    await using _site = site;
    const [machine = ''] = systemIds(before, role);
    trouble(site, seed, KINDS);
    await site.want(document([{ id: 'ac-replace', kind: 'replace-node', machine }]));
    const after = await settled(site, (status) => !systemIds(status, role).includes(machine));
    // Nobody else moved.
    expect(machines(after).filter((one) => !machines(before).includes(one))).toHaveLength(1);
    // Who asks for it does not want the machine any more: it goes first, whatever the pool's strategy.
    await judge(allowed);
  });

  it('maintenance empties a node, keeps its machine, and gives it back', async () => {
    const { site, before, judge } = await running(23);
    await using _site = site;
    const [machine = ''] = systemIds(before, 'worker');
    const name = before.nodes.find(({ systemId }) => systemId === machine)?.hostname ?? '';
    const node = () => inside(site).core.store.get(R.nodes, undefined, name);
    const pods = () =>
      inside(site)
        .core.store.list(R.pods, 'default')
        .filter(({ spec }) => spec?.nodeName === name);
    const on = { id: 'ac-on', kind: 'maintenance', machine, on: true } as const;
    trouble(site, 23, KINDS);
    await site.want(document([on]));
    await site.until('cordoned', () => node()?.spec?.unschedulable === true);
    await site.until('empty', () => pods().length === 0);
    const shown = await site.until('shown', ({ nodes }) =>
      nodes.some(({ maintenance }) => maintenance === true),
    );
    expect(machines(shown)).toEqual(machines(before));
    await site.want(document([on, { id: 'ac-off', kind: 'maintenance', machine, on: false }]));
    await site.until('given back', () => node()?.spec?.unschedulable !== true);
    expect(site.kubernetes.departures()).toEqual([]);
    await judge({ workers: 1, controlPlanes: 3 });
  });

  it.each([
    ['worker', 24, { workers: 1, controlPlanes: 3 }],
    ['control-plane', 25, { workers: 2, controlPlanes: 2 }],
  ])('a %s that stays dark is replaced', async (role, seed, allowed) => {
    const { site, before, judge } = await running(seed, { timings: { powerCycleMs: 2_500 } });
    await using _site = site;
    const victim = before.nodes.find((node) => node.role === role);
    trouble(site, seed, KINDS);
    site.simulator.faults.add(parseFault(`power-failure:1@${victim?.hostname}`));
    site.simulator.faults.add(parseFault(`node-dies:1@${victim?.hostname}`));
    await settled(site, (status) => !systemIds(status, role).includes(victim?.systemId ?? ''));
    await judge({ ...allowed, broken: [victim?.hostname ?? ''] });
  });

  it('certificates are renewed in place, one control-plane node at a time', async () => {
    const { site, before, since } = await running(26, {
      faults: ['certificates-expire:3'],
      behindMs: HOUR,
      timings: { certificateCheckMs: 500 },
    });
    await using _site = site;
    trouble(site, 26, KINDS);
    const away = new Set<number>();
    const after = await settled(site, ({ certificatesExpireAt }) => {
      away.add(
        inside(site)
          .etcd.voters()
          .filter(({ up }) => !up).length,
      );
      return Date.parse(certificatesExpireAt ?? '') - site.clock.now() > 300 * DAY;
    });
    expect(Math.max(...away)).toBeLessThanOrEqual(1);
    expect(machines(after)).toEqual(machines(before));
    const jobs = inside(site).core.store.list(R.jobs, 'pcg-policies');
    expect(jobs).toHaveLength(3);
    // Each member was away for a moment, its machine never.
    expect(site.kubernetes.moments().filter(({ at, quorum }) => at >= since && !quorum)).toEqual([]);
    expect(site.kubernetes.departures()).toEqual([]);
    calm(site);
    expect(site.kills).toBeGreaterThan(0);
    await gone(site);
  });

  it('scans and patching run once each and report', async () => {
    const { site } = await running(27);
    await using _site = site;
    const runs = ['cis', 'vulnerabilities', 'conformance', 'patching'] as const;
    trouble(site, 27, KINDS);
    const actions = runs.map((policy) => ({ id: `ac-${policy}`, kind: 'run-policy', policy }) as const);
    await site.want(document(actions));
    const reported = await site.until(
      'all have run',
      ({ policies }) =>
        runs.every((policy) => policies.some((one) => one.policy === policy && one.lastRunAt)),
      { withinMs: 240_000 },
    );
    expect(reported.policies.map(({ policy, state }) => `${policy} ${state}`).sort()).toEqual(
      runs.map((policy) => `${policy} succeeded`).sort(),
    );
    // Two CIS scans, one of each other scan; packages and a reboot of each of the five nodes.
    expect(inside(site).core.store.list(R.jobs, 'pcg-policies')).toHaveLength(2 + 1 + 1 + 5 + 5);
    for (const departure of site.kubernetes.departures())
      expect(departure).toMatchObject({ cordoned: true, workloads: [], quorumAfter: true });
    expect(site.kubernetes.departures()).toHaveLength(5);
    calm(site);
    expect(site.kills).toBeGreaterThan(0);
    await gone(site);
  });

  it('a cluster is deleted, and nothing of it stays', async () => {
    const { site } = await running(28);
    await using _site = site;
    trouble(site, 28, KINDS);
    await gone(site);
    expect(site.kills).toBeGreaterThan(0);
  });

  it('a forced deletion forgets the cluster and names every machine that MAAS keeps', async () => {
    const { site, before } = await running(29);
    await using _site = site;
    trouble(site, 29, KINDS);
    site.simulator.faults.add(parseFault('release-stuck'));
    await site.want(document([], { intent: intent(site, 'delete') }));
    await site.phase('Deleting');
    await site.want(document([], { intent: intent(site, 'force-delete') }));
    const { leftovers: left } = await site.phase('Deleted');
    const all = before.nodes.map(({ systemId = '' }) => systemId);
    const named = left.filter(({ kind }) => kind === 'machine').map(({ id }) => id);
    const held = (site.simulator.ledger.leaked() as { systemId: string }[]).map(({ systemId }) => systemId);
    expect(named.sort()).toEqual(all.sort());
    for (const machine of held) expect(named).toContain(machine);
    expect(site.kills).toBeGreaterThan(0);
  });
});
