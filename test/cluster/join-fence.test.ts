/**
 * A machine that is given up while it joins a control plane of one: kubeadm on it may reach etcd at any moment until it
 * is off, and must not become the voter that takes the majority along. On a real etcd and on the simulator.
 */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { StepContext } from '../../src/cluster/context.ts';
import type { ClusterRecord, NodeRecord } from '../../src/cluster/model.ts';
import { plan } from '../../src/cluster/plan.ts';
import { removeEtcdMember } from '../../src/cluster/steps/withdraw.ts';
import { createEtcdClient, type EtcdClient, type EtcdMember } from '../../src/kube/etcd.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document as wanted } from '../support/engine.ts';
import { createEtcdNodes, type EtcdNode, patiently } from '../support/etcd.ts';
import { leaks, NO_LEAKS, siteBreaches } from '../support/invariants.ts';
import { describeWith } from '../support/needs.ts';
import { clusterSpec } from '../support/node-input.ts';
import { patientClock } from '../support/patient-clock.ts';
import { NOW, scene } from '../support/scenes.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const signal = new AbortController().signal;
const GRANTED = { id: 't', secret: 's', grantedAt: NOW - 60_000, revokedAt: NOW - 1 };
const LEAVES = { kind: 'remove', reason: 'scale-down', since: NOW - 1 } as const;

/** The step on cp-2, which leaves; its host has the name of the etcd process that plays it. */
function leaving(
  etcd: () => EtcdClient,
  changes: Partial<NodeRecord> = {},
  seen: 'no Node' | 'registered' | 'marked' = 'no Node',
  address = '10.20.0.2',
) {
  const input = scene({
    'cp-1': { shape: 'ready' },
    'cp-2': { shape: 'booted', token: GRANTED, intent: LEAVES },
  });
  let record: ClusterRecord = {
    ...input.record,
    nodes: input.record.nodes.map((node) => (node.name === 'cp-2' ? { ...node, ...changes } : node)),
  };
  const host = record.nodes.flatMap(({ name, claim }) =>
    name === 'cp-2' && 'hostname' in claim ? [claim.hostname] : [],
  )[0];
  const labels = seen === 'marked' ? { 'node-role.kubernetes.io/control-plane': '' } : {};
  const status = { addresses: [{ type: 'InternalIP', address }] };
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: host, labels }, status };
  const items = seen === 'no Node' ? [] : [node];
  const context = {
    ...input,
    clock: systemClock,
    record: () => record,
    commit: async (change: (before: ClusterRecord) => ClusterRecord) => {
      record = change(record);
      return record;
    },
    event: async () => {},
    etcd: async () => etcd(),
    kube: () => ({ list: async () => ({ items, resourceVersion: '1' }) }),
  } as unknown as StepContext;
  const step = () => removeEtcdMember({ node: 'cp-2' }, context, signal);
  const off = () => {
    record = {
      ...record,
      nodes: record.nodes.map((node) =>
        node.name === 'cp-2' && node.claim.kind === 'held'
          ? {
              ...node,
              claim: {
                kind: 'released',
                systemId: node.claim.systemId,
                hostname: node.claim.hostname,
                at: NOW,
              },
            }
          : node,
      ),
    };
  };
  return { step, off, host: host ?? '' };
}

async function until(client: () => EtcdClient, test: (members: readonly EtcdMember[]) => boolean) {
  await patiently(async () => {
    await using one = client();
    const members = await one.health(signal);
    if (!test(members) || !members.some(({ leader }) => leader)) throw new Error(JSON.stringify(members));
  });
}

