/** Alarms of etcd: asked for, shown with cause and next step, and nothing of the control plane moves meanwhile. */
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { computeConditions } from '../../src/cluster/conditions.ts';
import { EtcdLooks } from '../../src/cluster/etcd-looks.ts';
import { plan, sceneOf } from '../../src/cluster/plan.ts';
import { planPools } from '../../src/cluster/rollout.ts';
import { nodeTemplate, sharedSettings } from '../../src/cluster/template.ts';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import type { ConditionType } from '../../src/contract/conditions.ts';
import type { EtcdClient } from '../../src/kube/etcd.ts';
import { alarmFix, describeAlarms, type EtcdAlarm } from '../../src/kube/etcd-alarms.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { clusterSpec } from '../support/node-input.ts';
import { NOW, scene } from '../support/scenes.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const signal = new AbortController().signal;
const full: EtcdAlarm = { memberId: '7', member: 'host-2', alarm: 'NOSPACE' };
const corrupt: EtcdAlarm = { memberId: '8', member: '', alarm: 'CORRUPT' };

describe('alarms in words', () => {
  it('name the worst, its members, its cause and what a person does', () => {
    expect(describeAlarms([])).toBeUndefined();
    expect(describeAlarms([full])).toBe(
      'etcd alarm NOSPACE on host-2: the database has reached its quota and takes no writes',
    );
    expect(alarmFix([full])).toContain('--quota-backend-bytes');
    expect(describeAlarms([full, corrupt])).toContain('etcd alarm CORRUPT on 8:');
    expect(alarmFix([full, corrupt])).toContain('restore a snapshot');
    const later = { ...full, alarm: 'LATER' };
    expect(describeAlarms([later])).toContain('etcd alarm LATER on host-2');
    expect(alarmFix([later])).toContain('etcdctl alarm list');
  });
});

describe('looks at alarms', () => {
  it('are as rare as asked for, and believe an alarm until etcd says that it is gone', async () => {
    using clock = new LeapingClock();
    const looks = new EtcdLooks(clock, silentLog, 1000);
    let answer: (limited: AbortSignal) => Promise<EtcdAlarm[]> = async () => [full];
    let asked = 0;
    const open = async () =>
      ({
        alarms: async (limited: AbortSignal) => {
          asked += 1;
          return await answer(limited);
        },
        async [Symbol.asyncDispose]() {},
      }) as unknown as EtcdClient;
    const look = () => looks.alarms(open, 60_000, signal);
    expect(await look()).toEqual([full]);
    expect(await look()).toEqual([full]);
    expect(asked).toBe(1);
    answer = () => Promise.reject(new Error('request timed out'));
    await clock.sleep(60_000);
    expect(await look()).toEqual([full]);
    // swallowed on the way
    answer = (limited) =>
      new Promise((_, reject) => limited.addEventListener('abort', () => reject(limited.reason)));
    await clock.sleep(60_000);
    expect(await look()).toEqual([full]);
    answer = async () => [];
    await clock.sleep(60_000);
    expect(await look()).toEqual([]);
    expect(asked).toBe(4);
  });
});

const three = { 'cp-1': { shape: 'ready' }, 'cp-2': { shape: 'ready' }, 'cp-3': { shape: 'ready' } } as const;
const kinds = (steps: ReturnType<typeof plan>) =>
  steps.map((step) => ('node' in step ? `${step.kind} ${step.node}` : step.kind));

