/**
 * Faults of the simulated Kubernetes by their names (`pcg simulate --fault ...`), as the user meets them: a coded
 * cause and the next step in the status, and the cluster whole again once the trouble is over.
 */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { deployWeb, webPods, webReady } from '../support/workload.ts';

const SPEED = 200;
const placement = { resourcePool: 'kubernetes' };

function document(
  workers: number,
  changes: {
    maxReplacements?: number;
    control?: 1 | 3;
    version?: string;
    rollout?: 'expand-first' | 'contract-first';
    actions?: ClusterDocument['actions'];
  } = {},
) {
  const { maxReplacements = 1, version = 'v1.36.1', rollout = 'contract-first', actions = [] } = changes;
  const profile = resolvedProfile();
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: changes.control ?? 1, rollout, placement },
        { role: 'worker', name: 'workers', size: workers, rollout, placement },
      ],
      policies: { remediation: { maxReplacements } },
    }),
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
    actions,
  });
}

const retry: ClusterDocument['actions'] = [{ id: 'ac-retry', kind: 'retry' }];
const condition = (status: ClusterStatus, name: string) =>
  status.conditions.find(({ type }) => type === name);

describe('a user who meets', () => {
  it('init-fails learns which script failed where, and retries when it is mended', async () => {
    await using site = await SimulatedSite.start({
      speed: SPEED,
      faults: ['init-fails'],
      timings: { quarantineMs: 100 },
    });
    await site.want(document(0));
    const failed = await site.phase('Failed');
    expect(failed.error).toMatchObject({
      code: 'TOO_MANY_FAILED_MACHINES',
      userFixable: true,
      details: { replaced: 1, cause: { code: 'BOOTSTRAP_FAILED' } },
    });
    expect(failed.error?.fix).toContain('bootstrap script');
    const [node] = failed.nodes.filter(({ error }) => error !== undefined);
    expect(node?.error?.code).toBe('BOOTSTRAP_FAILED');
    expect(node?.systemId).toBeDefined();
    site.simulator.faults.replace([]);
    await site.want(document(0, { actions: retry }));
    await site.phase('Running');
  });

  it('join-hangs learns which node did not join, while the rest goes on', async () => {
    await using site = await SimulatedSite.start({ speed: SPEED });
    await site.want(document(0));
    await site.phase('Running');
    site.simulator.faults.replace([parseFault('join-hangs:2')]);
    await site.want(document(1));
    const failed = await site.until('failed', ({ nodes }) => nodes.some(({ error }) => error !== undefined));
    const [node] = failed.nodes.filter(({ error }) => error !== undefined);
    expect(node?.error).toMatchObject({
      code: 'BOOTSTRAP_TIMEOUT',
      message: expect.stringContaining('did not join'),
    });
    expect(failed.error).toMatchObject({ code: 'TOO_MANY_FAILED_MACHINES' });
    expect(condition(failed, 'ControlPlaneReady')?.status).toBe('True');
    await site.want(document(1, { actions: retry }));
    await site.phase('Running');
  });

  it('cni-never-ready learns that it is the network add-on, and no machine is blamed for it', async () => {
    await using site = await SimulatedSite.start({ speed: SPEED, faults: ['cni-never-ready'] });
    await site.want(document(1));
    const failed = await site.phase('Failed');
    expect(failed.error).toMatchObject({
      code: 'CNI_NOT_READY',
      userFixable: true,
      fix: expect.stringContaining('network add-on'),
    });
    expect(condition(failed, 'NetworkReady')).toMatchObject({ status: 'False', reason: 'Failed' });
    // As long again as a machine gets to become Ready.
    await site.clock.sleep(site.timings.joinDeadlineMs * 1.5);
    const said = await site.outbox.recentEvents({}, 300);
    expect(said.filter(({ reason }) => reason === 'MachineFailed')).toEqual([]);
  });

  it('pdb-blocks learns what holds the drain back, and it goes on by itself', async () => {
    await using site = await SimulatedSite.start({ speed: SPEED, timings: { drainDeadlineMs: 60_000 } });
    await site.want(document(2));
    const before = await site.phase('Running');
    deployWeb(site, { minAvailable: 1 });
    await site.until('workload', () => webReady(site));
    site.simulator.faults.add(parseFault('pdb-blocks'));
    const hostname = webPods(site)[0]?.spec?.nodeName;
    const victim = before.nodes.find((node) => node.hostname === hostname);
    await site.want(
      document(2, { actions: [{ id: 'ac-replace', kind: 'replace-node', machine: victim?.systemId ?? '' }] }),
    );
    const drainOf = ({ nodes }: ClusterStatus) =>
      nodes.find(({ name }) => name === victim?.name)?.tasks.find(({ name }) => name === 'drain');
    const blocked = await site.until('blocked', (status) => drainOf(status)?.error !== undefined);
    expect(drainOf(blocked)?.error).toMatchObject({ code: 'DRAIN_BLOCKED', userFixable: true });
    expect(drainOf(blocked)?.error?.fix).not.toBe('');
    expect(drainOf(blocked)?.waitingFor).toContain('default/web-');
    site.simulator.faults.replace([]);
    await site.until(
      'replaced',
      ({ phase, nodes }) => phase === 'Running' && nodes.every(({ name }) => name !== victim?.name),
    );
  });

  it('api-flaps sees Unknown while nothing answers, and no node is touched', async () => {
    await using site = await SimulatedSite.start({ speed: 100, timings: { kubeProbeMs: 50, restMs: 100 } });
    await site.want(document(1));
    const before = await site.phase('Running');
    site.simulator.faults.add(parseFault('api-flaps'));
    const away = await site.until('away', (status) => condition(status, 'Available')?.status === 'Unknown');
    expect(condition(away, 'Available')).toMatchObject({ reason: 'Unreachable' });
    await site.until('back', (status) => condition(status, 'Available')?.status === 'True');
    await site.until('away again', (status) => condition(status, 'Available')?.status === 'Unknown');
    site.simulator.faults.replace([]);
    const after = await site.until(
      'whole',
      ({ phase, ...status }) =>
        phase === 'Running' &&
        status.conditions.every(({ type, status: state }) => type === 'Deleting' || state === 'True'),
    );
    expect(after.nodes.map(({ name, systemId }) => [name, systemId])).toEqual(
      before.nodes.map(({ name, systemId }) => [name, systemId]),
    );
    const said = await site.outbox.recentEvents({}, 300);
    expect(
      said.filter(({ reason }) => ['MachineFailed', 'PowerCycling', 'MachineReleased'].includes(reason)),
    ).toEqual([]);
  });

  it('vip-taken learns that the address leads elsewhere, before a single worker joins', async () => {
    await using site = await SimulatedSite.start({ speed: SPEED, faults: ['vip-taken'] });
    await site.want(document(1));
    const failed = await site.phase('Failed');
    expect(failed.error).toMatchObject({
      code: 'VIP_UNAVAILABLE',
      userFixable: true,
      message: expect.stringContaining('answers on its own address'),
      fix: expect.stringContaining('no other host uses the address'),
    });
    expect(condition(failed, 'Available')).toMatchObject({ status: 'False', reason: 'WaitingForEndpoint' });
    expect(failed.nodes.filter(({ role, phase }) => role === 'worker' && phase === 'Ready')).toEqual([]);
    const said = await site.outbox.recentEvents({}, 300);
    expect(said.filter(({ reason }) => reason === 'MachineFailed')).toEqual([]);
  });
});

