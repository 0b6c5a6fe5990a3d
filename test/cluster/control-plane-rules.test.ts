/**
 * The rules of the design page for a control plane that is not well, one by one: nothing of it is created or deleted
 * before every node of it has its Node, its four components and its etcd member in health, etcd has no alarm and nobody
 * is leaving; nothing of that ever holds back a delete, an abort, a worker that leaves, or what repairs it.
 */
import { describe, expect, it } from 'vitest';
import { computeConditions } from '../../src/cluster/conditions.ts';
import { joinWait } from '../../src/cluster/join-wait.ts';
import type { EtcdView, Observed } from '../../src/cluster/observed.ts';
import { plan, type PlanInput, sceneOf } from '../../src/cluster/plan.ts';
import { rolloutPlan } from '../../src/cluster/rollout.ts';
import { nodeTemplate, sharedSettings } from '../../src/cluster/template.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import type { ClusterDocument } from '../../src/contract/cluster.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { type NodeLiteral, NOW, scene } from '../support/scenes.ts';

const MINUTE = 60_000;
type Nodes = Record<string, NodeLiteral>;

const member = (index: number, changes: Partial<EtcdView['members'][number]> = {}) => ({
  id: String(index),
  name: `host-${index}`,
  peerUrls: [`https://10.20.0.${10 + index}:2380`],
  learner: false,
  healthy: true,
  ...changes,
});
const MEMBERS = [member(1), member(2), member(3)];

function withKube(
  input: PlanInput,
  change: (kube: Observed['kube'] & { kind: 'reachable' }) => Observed['kube'],
) {
  const { kube } = input.observed;
  if (kube.kind !== 'reachable') throw new Error('the scene has no API server');
  return { ...input, observed: { ...input.observed, kube: change(kube) } };
}
const withEtcd = (input: PlanInput, etcd: Partial<Observed>) => ({
  ...input,
  observed: { ...input.observed, etcd: { members: MEMBERS }, ...etcd },
});
const fault = (component: string) => (input: PlanInput) =>
  withKube(input, (kube) => ({
    ...kube,
    componentFaults: [{ node: 'host-2', component, reason: 'not Ready' }],
  }));

/** What the page asks to be in health, and how it is not. */
const TROUBLES: readonly (readonly [string, (input: PlanInput) => PlanInput])[] = [
  ['the API server of a node is not healthy', fault('kube-apiserver')],
  ['its controller-manager is not healthy', fault('kube-controller-manager')],
  ['its scheduler is not healthy', fault('kube-scheduler')],
  ['its etcd pod is not healthy', fault('etcd')],
  [
    'nobody can say whether they are',
    (input) => withKube(input, (kube) => ({ ...kube, componentsUnread: 'HTTP 500' })),
  ],
  [
    'its etcd member does not answer',
    (input) =>
      withEtcd(input, {
        etcd: { members: [member(1), member(2, { healthy: false, restlessSince: NOW }), member(3)] },
      }),
  ],
  [
    'a member is a learner',
    (input) =>
      withEtcd(input, {
        etcd: { members: [...MEMBERS, member(4, { name: '', learner: true, restlessSince: NOW })] },
      }),
  ],
  [
    'a dead member belongs to no machine',
    (input) =>
      withEtcd(input, {
        etcd: { members: [...MEMBERS, member(99, { name: 'gone', healthy: false, restlessSince: NOW })] },
      }),
  ],
  [
    'etcd is full',
    (input) => withEtcd(input, { etcdAlarms: [{ memberId: '2', member: 'host-2', alarm: 'NOSPACE' }] }),
  ],
  [
    'etcd is corrupt',
    (input) => withEtcd(input, { etcdAlarms: [{ memberId: '2', member: 'host-2', alarm: 'CORRUPT' }] }),
  ],
];

const cp = (size: 1 | 3 | 5, rollout: 'expand-first' | 'contract-first' = 'expand-first') =>
  ({ role: 'control-plane', name: 'cp', size, rollout }) as const;
const document = (pool: ReturnType<typeof cp>): Partial<ClusterDocument> => ({
  spec: clusterSpec({ pools: [pool] }),
});
const ready: NodeLiteral = { shape: 'ready' };
const three: Nodes = { 'cp-1': ready, 'cp-2': ready, 'cp-3': ready };
const running = { stage: { kind: 'running', since: NOW } } as const;