describeWith(['etcd'], 'on real etcd processes', () => {
  async function started(names: readonly string[]) {
    const cluster = await createEtcdNodes();
    const nodes: EtcdNode[] = [];
    for (const name of names) nodes.push(await cluster.node(name));
    for (const node of nodes) node.start('new', nodes);
    const client = () =>
      createEtcdClient(
        nodes.map(({ clientUrl }) => clientUrl),
        cluster.identity,
        { clock: patientClock },
      );
    await until(client, (members) => members.length === names.length);
    return { cluster, nodes, client, [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose]() };
  }
  const members = async (client: () => EtcdClient) => {
    await using one = client();
    return (await one.members(signal))
      .map(({ name, learner }) => `${name}${learner ? ' learner' : ''}`)
      .sort();
  };
  /** As kubeadm on the machine that is given up. */
  const joins = async (client: () => EtcdClient, peerUrl: string) => {
    await using one = client();
    return await one.addLearner(peerUrl, signal);
  };

  it('nobody comes in between the last look and the power-off, however often the step is begun', async () => {
    await using s = await started(['cp-1']);
    const late = await s.cluster.node('late');
    const { step, off } = leaving(s.client);
    await patiently(step);
    await expect(joins(s.client, late.peerUrl)).rejects.toThrow('too many learner');
    await step();
    expect(await members(s.client)).toEqual([' learner', 'cp-1']);
    off();
    await patiently(step);
    expect(await members(s.client)).toEqual(['cp-1']);
    await patiently(() => joins(s.client, late.peerUrl));
  });

  it('one that had come in goes again first, a learner as well as a voter', async () => {
    await using s = await started(['cp-1']);
    const { step, host } = leaving(s.client);
    const late = await s.cluster.node(host);
    await patiently(() => joins(s.client, late.peerUrl));
    late.start('existing', s.nodes);
    await until(s.client, (all) => all.some(({ name, learner }) => name === host && learner));
    await patiently(async () => {
      await using one = s.client();
      const own = (await one.members(signal)).find(({ name }) => name === host);
      if ((await one.promote(own?.id ?? '', signal)) === 'behind') throw new Error('not in sync yet');
    });
    await until(s.client, (all) => all.length === 2 && all.every(({ learner }) => !learner));
    await patiently(step);
    await late.ended();
    expect(await members(s.client)).toEqual([' learner', 'cp-1']);
    const again = leaving(s.client);
    again.off();
    await patiently(again.step);
    expect(await members(s.client)).toEqual(['cp-1']);
  });

  it('somebody else who is the learner is not passed over: the machine stays on until he is known', async () => {
    await using s = await started(['cp-1']);
    const unnamed = await s.cluster.node('unnamed');
    await patiently(() => joins(s.client, unnamed.peerUrl));
    await expect(leaving(s.client).step()).rejects.toMatchObject({ retryable: true });
  });

  it('no place is held where it is not needed: the node is a member for long, or two others outvote it', async () => {
    await using s = await started(['cp-1']);
    await patiently(leaving(s.client, {}, 'marked').step);
    const { grantedAt: _never, ...token } = GRANTED;
    await patiently(leaving(s.client, { token }).step);
    expect(await members(s.client)).toEqual(['cp-1']);
    await using two = await started(['cp-1', 'cp-3']);
    await patiently(leaving(two.client).step);
    expect(await members(two.client)).toEqual(['cp-1', 'cp-3']);
  });
});

/** etcd of one voter, as far as the step asks it; `onList` says what happens beside the list of that number. */
function etcdOf(members: EtcdMember[], onList: (list: number) => void = () => {}) {
  let lists = 0;
  return {
    members: async () => {
      const seen = structuredClone(members);
      onList((lists += 1));
      return seen;
    },
    remove: async (id: string) => {
      const index = members.findIndex((member) => member.id === id);
      return index < 0 ? 'absent' : (members.splice(index, 1), 'removed');
    },
    addLearner: async (peerUrl: string) => {
      if (members.some(({ learner }) => learner)) throw new Error('too many learner members in cluster');
      members.push(member('', peerUrl, true));
      return '';
    },
    [Symbol.asyncDispose]: async () => {},
  } as unknown as EtcdClient;
}

const member = (name: string, peerUrl: string, learner = false): EtcdMember => ({
  id: peerUrl,
  name,
  peerUrls: [peerUrl],
  clientUrls: [],
  learner,
});

describe('a joiner that is faster than the step', () => {
  const first = member('cp-1', 'https://10.20.0.1:2380');

  it.each([
    ['a voter', false],
    ['a learner', true],
  ])('is not passed over when it became %s between two questions', async (_what, learner) => {
    const members = [first];
    const { step, host } = leaving(() => etcd);
    const etcd = etcdOf(members, (list) => {
      if (list === 1) members.push(member(host, 'https://10.20.0.2:2380', learner));
    });
    // A learner holds the only place itself: then etcd refuses the other one.
    const outcome = await step().catch(() => ({ kind: 'failed' }));
    expect(outcome.kind).toBe(learner ? 'failed' : 'later');
    expect(await step()).toMatchObject({ kind: 'done' });
    expect(members.map(({ name }) => name)).toEqual(['cp-1', '']);
  });

  it('is known by the address of its Node where MAAS does not know it', async () => {
    const peerUrl = 'https://172.16.0.9:2380';
    const members = [first, member('', peerUrl, true)];
    const { step } = leaving(() => etcdOf(members), {}, 'registered', '172.16.0.9');
    expect(await step()).toMatchObject({ kind: 'done' });
    expect(members.map(({ peerUrls }) => peerUrls[0])).toEqual([
      'https://10.20.0.1:2380',
      'https://127.0.0.1:1',
    ]);
  });
});

