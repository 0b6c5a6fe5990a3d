/** etcd members that belong to no machine: removed when it is safe, on three real etcd processes and on the simulator. */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { StepContext } from '../../src/cluster/context.ts';
import type { ClusterRecord } from '../../src/cluster/model.ts';
import { plan } from '../../src/cluster/plan.ts';
import { removeStrayMember } from '../../src/cluster/steps/remove-stray-member.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import { createEtcdClient, type EtcdClient, type EtcdMemberHealth } from '../../src/kube/etcd.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document as wanted, EngineHarness } from '../support/engine.ts';
import { createEtcdNodes, type EtcdNode, patiently } from '../support/etcd.ts';
import { FakeSite } from '../support/fake-site.ts';
import { leaks, NO_LEAKS, siteBreaches } from '../support/invariants.ts';
import { describeWith } from '../support/needs.ts';
import { clusterSpec } from '../support/node-input.ts';
import { patientClock } from '../support/patient-clock.ts';
import { NOW, type NodeLiteral, scene } from '../support/scenes.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const signal = new AbortController().signal;
const LONG_AGO = NOW - DEFAULT_TIMINGS.strayMemberMs;
const READY: Record<string, NodeLiteral> = {
  'cp-1': { shape: 'ready' },
  'cp-2': { shape: 'ready' },
  'cp-3': { shape: 'ready' },
};

interface MemberLiteral {
  readonly name?: string;
  readonly address?: string;
  readonly learner?: boolean;
  readonly healthy?: boolean;
  readonly restlessSince?: number;
}

/** Healthy members of the scene's control plane, and these. */
function planned(
  others: Record<string, MemberLiteral>,
  options: { nodes?: Record<string, NodeLiteral>; sick?: string[] } = {},
) {
  const literals = options.nodes ?? READY;
  const base = scene(literals);
  const hosts = base.record.nodes.flatMap(({ name, claim }) =>
    'hostname' in claim && literals[name]?.shape === 'ready' ? [{ name, host: claim.hostname }] : [],
  );
  const members = [
    ...hosts.map(({ name, host }, index) => ({
      id: String(index + 1),
      name: host,
      peerUrls: [],
      learner: false,
      healthy: !(options.sick ?? []).includes(name),
    })),
    ...Object.entries(others).map(([id, { name = '', address = '10.20.0.99', ...rest }]) => ({
      id,
      name,
      peerUrls: [`https://${address}:2380`],
      learner: false,
      healthy: false,
      ...(rest.healthy === true && rest.learner !== true ? {} : { restlessSince: LONG_AGO }),
      ...rest,
    })),
  ];
  const input = { ...base, observed: { ...base.observed, etcd: { members } } };
  return {
    input,
    removed: plan(input).flatMap((step) => (step.kind === 'remove-stray-member' ? [step.member] : [])),
  };
}

describe('the plan removes an etcd member of no machine', () => {
  it('that never started, that is silent, or that never became a voter, once the time is over', () => {
    expect(planned({ '77': {} }).removed).toEqual(['77']);
    expect(planned({ '77': { name: 'gone' } }).removed).toEqual(['77']);
    expect(planned({ '77': { name: 'gone', learner: true, healthy: true } }).removed).toEqual(['77']);
    expect(planned({ '77': { restlessSince: LONG_AGO + 1 } }).removed).toEqual([]);
    expect(planned({ '77': { name: 'person', healthy: true } }).removed).toEqual([]);
  });

  it('but none that a machine of the record or a Node of the API server is', () => {
    const { input } = planned({});
    const [reading] = input.observed.machines.values();
    const address = reading?.machine?.ipAddresses[0] ?? '';
    expect(address).not.toBe('');
    expect(planned({ '77': { address } }).removed).toEqual([]);
    expect(planned({ '77': { name: reading?.machine?.hostname ?? '' } }).removed).toEqual([]);
    const { observed } = input;
    if (observed.kube.kind !== 'reachable') throw new Error('the scene is wrong');
    const [first] = observed.kube.nodes;
    if (!first) throw new Error('the scene has no Node');
    for (const guest of [
      { ...first, name: 'guest', systemId: undefined },
      { ...first, name: 'other', systemId: undefined, internalIp: '10.20.0.99' },
    ]) {
      const name = guest.name === 'guest' ? 'guest' : '';
      const members = planned({ '77': { name } }).input.observed.etcd?.members ?? [];
      const kube = { ...observed.kube, nodes: [...observed.kube.nodes, guest] };
      const steps = plan({ ...input, observed: { ...observed, kube, etcd: { members } } });
      expect(steps.map(({ kind }) => kind)).not.toContain('remove-stray-member');
    }
  });

  it('one at a time, the learner first, and never against quorum', () => {
    expect(planned({ '77': { name: 'a' }, '78': { learner: true } }).removed).toEqual(['78']);
    expect(planned({ '77': { name: 'a' }, '78': { name: 'b' } }).removed).toEqual(['77']);
    // 2 of 4 voters answer: etcd takes no change.
    expect(planned({ '77': { name: 'a' } }, { sick: ['cp-2'] }).removed).toEqual([]);
    // 3 of 5: the member of no machine is the one that may go.
    const nodes = { ...READY, 'cp-4': { shape: 'ready' } } as const;
    expect(planned({ '77': { name: 'a' } }, { nodes, sick: ['cp-2'] }).removed).toEqual(['77']);
  });

  it('not while somebody joins: it may be his', () => {
    const token = { id: 't', secret: 's', grantedAt: NOW - 1, expiresAt: NOW + 3_600_000 };
    const joining: NodeLiteral = { shape: 'booted', token };
    expect(planned({ '77': { learner: true } }, { nodes: { ...READY, 'cp-4': joining } }).removed).toEqual(
      [],
    );
    const waiting: NodeLiteral = { shape: 'booted' };
    expect(planned({ '77': { learner: true } }, { nodes: { ...READY, 'cp-4': waiting } }).removed).toEqual([
      '77',
    ]);
  });
});