/** An approved rollout of nodes of which cp-2 is new already: its trouble is no reason to replace it. */
function rolling(strategy: 'expand-first' | 'contract-first'): PlanInput {
  const asked = document(cp(3, strategy));
  const [pool] = wanted(asked).spec.pools;
  if (!pool) throw new Error('no pool');
  const template = nodeTemplate(wanted(asked), pool);
  const old = { ...ready, template: 'old' };
  const input = scene(
    { 'cp-1': old, 'cp-2': { ...ready, template }, 'cp-3': old },
    { document: asked, record: running, observed: { spares: new Map([['cp', 5]]) } },
  );
  const preview = rolloutPlan(sceneOf(input));
  if (!preview) throw new Error('nothing to roll');
  const controlPlaneSettings = sharedSettings(input.document);
  return {
    ...input,
    record: { ...input.record, controlPlaneSettings, rollout: { plan: preview.plan, approvedAt: NOW } },
  };
}

/** Moves that the page puts behind the preflight. */
const MOVES: readonly (readonly [string, PlanInput, RegExp])[] = [
  [
    'lets another node join',
    withEtcd(
      scene(
        { ...three, 'cp-4': { shape: 'booted' }, 'cp-5': { shape: 'booted' } },
        { document: document(cp(5)), record: running },
      ),
      {},
    ),
    /^grant-token/,
  ],
  ['shrinks', withEtcd(scene(three, { document: document(cp(1)), record: running }), {}), /^remove-nodes/],
  ['rolls, contract first', withEtcd(rolling('contract-first'), {}), /^remove-nodes/],
  ['rolls, expand first', withEtcd(rolling('expand-first'), {}), /^add-nodes/],
];
const kinds = (input: PlanInput) =>
  plan(input).map((step) => ('node' in step ? `${step.kind} ${step.node}` : step.kind));

describe.each(MOVES)('a control plane that %s', (what, input, step) => {
  it('does so while it is well', () => {
    expect(kinds(input).filter((kind) => step.test(kind))).not.toEqual([]);
  });

  it.each(TROUBLES)('does not while %s', (why, trouble) => {
    const steps = plan(trouble(input)).filter(({ kind }) => step.test(kind));
    // A smaller control plane is one without its sick node, where that is a sickness of this node alone.
    const itself = [{ kind: 'remove-nodes', nodes: [{ name: 'cp-2', reason: 'scale-down' }] }];
    expect(steps).toEqual(what === 'shrinks' && why.endsWith('is not healthy') ? itself : []);
  });
});

describe.each(TROUBLES)('while %s', (_why, trouble) => {
  it.each(['delete', 'abort'] as const)('a %s begins at once and gives every machine back', (reason) => {
    const intent = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason } as const;
    const asked = trouble(scene(three, { document: { intent }, record: running }));
    expect(kinds(asked)).toEqual(['begin-delete']);
    const stage = { kind: 'deleting', since: NOW, reason } as const;
    const begun = { ...asked, record: { ...asked.record, stage } };
    expect(kinds(begun).sort()).toEqual(['release cp-1', 'release cp-2', 'release cp-3']);
  });

  it('a worker joins, and another leaves', () => {
    const leaving = {
      ...ready,
      intent: { kind: 'remove', reason: 'scale-down', since: NOW },
      drainedAt: NOW,
    } as const;
    const input = scene({ ...three, 'w-1': { shape: 'booted' }, 'w-2': leaving }, { record: running });
    expect(kinds(trouble(input))).toEqual(expect.arrayContaining(['grant-token w-1', 'release w-2']));
  });

  it('no machine is taken from the control plane for it', () => {
    const input = trouble(scene(three, { document: document(cp(3)), record: running }));
    const taken = /^(fail-node|power-cycle|remove-nodes|drain|release|cordon)/;
    expect(kinds(input).filter((kind) => taken.test(kind))).toEqual([]);
  });

  it('it is said: never True, or what the next node waits for', () => {
    const input = trouble(
      scene({ ...three, 'cp-4': { shape: 'booted' } }, { document: document(cp(5)), record: running }),
    );
    const asked = sceneOf(input);
    const [entry] = asked.nodes.filter(({ node }) => node.name === 'cp-4');
    if (!entry) throw new Error('the scene is wrong');
    const waits = joinWait(entry.node, entry.situation, asked);
    expect(waits?.waitingFor).toMatch(/^its turn: (?!control-plane nodes join one by one)/);
    const condition = computeConditions(input, []).find(({ type }) => type === 'ControlPlaneReady');
    expect(condition?.status).not.toBe('True');
  });
});