describe('the plan', () => {
  const fence = { id: '9', name: '', peerUrls: ['https://127.0.0.1:1'], learner: true, healthy: false };
  const own = { id: '1', name: 'host-1', peerUrls: [], learner: false, healthy: true };
  const removed = { kind: 'released', systemId: 'm0002', hostname: 'host-2', at: NOW } as const;
  const steps = (changes: Partial<NodeRecord>, restlessSince = NOW - 3_600_000) =>
    plan(
      scene(
        {
          'cp-1': { shape: 'ready' },
          'cp-2': { shape: 'booted', token: GRANTED, intent: LEAVES, ...changes },
          'cp-3': { shape: 'booted' },
        },
        { observed: { etcd: { members: [own, { ...fence, restlessSince }] } } },
      ),
    ).map((step) => ('node' in step ? `${step.kind} ${step.node}` : step.kind));

  it('takes the place back when the machine is off, and not before, however long that takes', () => {
    expect(steps({ drainedAt: NOW, etcdRemovedAt: NOW })).toContain('release cp-2');
    expect(steps({ drainedAt: NOW, etcdRemovedAt: NOW })).not.toContain('remove-stray-member');
    expect(steps({ claim: removed })).toContain('remove-etcd-member cp-2');
  });

  it('lets nobody else join meanwhile, and removes one that was left behind', () => {
    expect(steps({ claim: removed })).not.toContain('grant-token cp-3');
    expect(steps({ intent: { kind: 'keep' }, token: { id: 't', secret: 's' } })).toContain(
      'remove-stray-member',
    );
  });
});

describe('on the simulator', () => {
  const placement = { resourcePool: 'kubernetes' };
  const cluster = (size: 1 | 3) =>
    wanted({ spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size, placement }] }) });

  it.each(['not killed', 'killed'])(
    'a scale-up that is taken back in the middle of a join loses nothing, %s',
    async (how) => {
      await using site = await SimulatedSite.start({ speed: 200 });
      await site.want(cluster(1));
      await site.phase('Running');
      const since = site.clock.now();
      site.simulator.faults.replace([parseFault('join-hangs')]);
      await site.want(cluster(3));
      const nodes = async () =>
        (await site.records.get<ClusterRecord>(COLLECTIONS.clusters, 'cl-demo'))?.value.nodes ?? [];
      await site.until('a joiner', ({ nodes: all }) => all.length === 3);
      for (;;) {
        const granted = (await nodes()).some(({ init, token }) => !init && token.grantedAt !== undefined);
        if (granted) break;
        await site.clock.sleep(20);
      }
      // Its kubeadm gets to etcd exactly when the gateway has looked for the last time.
      const refused: string[] = [];
      site.killOnWrites((value) => {
        const looked = (value as ClusterRecord).nodes?.some(
          ({ init, etcdRemovedAt }) => !init && etcdRemovedAt,
        );
        if (looked !== true || refused.length > 0) return undefined;
        try {
          const { etcd } = inside(site);
          const late = etcd.add(['https://10.20.98.98:2380'], true);
          etcd.started(late.id, 'late', '10.20.98.98');
          late.inSync = true;
          etcd.promote(late.id);
          etcd.stopped(late.id);
          refused.push('nobody');
        } catch (error) {
          refused.push(String(error));
        }
        return how === 'killed' ? 'before' : undefined;
      });
      await site.want(cluster(1));
      await site.until('one node', ({ phase, nodes: all }) => phase === 'Running' && all.length === 1);
      expect(refused).toEqual([expect.stringContaining('too many learner members')]);
      const { etcd } = inside(site);
      expect(etcd.members().map(({ up, isLearner }) => ({ up, isLearner }))).toEqual([
        { up: true, isLearner: false },
      ]);
      site.killOnWrites(undefined);
      site.simulator.faults.replace([]);
      await site.want(cluster(3));
      await site.until(
        'three nodes',
        ({ phase, nodes: all }) =>
          phase === 'Running' && all.every((node) => node.phase === 'Ready') && all.length === 3,
      );
      expect(siteBreaches(site, { cluster: 'demo', since, workers: 0, controlPlanes: 1 })).toEqual([]);
      const intent = {
        kind: 'delete',
        requestedAt: new Date(site.clock.now()).toISOString(),
        reason: 'delete',
      } as const;
      await site.want({ ...cluster(3), intent });
      await site.phase('Deleted');
      expect(leaks(site)).toEqual(NO_LEAKS);
    },
  );
});
