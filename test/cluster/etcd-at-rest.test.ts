/** etcd of a cluster that only runs: who its members are is asked now and then, and a dead one of no machine is no secret. */
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { computeConditions } from '../../src/cluster/conditions.ts';
import { EtcdLooks } from '../../src/cluster/etcd-looks.ts';
import { plan, type PlanInput } from '../../src/cluster/plan.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import type { EtcdClient, EtcdMemberHealth } from '../../src/kube/etcd.ts';
import { document as wanted } from '../support/engine.ts';
import { siteBreaches } from '../support/invariants.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { clusterSpec } from '../support/node-input.ts';
import { NOW, scene } from '../support/scenes.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const signal = new AbortController().signal;
const MINUTE = 60_000;
const { etcdRestMs } = DEFAULT_TIMINGS;
const three = { 'cp-1': { shape: 'ready' }, 'cp-2': { shape: 'ready' }, 'cp-3': { shape: 'ready' } } as const;

/** Looks of a cluster, and the questions that etcd got. */
function looks(members: () => Promise<Partial<EtcdMemberHealth>[]>) {
  const clock = new LeapingClock();
  const asked: string[] = [];
  const client = {
    health: async (limited: AbortSignal) => {
      asked.push('members');
      const aborted = new Promise<never>((_resolve, reject) =>
        limited.addEventListener('abort', () => reject(limited.reason as Error)),
      );
      return await Promise.race([members(), aborted]);
    },
    alarms: async () => {
      asked.push('alarms');
      return [];
    },
    async [Symbol.asyncDispose]() {},
  } as unknown as EtcdClient;
  const etcd = new EtcdLooks(clock, silentLog, DEFAULT_TIMINGS.kubeTimeoutMs);
  const look = async (input: PlanInput) => await etcd.observe(input, async () => client, 4500, signal);
  return { clock, asked, look };
}

const sound = { id: '1', name: 'host-1', peerUrls: [] as string[], learner: false, healthy: true };
const dead = {
  id: '77',
  name: 'gone',
  peerUrls: ['https://10.20.0.99:2380'],
  learner: false,
  healthy: false,
};

describe('looks at etcd', () => {
  it('are seldom at rest, often once a member is restless, and then know since when', async () => {
    let found = [sound];
    const { clock, asked, look } = looks(async () => found);
    using _clock = clock;
    const rest = scene(three);
    const minutes = async (count: number) => {
      let seen = await look(rest);
      for (let minute = 0; minute < count; minute += 1) {
        await clock.sleep(MINUTE);
        seen = await look(rest);
      }
      return seen;
    };
    expect((await minutes(19)).etcd?.members).toMatchObject([{ id: '1', healthy: true }]);
    const count = () => asked.filter((what) => what === 'members').length;
    expect(count()).toBe(1 + Math.floor((19 * MINUTE) / etcdRestMs));
    found = [sound, dead];
    await minutes(etcdRestMs / MINUTE);
    const before = count();
    const since = clock.now();
    const seen = await minutes(10);
    expect(count() - before).toBeGreaterThanOrEqual(10);
    const [member] = seen.etcd?.members.filter(({ id }) => id === '77') ?? [];
    expect(member?.restlessSince).toBeLessThanOrEqual(since);
    found = [sound];
    await minutes(2);
    const calm = count();
    await minutes(4);
    expect(count() - calm).toBeLessThanOrEqual(1);
  });

  it('are not made for a cluster that is deleted, and end when etcd says nothing', async () => {
    const { clock, asked, look } = looks(() => new Promise<never>(() => {}));
    using _clock = clock;
    const rest = scene(three);
    const intent = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;
    expect(await look({ ...rest, document: { ...rest.document, intent } })).toEqual({
      etcd: undefined,
      etcdAlarms: [],
    });
    expect(asked).toEqual([]);
    const start = clock.monotonic();
    expect(await look(rest)).toEqual({ etcd: undefined, etcdAlarms: [] });
    expect(clock.monotonic() - start).toBeLessThanOrEqual(3 * DEFAULT_TIMINGS.kubeTimeoutMs);
  });

  it('ask for no members while no API server says whose they are, but for alarms', async () => {
    const { clock, asked, look } = looks(async () => [sound]);
    using _clock = clock;
    const kube = { kind: 'unreachable', reason: 'silent' } as const;
    expect((await look(scene(three, { observed: { kube } }))).etcd).toBeUndefined();
    expect(asked).toEqual(['alarms']);
  });
});