describe('a machine that gave up waiting for its turn', () => {
  const HOURS = 3_600_000;
  const patient: NodeLiteral = { shape: 'booted', deployedAt: NOW - HOURS };
  const input = (trouble: (input: PlanInput) => PlanInput) => {
    const base = scene({ ...three, 'cp-4': patient }, { document: document(cp(5)), record: running });
    const claim = base.record.nodes.find(({ name }) => name === 'cp-4')?.claim;
    const systemId = claim?.kind === 'held' ? claim.systemId : '';
    return trouble({
      ...base,
      observed: { ...base.observed, bootstrapFailures: new Map([[systemId, 'kubeadm waited an hour']]) },
    });
  };
  const failed = (trouble: (input: PlanInput) => PlanInput) =>
    kinds(input(trouble)).includes('fail-node cp-4');

  it('is replaced when the others had their turns, and not while a person has to end what it waited for', () => {
    expect(failed((same) => same)).toBe(true);
    for (const [why, trouble] of TROUBLES.filter(([name]) => !/member/.test(name)))
      expect([why, failed(trouble)]).toEqual([why, false]);
  });
});

describe('a node that comes while nobody could become Ready', () => {
  const late = NOW - DEFAULT_TIMINGS.joinDeadlineMs - MINUTE;
  const token = { id: 't', secret: 's', grantedAt: late, expiresAt: NOW + 10 * 3_600_000 };
  const nodes: Nodes = {
    'cp-1': ready,
    'w-1': { shape: 'booted', token, deployedAt: late },
    'w-2': { shape: 'joined', token, deployedAt: late, joinedAt: late },
  };
  const failures = (observed: Partial<Observed>, bootstrapFailed = false) => {
    const { name } = wanted().profile.cni;
    const applied = {
      hash: 'x',
      appliedAt: late,
      readyAt: late,
      task: { state: 'succeeded', attempt: 1, startedAt: late },
    } as const;
    const record = { ...running, packs: { [name]: applied } };
    const base = scene(nodes, { document: document(cp(1)), record, observed });
    const bootstrapFailures = new Map(bootstrapFailed ? [['m0002', 'kubeadm join: HTTP 500']] : []);
    return kinds({ ...base, observed: { ...base.observed, bootstrapFailures } }).filter((kind) =>
      kind.startsWith('fail-node'),
    );
  };

  it('is not late for that time', () => {
    expect(failures({})).toEqual(['fail-node w-1', 'fail-node w-2']);
    expect(failures({ crippledAt: NOW })).toEqual([]);
    expect(failures({ crippledAt: NOW - MINUTE })).toEqual([]);
    expect(failures({ crippledAt: late })).toEqual(['fail-node w-1', 'fail-node w-2']);
  });

  it('nor is one that was Ready: it is not switched off and on for what its machine cannot help', () => {
    const sick: NodeLiteral = { shape: 'joined', readyAt: late, unhealthySince: late };
    const cycled = (crippledAt?: number) =>
      kinds(
        scene(
          { ...three, 'w-1': sick, 'w-2': ready, 'w-3': ready },
          { record: running, observed: { crippledAt } },
        ),
      ).filter((kind) => kind.startsWith('power-cycle'));
    expect(cycled()).toEqual(['power-cycle w-1']);
    expect(cycled(NOW)).toEqual([]);
    expect(cycled(late)).toEqual(['power-cycle w-1']);
  });

  it('is judged by what its kubeadm said only when a join can succeed', () => {
    expect(failures({ crippledAt: NOW }, true)).toEqual([]);
    expect(failures({ crippledAt: NOW - MINUTE }, true)).toEqual(['fail-node w-1']);
  });
});
