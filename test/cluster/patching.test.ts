/** Patching and scans on the simulator: rounds of reboots that survive kills, stop at trouble, and report. */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import type { PoliciesSchema } from '../../src/contract/policies.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import type { z } from 'zod';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const placement = { resourcePool: 'kubernetes' };
type Action = ClusterDocument['actions'][number];
const KILL_EVERY_MS = 2_500;

function document(
  policies: z.input<typeof PoliciesSchema>,
  actions: Action[] = [],
  size: { control?: 1 | 3; workers?: number } = {},
) {
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: size.control ?? 1, placement },
        { role: 'worker', name: 'workers', size: size.workers ?? 1, placement },
      ],
      policies,
    }),
    actions,
  });
}

const run = (policy: Extract<Action, { kind: 'run-policy' }>['policy']): Action => ({
  id: `ac-${policy}`,
  kind: 'run-policy',
  policy,
});
const result = (status: ClusterStatus, policy: string) =>
  status.policies.find((entry) => entry.policy === policy);

async function ended(site: SimulatedSite, policy: string, withinMs = 90_000) {
  const status = await site.until(
    `${policy} ended`,
    (now) => {
      const entry = result(now, policy);
      return entry?.lastRunAt !== undefined && ['succeeded', 'failed'].includes(entry.state);
    },
    { withinMs },
  );
  return result(status, policy);
}

const nodesOf = (site: SimulatedSite) =>
  (site.kubernetes.inside()[0]?.core.store.list(R.nodes) ?? []).map((node) => ({
    name: node.metadata.name,
    unschedulable: node.spec?.unschedulable === true,
  }));

describe('patching', () => {
  it('goes round all nodes, one away at a time, while the gateway is killed again and again', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    await site.want(document({}, [], { control: 3, workers: 2 }));
    await site.phase('Running');
    const core = site.kubernetes.inside()[0]?.core;
    core?.ensure(R.deployments, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web', namespace: 'default' },
      spec: {
        replicas: 3,
        selector: { matchLabels: { app: 'web' } },
        template: {
          metadata: { labels: { app: 'web' } },
          spec: { containers: [{ name: 'web', image: 'registry.example/web:1' }] },
        },
      },
    });
    await site.want(document({}, [run('patching')], { control: 3, workers: 2 }));
    let kills = 0;
    const kill = () => {
      kills += 1;
      site.crash();
      killer = site.clock.timer(KILL_EVERY_MS, kill);
    };
    let killer = site.clock.timer(KILL_EVERY_MS, kill);
    try {
      const patched = await ended(site, 'patching', 180_000);
      const names = nodesOf(site).map(({ name }) => name);
      expect(patched).toMatchObject({ state: 'succeeded', summary: { postponed: [] } });
      expect(patched?.summary['rebooted']).toEqual(expect.arrayContaining(names));
      for (const name of names)
        expect(patched?.summary['nodes']).toHaveProperty(name, { upgraded: 3, rebootRequired: true });
    } finally {
      killer[Symbol.dispose]();
    }
    expect(kills).toBeGreaterThan(0);
    // Every node went once: cordoned, empty, with all others there, and etcd kept its quorum.
    const departures = site.kubernetes.departures();
    expect(departures).toHaveLength(5);
    for (const gone of departures) {
      expect(gone).toMatchObject({ cordoned: true, workloads: [], quorumBefore: true, quorumAfter: true });
      expect(gone.readyControlPlanes + gone.readyWorkers).toBe(4);
    }
    expect(nodesOf(site).every(({ unschedulable }) => !unschedulable)).toBe(true);
    await site.phase('Running');
  });

  it('stops at the first node whose packages fail, with what dpkg said', async () => {
    await using site = await SimulatedSite.start({ speed: 200, faults: ['patch-fails:1'] });
    await site.want(document({}, [run('patching')], { workers: 2 }));
    const failed = await ended(site, 'patching');
    expect(failed).toMatchObject({
      state: 'failed',
      error: { message: expect.stringContaining('/usr/bin/dpkg returned an error code') },
    });
    const jobs = site.kubernetes.inside()[0]?.core.store.list(R.jobs) ?? [];
    expect(jobs).toHaveLength(1);
    expect(site.engine.status('cl-demo')?.phase).toBe('Running');
  });

  it.each([
    [2, 'did not'],
    [0, 'did not come back after its reboot, and no API server answers'],
  ])('stops at a node that does not come back: %i workers', async (workers, why) => {
    await using site = await SimulatedSite.start({
      speed: 200,
      faults: ['reboot-hangs:1'],
      timings: { rebootDeadlineMs: 4_000 },
    });
    await site.want(document({ remediation: { enabled: false } }, [run('patching')], { workers }));
    const failed = await ended(site, 'patching');
    expect(failed).toMatchObject({
      state: 'failed',
      error: { code: 'NODE_UNHEALTHY', message: expect.stringContaining(why) },
    });
    expect(site.kubernetes.departures()).toHaveLength(1);
  });

  it('runs by the schedule that a running cluster is given, and no more when it is taken away', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    await site.want(document({}));
    await site.phase('Running');
    expect(site.engine.status('cl-demo')?.policies).toEqual([]);
    await site.want(document({ patching: { schedule: '* * * * *', rebootIfRequired: false } }));
    const patched = await ended(site, 'patching', 120_000);
    expect(patched).toMatchObject({ state: 'succeeded', nextRunAt: expect.stringMatching(/:00\.000Z$/) });
    expect(site.kubernetes.departures()).toEqual([]);
    await site.want(document({}));
    const status = await site.until('taken away', (now) => result(now, 'patching')?.nextRunAt === undefined);
    // What it did last stays to be read.
    expect(result(status, 'patching')).toMatchObject({ state: 'succeeded', lastRunAt: patched?.lastRunAt });
  });
});

describe('scans', () => {
  it('set at creation run one after the other, and their results are the status', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    const never = '0 0 1 1 *';
    const scans = { cis: never, conformance: never, vulnerabilities: never };
    await site.want(document({ scans }));
    const running = await site.phase('Running');
    expect(running.policies.map(({ policy, state }) => `${policy} ${state}`).sort()).toEqual([
      'cis pending',
      'conformance pending',
      'vulnerabilities pending',
    ]);
    inside(site).core.ensure(R.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'odd', namespace: 'default' },
      spec: { containers: [{ name: 'c', image: 'registry.example/odd:1' }] },
    });
    await site.want(document({ scans }, [run('cis'), run('vulnerabilities'), run('conformance')]));
    // All five sections of the benchmark on a control-plane node, the fourth alone on a worker.
    expect(await ended(site, 'cis')).toMatchObject({
      state: 'succeeded',
      summary: {
        'control-plane': { pass: 49, fail: 1, warn: 5, failed: [{ id: '4.1.1' }] },
        worker: { pass: 9, fail: 1, warn: 1, failed: [{ id: '4.1.1' }] },
      },
    });
    const scanned = await ended(site, 'vulnerabilities');
    expect(scanned).toMatchObject({
      state: 'succeeded',
      summary: { critical: 1, high: 1, medium: 0, low: 1, unknown: 0, unscanned: 1 },
    });
    // Also of images that are clean: etcd, the API server and the others.
    expect(scanned?.summary['images']).toBeGreaterThan(5);
    expect(await ended(site, 'conformance')).toMatchObject({
      state: 'succeeded',
      summary: { passed: 411, failed: 0, skipped: 6798 },
    });
  });
});