/** An executor's surroundings: this etcd, this record, and what it says. */
function surroundings(etcd: () => EtcdClient) {
  const { input } = planned({});
  let record: ClusterRecord = { ...input.record, nodes: [] };
  const said: { reason: string; data?: unknown }[] = [];
  const context = {
    ...input,
    clock: systemClock,
    record: () => record,
    commit: async (change: (before: ClusterRecord) => ClusterRecord) => {
      record = change(record);
      return record;
    },
    event: async (event: { reason: string; data?: unknown }) => void said.push(event),
    etcd: async () => etcd(),
    kube: () => ({ list: async () => ({ items: [], resourceVersion: '1' }) }),
  } as unknown as StepContext;
  return { context, said, record: () => record };
}

async function until(client: () => EtcdClient, test: (members: EtcdMemberHealth[]) => boolean) {
  let last: unknown;
  for (let attempt = 0; attempt < 600; attempt += 1) {
    await using one = client();
    try {
      const members = await one.health(signal);
      if (test(members)) return members;
      last = members;
    } catch (error) {
      last = error;
    }
    await systemClock.sleep(100);
  }
  return expect.fail(`etcd did not get there: ${JSON.stringify(last)}`);
}

async function three(cluster: Awaited<ReturnType<typeof createEtcdNodes>>) {
  const nodes: EtcdNode[] = [];
  for (const name of ['cp-1', 'cp-2', 'cp-3']) nodes.push(await cluster.node(name));
  for (const node of nodes) node.start('new', nodes);
  const client = () =>
    createEtcdClient(
      nodes.map(({ clientUrl }) => clientUrl),
      cluster.identity,
      { clock: patientClock },
    );
  const calm = (count: number) => (members: EtcdMemberHealth[]) =>
    members.length === count &&
    members.every(({ healthy }) => healthy) &&
    members.some(({ leader }) => leader);
  await until(client, calm(3));
  return { nodes, client, calm };
}

describeWith(['etcd'], 'on three real etcd processes', () => {
  it('a learner that never started goes, with what was known of it', async () => {
    await using cluster = await createEtcdNodes();
    const { client, calm } = await three(cluster);
    const ghost = await cluster.node('ghost');
    const id = await patiently(async () => {
      await using one = client();
      return await one.addLearner(ghost.peerUrl, signal);
    });
    const { context, said, record } = surroundings(client);
    await patiently(() => removeStrayMember({ member: id }, context, signal));
    await until(client, calm(3));
    expect(said.map(({ reason }) => reason)).toEqual(['StrayEtcdMember', 'EtcdMemberRemoved']);
    expect(said[0]?.data).toMatchObject({
      evidence: {
        members: expect.arrayContaining([expect.objectContaining({ id, learner: true, name: '' })]),
      },
    });
    expect(record().strayMember).toBeUndefined();
    await removeStrayMember({ member: id }, context, signal); // done by somebody else: nothing to do, nothing to say
    expect(said).toHaveLength(2);
  });

  it('a voter that died goes; one that answers again or one too many stays', async () => {
    await using cluster = await createEtcdNodes();
    const { nodes, client, calm } = await three(cluster);
    const idOf = (members: EtcdMemberHealth[], name: string) =>
      members.find((member) => member.name === name)?.id ?? expect.fail(`no member ${name}`);
    const all = await until(client, calm(3));
    const { context, said } = surroundings(client);
    await removeStrayMember({ member: idOf(all, 'cp-3') }, context, signal);
    expect(said).toEqual([]);
    expect(await until(client, calm(3))).toHaveLength(3);

    await nodes[2]?.kill();
    const alive = (count: number) => (members: EtcdMemberHealth[]) =>
      members.filter(({ healthy }) => healthy).length === count && members.some(({ leader }) => leader);
    await until(client, alive(2));
    await patiently(() => removeStrayMember({ member: idOf(all, 'cp-3') }, context, signal));
    const left = await until(client, calm(2));
    expect(left.map(({ name }) => name).sort()).toEqual(['cp-1', 'cp-2']);
    expect(said.map(({ reason }) => reason)).toEqual(['StrayEtcdMember', 'EtcdMemberRemoved']);

    // Without quorum nothing is taken out, and nothing is said of a removal.
    await nodes[1]?.kill();
    const failed = await removeStrayMember({ member: idOf(all, 'cp-2') }, context, signal).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failed).toMatchObject({ code: expect.stringMatching(/ETCD_QUORUM_AT_RISK|KUBE_UNREACHABLE/) });
    expect(said).toHaveLength(2);
  });
});