describe('a dead member of no machine, at rest', () => {
  const at = (since: number, changes: Partial<typeof dead> = {}) =>
    scene(three, {
      record: { stage: { kind: 'running', since: NOW } },
      observed: {
        etcd: {
          members: [
            ...['host-1', 'host-2', 'host-3'].map((name, id) => ({ ...sound, id: String(id), name })),
            { ...dead, ...changes, restlessSince: since },
          ],
        },
      },
    });
  const ready = (input: PlanInput) =>
    computeConditions(input, []).find(({ type }) => type === 'ControlPlaneReady');
  const removals = (input: PlanInput) => plan(input).filter(({ kind }) => kind === 'remove-stray-member');

  it('is said after a moment, with what happens next, and goes when its time is over', () => {
    expect(ready(at(NOW - MINUTE + 1))).toMatchObject({ status: 'True' });
    const seen = at(NOW - MINUTE);
    expect(ready(seen)).toMatchObject({
      status: 'False',
      reason: 'Degraded',
      message: expect.stringMatching(
        /3 of 3 nodes are Ready; etcd member gone \(4d, .*belongs to no machine.*It is removed at 20/,
      ),
    });
    expect(removals(seen)).toEqual([]);
    expect(removals(at(NOW - DEFAULT_TIMINGS.strayMemberMs))).toHaveLength(1);
  });

  it('stays while an alarm stands, which is said instead', () => {
    const late = at(NOW - DEFAULT_TIMINGS.strayMemberMs);
    const etcdAlarms = [{ memberId: '1', member: 'host-1', alarm: 'NOSPACE' }];
    const alarmed = { ...late, observed: { ...late.observed, etcdAlarms } };
    expect(removals(alarmed)).toEqual([]);
    expect(ready(alarmed)?.message).toContain('etcd alarm NOSPACE');
  });
});

describe('on the simulator', () => {
  const ready = (status: ClusterStatus) => status.conditions.find(({ type }) => type === 'ControlPlaneReady');

  it('a cluster that nobody touches gets its quorum back', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    const placement = { resourcePool: 'kubernetes' };
    const pools = [{ role: 'control-plane' as const, name: 'cp', size: 3 as const, placement }];
    await site.want(wanted({ spec: clusterSpec({ pools }) }));
    const before = await site.phase('Running');
    const since = site.clock.now();
    const { etcd } = inside(site);
    etcd.add(['https://10.20.99.99:2380'], false);
    expect(etcd.voters()).toHaveLength(4);
    const told = await site.until('degraded', (status) => ready(status)?.reason === 'Degraded');
    expect(ready(told)?.message).toMatch(
      /etcd member without a name .*belongs to no machine of this cluster/,
    );
    expect(told.phase).toBe('Running');
    site.crash();
    await site.until('whole', (status) => ready(status)?.status === 'True' && etcd.voters().length === 3);
    const after = await site.phase('Running');
    expect(after.nodes.map(({ systemId }) => systemId)).toEqual(before.nodes.map(({ systemId }) => systemId));
    expect(siteBreaches(site, { cluster: 'demo', since, workers: 0, controlPlanes: 3 })).toEqual([]);
    const said = (await site.outbox.recentEvents({}, 500)).map(({ reason }) => reason);
    expect(said.filter((reason) => reason === 'StrayEtcdMember')).toHaveLength(1);
  });
});