describe('a rollout without a spare machine', () => {
  it('says so in the preview and offers Contract first, which then works', async () => {
    await using site = await SimulatedSite.start({ speed: SPEED });
    const shape = { control: 3, rollout: 'expand-first' } as const;
    await site.want(document(1, { ...shape, version: 'v1.35.4' }));
    const before = await site.phase('Running');
    // Everything that is free is kept from us.
    for (const machine of site.simulator.region.machines.values())
      if (machine.owner === null && machine.status === 'ready') machine.locked = true;
    await site.want(document(1, shape));
    const preview = await site.until('preview', ({ rollout }) => rollout?.error !== undefined);
    expect(preview.rollout).toMatchObject({
      state: 'preview',
      error: { code: 'NO_SPARE_MACHINE', fix: expect.stringContaining('Contract first'), userFixable: true },
    });
    expect(condition(preview, 'UpToDate')).toMatchObject({ status: 'False', reason: 'WaitingForMachines' });
    const actions = [{ id: 'ac-go', kind: 'approve-rollout' as const, plan: preview.rollout?.plan ?? '' }];
    await site.want(document(1, { ...shape, actions }));
    await site.until('blocked', ({ rollout }) => rollout?.state === 'blocked');
    await site.clock.sleep(500);
    const said = await site.outbox.recentEvents({}, 300);
    expect(said.filter(({ reason }) => reason === 'UpgradePrepared')).toEqual([]);
    expect(site.engine.status('cl-demo')?.nodes.map(({ name }) => name)).toEqual(
      before.nodes.map(({ name }) => name),
    );
    // What was approved stays approved: only the way changes.
    await site.want(document(1, { ...shape, rollout: 'contract-first', actions }));
    await site.until(
      'upgraded',
      ({ phase, nodes }) =>
        phase === 'Running' &&
        nodes.length === 4 &&
        nodes.every(({ kubernetesVersion }) => kubernetesVersion === 'v1.36.1'),
      { withinMs: 90_000 },
    );
  });
});