describe.each([['NOSPACE', full] as const, ['CORRUPT', corrupt] as const])('an alarm %s', (name, alarm) => {
  const observed = { etcdAlarms: [alarm] };
  const said = (input: ReturnType<typeof scene>, type: ConditionType) =>
    computeConditions(input, []).find((condition) => condition.type === type);

  it('is a condition with cause and next step, also while the API server is silent', () => {
    const kube = { kind: 'unreachable', reason: 'no answer' } as const;
    for (const more of [{}, { kube }])
      expect(said(scene(three, { observed: { ...observed, ...more } }), 'ControlPlaneReady')).toMatchObject({
        status: 'False',
        reason: 'Degraded',
        message: expect.stringMatching(new RegExp(`etcd alarm ${name} on .*etcdctl alarm disarm`)),
      });
  });

  it('lets no control-plane node join, while workers do', () => {
    const booted = { ...three, 'cp-3': { shape: 'booted' }, 'w-1': { shape: 'booted' } } as const;
    expect(kinds(plan(scene(booted)))).toContain('grant-token cp-3');
    const steps = kinds(plan(scene(booted, { observed })));
    expect(steps).not.toContain('grant-token cp-3');
    expect(steps).toContain('grant-token w-1');
  });

  it('stops scale-down and rollout before their next step, and the condition says so', () => {
    const pool = { role: 'control-plane', name: 'cp', rollout: 'contract-first' } as const;
    const sized = (size: 1 | 3): Partial<ClusterDocument> => ({
      spec: clusterSpec({ pools: [{ ...pool, size }] }),
    });
    const small = { document: sized(1) };
    expect(kinds(plan(scene(three, small)))).toContain('remove-nodes');
    expect(kinds(plan(scene(three, { ...small, observed })))).not.toContain('remove-nodes');
    const { document } = scene(three, { document: sized(3) });
    const [own] = document.spec.pools;
    if (!own) throw new Error('no pool');
    const node = { shape: 'ready', template: nodeTemplate(document, own) } as const;
    const rotating = (alarms: readonly EtcdAlarm[]) =>
      scene(
        { 'cp-1': node, 'cp-2': node, 'cp-3': node },
        {
          document: sized(3),
          record: { rotateRequestedAt: NOW, controlPlaneSettings: sharedSettings(document) },
          observed: { etcdAlarms: alarms },
        },
      );
    expect(planPools(sceneOf(rotating([])))).toMatchObject([{ kind: 'remove-nodes' }]);
    expect(planPools(sceneOf(rotating([alarm])))).toEqual([]);
    expect(said(rotating([alarm]), 'UpToDate')).toMatchObject({
      reason: 'WaitingForControlPlane',
      message: expect.stringContaining(`etcd alarm ${name}`),
    });
  });
});

describe('in the simulator', () => {
  const ready = (status: ClusterStatus) => status.conditions.find(({ type }) => type === 'ControlPlaneReady');

  it.each(['etcd-nospace', 'etcd-corrupt'])(
    '%s is seen at rest, holds a scale-up back, and lets it go on',
    async (fault) => {
      await using site = await SimulatedSite.start({ speed: 200 });
      const placement = { resourcePool: 'kubernetes' };
      const document = (size: 1 | 3) =>
        wanted({ spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size, placement }] }) });
      await site.want(document(1));
      await site.phase('Running');
      site.simulator.faults.replace([parseFault(fault)]);
      const sick = await site.until('degraded', (status) => ready(status)?.reason === 'Degraded');
      expect(ready(sick)?.message).toMatch(/etcd alarm (NOSPACE|CORRUPT) on \S+: .*etcdctl alarm disarm/);
      await site.want(document(3));
      const held = await site.until('held back', ({ nodes }) =>
        nodes.some(({ tasks }) =>
          tasks.some(({ waitingFor }) => waitingFor?.includes('etcd alarm') === true),
        ),
      );
      expect(held.nodes.filter(({ phase }) => phase === 'Ready')).toHaveLength(1);
      const [waiting] = held.nodes.flatMap(({ tasks }) => tasks.filter(({ error }) => error !== undefined));
      expect(waiting?.error).toMatchObject({
        code: 'ETCD_QUORUM_AT_RISK',
        fix: expect.stringContaining('etcdctl'),
      });
      expect(site.kubernetes.clusters()[0]?.etcd.members).toHaveLength(1);
      site.simulator.faults.replace([]);
      const whole = await site.phase('Running');
      expect(whole.nodes.filter(({ phase }) => phase === 'Ready')).toHaveLength(3);
      expect(ready(whole)?.status).toBe('True');
    },
  );
});