const placement = { resourcePool: 'kubernetes' };
const cluster = (control: 1 | 3 | 5) =>
  wanted({ spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: control, placement }] }) });

async function grown(site: SimulatedSite, control: 1 | 3 | 5) {
  await site.want(cluster(control));
  return await site.until(
    `${control} control-plane nodes`,
    ({ phase, nodes }) =>
      phase === 'Running' && nodes.length === control && nodes.every((node) => node.phase === 'Ready'),
  );
}

async function gone(site: SimulatedSite, control: 1 | 3 | 5) {
  const intent = {
    kind: 'delete',
    requestedAt: new Date(site.clock.now()).toISOString(),
    reason: 'delete',
  } as const;
  await site.want({ ...cluster(control), intent });
  await site.phase('Deleted');
  expect(leaks(site)).toEqual(NO_LEAKS);
}

const memberNames = (site: SimulatedSite) =>
  inside(site)
    .etcd.members()
    .map(({ name, up, isLearner }) => ({ named: name !== '', up, isLearner }));
const VOTER = { named: true, up: true, isLearner: false };

describe('on the simulator', () => {
  it('a learner that a failed join left behind does not keep a control plane from growing', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    await grown(site, 1);
    inside(site).etcd.add(['https://10.20.99.99:2380'], true);
    const since = site.clock.now();
    await grown(site, 3);
    expect(memberNames(site)).toEqual([VOTER, VOTER, VOTER]);
    expect(siteBreaches(site, { cluster: 'demo', since, workers: 0, controlPlanes: 1 })).toEqual([]);
    const events = await site.outbox.recentEvents({}, 300);
    expect(events.filter(({ reason }) => reason === 'StrayEtcdMember')).toHaveLength(1);
    await gone(site, 3);
  });
});

describe('through kills', () => {
  it('a dead voter is removed once, and the control plane grows', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site, { strayMemberMs: 1000 });
    const control = (size: 1 | 3 | 5) =>
      wanted({ spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size }] }) });
    await harness.want(control(3));
    await harness.phase('Running');
    const [api] = site.apis.values();
    if (!api) throw new Error('there is no API server');
    api.etcd.set('7077', { ip: '10.20.9.9', hostname: 'ghost' });
    await harness.want(control(5));
    const waits = await harness.until('somebody who waits for it', ({ nodes }) =>
      nodes.some(({ tasks }) => tasks.some(({ error }) => error?.code === 'ETCD_QUORUM_AT_RISK')),
    );
    const told = waits.nodes.flatMap(({ tasks }) => tasks.flatMap(({ error }) => error ?? []));
    expect(told[0]?.fix).toMatch(/^It is removed at 20.*Bring it back before that/);
    // Killed when the removal is on disk and nothing of it is done yet.
    let kills = 0;
    using _watch = harness.records.watch(COLLECTIONS.clusters, (key) => {
      void harness.records.get<ClusterRecord>(COLLECTIONS.clusters, key).then((stored) => {
        if (kills > 0 || stored?.value.strayMember === undefined) return;
        kills += 1;
        harness.crash();
      });
    });
    await harness.until(
      'five nodes',
      ({ phase, nodes }) =>
        phase === 'Running' && nodes.filter((node) => node.phase === 'Ready').length === 5,
    );
    expect(kills).toBe(1);
    expect(api.etcd.has('7077')).toBe(false);
    expect(api.etcd.size).toBe(5);
    expect(site.violations).toEqual([]);
    const events = await harness.outbox.recentEvents({}, 500);
    const [evidence, ...more] = events.filter(({ reason }) => reason === 'StrayEtcdMember');
    expect(more).toEqual([]);
    expect(JSON.stringify(evidence?.data)).toContain('"name":"ghost"');
  });
});
