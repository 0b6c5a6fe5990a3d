/** The plan on literals: what may start now, and what must wait. */
import { describe, expect, it } from 'vitest';
import type { History } from '../../src/cluster/history.ts';
import { plan } from '../../src/cluster/plan.ts';
import { statusOf } from '../../src/cluster/progress.ts';
import type { Step } from '../../src/cluster/steps.ts';
import { act } from '../../src/cluster/steps/settle.ts';
import { packHash } from '../../src/cluster/template.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { document } from '../support/engine.ts';
import { type NodeLiteral, NOW, scene } from '../support/scenes.ts';

const MINUTE = 60_000;
const kinds = (steps: readonly Step[]) =>
  steps.map((step) => ('node' in step ? `${step.kind} ${step.node}` : step.kind));
const about = (steps: readonly Step[], kind: Step['kind']) =>
  kinds(steps.filter((step) => step.kind === kind));
const profile = resolvedProfile();
const CNI = {
  [profile.cni.name]: {
    hash: packHash(profile.cni, {}),
    appliedAt: NOW - 9 * MINUTE,
    readyAt: NOW - 8 * MINUTE,
    task: { state: 'succeeded' as const, attempt: 1, startedAt: NOW },
  },
};

describe('allowWorkers', () => {
  const control = (allowWorkers: boolean) =>
    clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: 1, allowWorkers }] });

  it('changes the taint of a living control plane, in place', () => {
    const before = scene({ 'cp-1': { shape: 'ready' } }, { document: { spec: control(false) } });
    expect(kinds(plan(before))).not.toContain('adjust-node');
    const after = { ...before, document: { ...before.document, spec: control(true) } };
    expect(plan(after)).toContainEqual({ kind: 'adjust-node', node: 'cp-1' });
    const open = scene({ 'cp-1': { shape: 'ready' } }, { document: { spec: control(true) } });
    expect(kinds(plan(open))).not.toContain('adjust-node');
    const closed = { ...open, document: { ...open.document, spec: control(false) } };
    expect(plan(closed)).toContainEqual({ kind: 'adjust-node', node: 'cp-1' });
  });
});

describe('the beginning', () => {
  it('makes keys, then checks the site, then reserves the address, one after the other', () => {
    const { pki: _pki, ...bare } = scene({}, { initialized: false }).record;
    const fresh = scene({}, { initialized: false });
    expect(kinds(plan({ ...fresh, record: bare }))).toEqual(['prepare']);
    const { placementCheckedAt: _checked, ...unchecked } = fresh.record;
    expect(kinds(plan({ ...fresh, record: unchecked }))).toEqual(['check-placement']);
    expect(kinds(plan(scene({}, { initialized: false, record: { endpoint: { kind: 'none' } } })))).toEqual([
      'reserve-endpoint',
    ]);
  });

  it('adds the nodes of every pool', () => {
    expect(
      plan(scene({}, { initialized: false })).map((step) =>
        step.kind === 'add-nodes' ? [step.pool, step.count] : step.kind,
      ),
    ).toEqual([
      ['cp', 3],
      ['workers', 3],
    ]);
  });

  it('allocates and deploys all machines at once', () => {
    const steps = plan(
      scene(
        {
          'cp-1': { shape: 'allocated' },
          'cp-2': { shape: 'allocated' },
          'cp-3': { shape: 'unclaimed' },
          'w-1': { shape: 'allocated' },
          'w-2': { shape: 'unclaimed' },
          'w-3': { shape: 'deploying' },
        },
        { initialized: false },
      ),
    );
    expect(kinds(steps)).toEqual([
      'deploy cp-1',
      'deploy cp-2',
      'allocate cp-3',
      'deploy w-1',
      'allocate w-2',
    ]);
  });

  it('never grants a turn before the control plane is initialised', () => {
    const steps = plan(
      scene(
        {
          'cp-1': { shape: 'booted' },
          'cp-2': { shape: 'booted' },
          'cp-3': { shape: 'booted' },
          'w-1': { shape: 'booted' },
          'w-2': { shape: 'booted' },
          'w-3': { shape: 'booted' },
        },
        { initialized: false },
      ),
    );
    expect(steps).toEqual([]);
  });
});

describe('turns to join', () => {
  const booted = {
    'cp-1': { shape: 'ready' },
    'cp-2': { shape: 'booted' },
    'cp-3': { shape: 'booted' },
    'w-1': { shape: 'booted' },
    'w-2': { shape: 'booted' },
    'w-3': { shape: 'booted' },
  } as const;

  it('lets every worker join, but only one control-plane node', () => {
    expect(about(plan(scene(booted, { record: { packs: CNI } })), 'grant-token')).toEqual([
      'grant-token cp-2',
      'grant-token w-1',
      'grant-token w-2',
      'grant-token w-3',
    ]);
  });

  it('keeps the next control-plane node waiting while one is joining', () => {
    const joining = {
      ...booted,
      'cp-2': {
        shape: 'booted',
        token: { id: 't', secret: 's', grantedAt: NOW, expiresAt: NOW + 60 * MINUTE },
      },
    } as const;
    expect(about(plan(scene(joining, { record: { packs: CNI } })), 'grant-token')).not.toContain(
      'grant-token cp-3',
    );
  });

  it('keeps it waiting while etcd has a learner or a sick member', () => {
    for (const member of [
      { learner: true, healthy: true },
      { learner: false, healthy: false },
    ]) {
      const members = [{ id: '1', name: 'a', peerUrls: [], ...member }];
      const steps = plan(scene(booted, { observed: { etcd: { members } } }));
      expect(about(steps, 'grant-token')).not.toContain('grant-token cp-2');
    }
  });

  it('says what it waits for, and what to do about an etcd member that no machine of the cluster has', () => {
    const history = { usualMs: () => undefined, isSlow: () => false } as unknown as History;
    const task = { state: 'running', attempt: 1, startedAt: NOW } as const;
    const waiting = { ...booted, 'cp-2': { ...booted['cp-2'], tasks: { bootstrap: task } } };
    const member = { id: '10501334649042878790', peerUrls: ['https://10.20.0.99:2380'], learner: false };
    const bootstrap = (name: string, healthy: boolean) => {
      const etcd = { members: [{ ...member, name, healthy }] };
      const status = statusOf(scene(waiting, { observed: { etcd } }), {
        history,
        waiting: new Map(),
        previous: [],
      });
      return status.nodes
        .find((node) => node.name === 'cp-2')
        ?.tasks.find(({ name: of }) => of === 'bootstrap');
    };
    const [own] = [...scene(waiting).observed.machines.values()];
    expect(bootstrap(own?.machine?.hostname ?? '', false)).toMatchObject({ state: 'waiting' });
    expect(bootstrap(own?.machine?.hostname ?? '', false)).not.toHaveProperty('error');
    for (const name of ['old-cp', ''])
      expect(bootstrap(name, false)).toMatchObject({
        state: 'waiting',
        waitingFor: `its turn: etcd member ${name || 'without a name'} does not answer`,
        error: {
          code: 'ETCD_QUORUM_AT_RISK',
          message: expect.stringMatching(
            /91bc3c398fb3c146, https:\/\/10\.20\.0\.99:2380\) does not answer and belongs to no machine/,
          ),
          fix: expect.stringContaining('etcdctl member remove 91bc3c398fb3c146'),
        },
      });
    expect(bootstrap('old-cp', true)).not.toHaveProperty('error');
  });

  it('grants nothing while the endpoint does not answer', () => {
    const { observed } = scene(booted);
    if (observed.kube.kind !== 'reachable') throw new Error('scene is wrong');
    expect(
      about(
        plan(scene(booted, { observed: { kube: { ...observed.kube, endpoint: false } } })),
        'grant-token',
      ),
    ).toEqual([]);
  });

  it('refreshes a token that would expire on the way, and takes it back from a Ready node', () => {
    const steps = plan(
      scene({
        'cp-1': { shape: 'ready' },
        'w-1': {
          shape: 'booted',
          token: { id: 't', secret: 's', grantedAt: NOW - 15 * MINUTE, expiresAt: NOW + 20 * MINUTE },
        },
        'w-2': {
          shape: 'ready',
          token: { id: 't', secret: 's', grantedAt: NOW - 15 * MINUTE, expiresAt: NOW + 45 * MINUTE },
        },
      }),
    );
    expect(kinds(steps)).toEqual(expect.arrayContaining(['grant-token w-1', 'revoke-token w-2']));
  });

  it('takes back the token that kubeadm made on the first node, once', () => {
    const first = (token: object, initialized = true) => {
      const node = { shape: 'ready', init: true, token: { id: 't', secret: 's', ...token } } as const;
      const { observed } = scene({ 'cp-1': node });
      return kinds(plan(scene({ 'cp-1': node }, { initialized, observed })));
    };
    expect(first({}, false)).not.toContain('revoke-token cp-1'); // it is not made yet
    expect(first({})).toContain('revoke-token cp-1');
    expect(first({ revokedAt: NOW })).not.toContain('revoke-token cp-1');
  });
});

describe('deadlines and failures', () => {
  const failing = (steps: readonly Step[]) =>
    steps.flatMap((step) => (step.kind === 'fail-node' ? [[step.node, step.problem.code]] : []));

  const task = (startedAt: number) => ({
    tasks: { deploy: { state: 'running' as const, attempt: 1, startedAt } },
  });

  it('aborts a deployment beyond its deadline and not before', () => {
    const steps = plan(
      scene({
        'cp-1': { shape: 'ready' },
        'w-1': { shape: 'deploying', ...task(NOW - 46 * MINUTE) },
        'w-2': { shape: 'deploying', ...task(NOW - 44 * MINUTE) },
      }),
    );
    expect(about(steps, 'abort-deploy')).toEqual(['abort-deploy w-1']);
  });

  it('does not count the time in which MAAS was away as time to install', () => {
    const steps = (from: number, until: number) =>
      about(
        plan(
          scene(
            { 'cp-1': { shape: 'ready' }, 'w-1': { shape: 'deploying', ...task(NOW - 60 * MINUTE) } },
            { observed: { maasOutages: [{ from: NOW - from * MINUTE, until: NOW - until * MINUTE }] } },
          ),
        ),
        'abort-deploy',
      );
    expect(steps(40, 20)).toEqual([]);
    expect(steps(40, 30)).toEqual(['abort-deploy w-1']);
    // for the most part before it began
    expect(steps(100, 50)).toEqual(['abort-deploy w-1']);
  });

  it('fails a node whose script ended with an error at once, and a silent one at its deadline', () => {
    const late = {
      deployedAt: NOW - 60 * MINUTE,
      token: { id: 't', secret: 's', grantedAt: NOW - 21 * MINUTE, expiresAt: NOW + 59 * MINUTE },
    };
    const input = scene(
      {
        'cp-1': { shape: 'ready' },
        'w-1': { shape: 'booted' },
        'w-2': { shape: 'booted', ...late },
        'w-3': { shape: 'deploy-failed' },
      },
      { observed: { bootstrapFailures: new Map([['m0002', 'exit 1']]) } },
    );
    expect(failing(plan(input))).toEqual([
      ['w-1', 'BOOTSTRAP_FAILED'],
      ['w-2', 'BOOTSTRAP_TIMEOUT'],
      ['w-3', 'DEPLOY_FAILED'],
    ]);
  });

  it('fails a node whose script ended with an error after it had registered', () => {
    const failures = (id: string) => ({ bootstrapFailures: new Map([[id, 'exit 1']]) });
    const first = { 'cp-1': { shape: 'joined' }, 'w-1': { shape: 'allocated' } } as const;
    expect(failing(plan(scene(first, { initialized: false, observed: failures('m0001') })))).toEqual([
      ['cp-1', 'BOOTSTRAP_FAILED'],
    ]);
    const later = { 'cp-1': { shape: 'ready' }, 'cp-2': { shape: 'joined' } } as const;
    expect(failing(plan(scene(later, { observed: failures('m0002') })))).toEqual([
      ['cp-2', 'BOOTSTRAP_FAILED'],
    ]);
    // it ran: what its script said does not matter any more
    const ran = { ...later, 'cp-2': { shape: 'joined', readyAt: NOW - 60 * MINUTE } } as const;
    expect(failing(plan(scene(ran, { observed: failures('m0002') })))).toEqual([]);
  });

  it.each([
    ['is there', true],
    ['is gone from an API server that answers', false],
    ['is silent', undefined],
  ])('fails a first node that registered and was never configured, when it %s', (_how, isThere) => {
    const at = (minutes: number) => {
      const nodes = {
        'cp-1': { shape: 'joined', deployedAt: NOW - minutes * MINUTE },
        'w-1': { shape: 'booted' },
      } as const;
      const { kube } = scene(nodes).observed;
      if (kube.kind !== 'reachable') throw new Error('not a scene with an API server');
      const seen = { ...kube, configured: false, nodes: isThere === true ? kube.nodes : [] };
      const silent = { kind: 'unreachable', reason: 'refused' } as const;
      const observed = { kube: isThere === undefined ? silent : seen };
      return failing(plan(scene(nodes, { initialized: false, observed })));
    };
    expect(at(19)).toEqual([]);
    expect(at(21)).toEqual([['cp-1', 'BOOTSTRAP_TIMEOUT']]);
  });

  it('does not start the clock of a joiner before its turn', () => {
    expect(
      failing(
        plan(
          scene(
            {
              'cp-1': { shape: 'booted', deployedAt: NOW - 5 * MINUTE },
              'w-1': { shape: 'booted', deployedAt: NOW - 500 * MINUTE },
            },
            { initialized: false },
          ),
        ),
      ),
    ).toEqual([]);
  });

  it('believes in a lost machine only on a reading younger than the claim', () => {
    const lost = scene({ 'cp-1': { shape: 'ready' }, 'w-1': { shape: 'lost' } });
    expect(failing(plan(lost))).toEqual([['w-1', 'MACHINE_LOST']]);
    const old = new Map(
      [...lost.observed.machines].map(([id, reading]) => [id, { ...reading, at: NOW - 55 * MINUTE }]),
    );
    expect(failing(plan({ ...lost, observed: { ...lost.observed, machines: old } }))).toEqual([]);
  });

  it('does not take a cluster apart when MAAS suddenly hides or disowns its machines', () => {
    const all = scene(
      { 'cp-1': { shape: 'vanished' }, 'cp-2': { shape: 'vanished' }, 'w-1': { shape: 'vanished' } },
      { record: { stage: { kind: 'running', since: NOW }, packs: CNI } },
    );
    const disowned = new Map(
      [...all.observed.machines].map(([id, { machine }]) => [
        id,
        { machine: machine && { ...machine, owner: undefined }, at: NOW },
      ]),
    );
    expect(failing(plan({ ...all, observed: { ...all.observed, machines: disowned } }))).toEqual([]);
    const ready = scene({ 'cp-1': { shape: 'ready' }, 'w-1': { shape: 'ready' } });
    const hidden = new Map([...ready.observed.machines].map(([id]) => [id, { machine: undefined, at: NOW }]));
    expect(failing(plan({ ...ready, observed: { ...ready.observed, machines: hidden } }))).toEqual([]);
  });

  it('leaves a machine in rescue mode to whoever put it there', () => {
    const input = scene({ 'cp-1': { shape: 'ready' }, 'w-1': { shape: 'vanished' } });
    const machines = new Map(
      [...input.observed.machines].map(([id, reading]) => [
        id,
        id === 'm0002' && reading.machine
          ? { ...reading, machine: { ...reading.machine, status: 'rescue_mode' as const } }
          : reading,
      ]),
    );
    expect(failing(plan({ ...input, observed: { ...input.observed, machines } }))).toEqual([]);
  });

  it('does not blame a machine that waited in vain for its turn', () => {
    const input = scene(
      {
        'cp-1': { shape: 'deploying' },
        'w-1': { shape: 'booted', deployedAt: NOW - 61 * MINUTE },
        'w-2': { shape: 'booted', deployedAt: NOW - 2 * MINUTE },
      },
      {
        initialized: false,
        observed: {
          bootstrapFailures: new Map([
            ['m0002', 'no JWS'],
            ['m0003', 'apt failed'],
          ]),
        },
      },
    );
    const blame = plan(input).flatMap((step) =>
      step.kind === 'fail-node' ? [step.problem.details?.['waitedForTurn']] : [],
    );
    expect(blame).toEqual([true, false]);
  });

  it('plans nothing destructive while the API server is silent', () => {
    const steps = plan(
      scene(
        { 'cp-1': { shape: 'vanished' }, 'w-1': { shape: 'vanished' } },
        {
          observed: { kube: { kind: 'unreachable', reason: 'x' } },
          record: { stage: { kind: 'running', since: NOW } },
        },
      ),
    );
    expect(
      steps.filter((step) =>
        ['release', 'fail-node', 'remove-nodes', 'delete-node-object'].includes(step.kind),
      ),
    ).toEqual([]);
  });

  it('leaves a node alone that failed beyond the limit', () => {
    const failure = {
      code: 'DEPLOY_FAILED',
      message: '',
      fix: '',
      retryable: true,
      userFixable: true,
    } as const;
    expect(
      kinds(
        plan(
          scene(
            {
              'cp-1': { shape: 'ready' },
              'cp-2': { shape: 'ready' },
              'cp-3': { shape: 'ready' },
              'w-1': { shape: 'deploy-failed', failure },
              'w-2': { shape: 'ready' },
              'w-3': { shape: 'ready' },
            },
            { record: { packs: CNI } },
          ),
        ),
      ),
    ).toEqual([]);
  });
});

describe('leaving', () => {
  const remove = (reason: 'scale-down' | 'failed' | 'lost') => ({
    intent: { kind: 'remove' as const, reason, since: NOW },
  });
  const rest = { 'cp-1': { shape: 'ready' }, 'cp-3': { shape: 'ready' } } as const;

  it('drains, then leaves etcd, then gives the machine back', () => {
    const at = (changes: object) =>
      kinds(
        plan(
          scene(
            { ...rest, 'cp-2': { shape: 'ready', ...remove('scale-down'), ...changes } },
            { record: { packs: CNI } },
          ),
        ),
      ).filter((step) => step.endsWith('cp-2'));
    expect(at({})).toEqual(['drain-node cp-2']);
    expect(at({ drainedAt: NOW })).toEqual(['remove-etcd-member cp-2']);
    expect(at({ drainedAt: NOW, etcdRemovedAt: NOW })).toEqual(['release cp-2']);
  });

  it('shuts a failed joiner out, looks for what it may carry by now, then takes its etcd member out', () => {
    const token = { id: 't', secret: 's', grantedAt: NOW };
    const shut = { ...token, revokedAt: NOW };
    const at = (shape: 'booted' | 'joined' | 'ready', changes: object, others: object = rest) =>
      kinds(plan(scene({ ...others, 'cp-2': { shape, ...remove('failed'), ...changes } }))).filter((step) =>
        step.endsWith('cp-2'),
      );
    expect(at('booted', { token })).toEqual(['revoke-token cp-2']);
    // The picture is older than the machine: its Node, and pods on it, may be there a moment later.
    for (const shape of ['booted', 'joined', 'ready'] as const) {
      expect(at(shape, { token: shut })).toEqual(['drain-node cp-2']);
      expect(at(shape, { token: shut, drainedAt: NOW })).toEqual(['remove-etcd-member cp-2']);
      expect(at(shape, { token: shut, drainedAt: NOW, etcdRemovedAt: NOW })).toEqual(['release cp-2']);
    }
    // Also while the one that stays is not Ready yet: its etcd would lose quorum.
    const young = { 'cp-1': { shape: 'joined', init: true, joinedAt: NOW } };
    expect(at('booted', { token: shut, drainedAt: NOW }, young)).toEqual(['remove-etcd-member cp-2']);
    // A worker that a user removes while it joins is emptied as well.
    const worker = { shape: 'booted', ...remove('scale-down'), token: shut } as const;
    expect(kinds(plan(scene({ ...rest, 'w-1': worker })))).toContain('drain-node w-1');
  });

  it('leaves a machine that is lost alone, and takes out what a late join left behind a released one', () => {
    const token = { id: 't', secret: 's', grantedAt: NOW, revokedAt: NOW };
    expect(kinds(plan(scene({ ...rest, 'cp-2': { shape: 'lost', ...remove('lost'), token } })))).toContain(
      'remove-etcd-member cp-2',
    );
    const claim = { kind: 'released', systemId: 'm0009', hostname: 'host-9', at: NOW } as const;
    const after = (members: string[]) => {
      const etcd = {
        members: members.map((name) => ({ id: name, name, peerUrls: [], learner: false, healthy: true })),
      };
      const gone = { shape: 'unclaimed', ...remove('failed'), token, claim } as const;
      return kinds(plan(scene({ ...rest, 'cp-2': gone }, { observed: { etcd } }))).filter((step) =>
        step.endsWith('cp-2'),
      );
    };
    expect(after(['host-1', 'host-9'])).toEqual(['remove-etcd-member cp-2']);
    // Whether it had registered before it was released nobody has seen.
    expect(after(['host-1'])).toEqual(['delete-node-object cp-2']);
  });

  it('releases a machine that never joined without asking the API server', () => {
    const steps = kinds(
      plan(scene({ 'cp-1': { shape: 'booted', ...remove('failed') } }, { initialized: false })),
    );
    expect(steps).toContain('release cp-1');
  });

  it('keeps a lone control-plane node until its successor is Ready', () => {
    const requested = { intent: { kind: 'remove' as const, reason: 'requested' as const, since: NOW } };
    const pools = document().spec.pools.map((pool) =>
      pool.role === 'control-plane' ? { ...pool, size: 1 as const } : { ...pool, size: 0 },
    );
    const at = (successor: Record<string, NodeLiteral>) =>
      kinds(
        plan(
          scene(
            { 'cp-1': { shape: 'ready', ...requested }, ...successor },
            { record: { packs: CNI }, document: { spec: { ...document().spec, pools } } },
          ),
        ),
      );
    expect(at({})).toEqual(['add-nodes']);
    expect(at({ 'cp-2': { shape: 'booted' } })).toEqual(['grant-token cp-2']);
    expect(at({ 'cp-2': { shape: 'ready' } })).toContain('drain-node cp-1');
  });

  it('drains again what was drained for maintenance, and ends the cordon of a drain that was called off', () => {
    const { record } = scene({ 'w-1': { shape: 'ready', maintenance: true, drainedAt: NOW - MINUTE } });
    const going = act(record, { id: 'a', kind: 'replace-node', machine: 'w-1' }, NOW);
    expect(going.nodes[0]?.drainedAt).toBeUndefined();
    const half = scene({ ...rest, 'w-1': { shape: 'ready', maintenance: true } }, { record: { packs: CNI } });
    const off = act(half.record, { id: 'b', kind: 'maintenance', machine: 'w-1', on: false }, NOW);
    expect(about(plan({ ...half, record: off }), 'cordon-node')).toEqual(['cordon-node w-1']);
  });

  it('waits with the next member while one leaves', () => {
    const steps = plan(
      scene({ ...rest, 'cp-2': { shape: 'ready', ...remove('failed') } }, { record: { packs: CNI } }),
    );
    expect(about(steps, 'add-nodes')).toEqual(['add-nodes']); // workers only
    expect(steps.flatMap((step) => (step.kind === 'add-nodes' ? [step.pool] : []))).toEqual(['workers']);
  });
});

describe('remediation', () => {
  const unhealthy = { unhealthySince: NOW - 10 * MINUTE };
  const three = {
    'cp-1': { shape: 'ready' },
    'cp-2': { shape: 'ready' },
    'cp-3': { shape: 'ready' },
    'w-2': { shape: 'ready' },
    'w-3': { shape: 'ready' },
  } as const;
  const running = { stage: { kind: 'running' as const, since: NOW }, packs: CNI };

  it('power cycles first, then replaces when a spare exists', () => {
    const first = plan(
      scene(
        { ...three, 'w-1': { shape: 'joined', readyAt: NOW - 20 * MINUTE, ...unhealthy } },
        { record: running },
      ),
    );
    expect(kinds(first)).toEqual(['power-cycle w-1']);
    const cycled = { ...unhealthy, powerCycledAt: NOW - 11 * MINUTE, readyAt: NOW - 20 * MINUTE };
    const without = plan(scene({ ...three, 'w-1': { shape: 'joined', ...cycled } }, { record: running }));
    expect(kinds(without)).toEqual([]);
    const spares = new Map([['workers', 1]]);
    expect(
      kinds(
        plan(
          scene(
            { ...three, 'w-1': { shape: 'joined', ...cycled } },
            { record: running, observed: { spares } },
          ),
        ),
      ),
    ).toEqual(['fail-node w-1']);
  });

  it('does nothing while too many nodes are unhealthy at once', () => {
    const sick = { shape: 'joined', readyAt: NOW - 20 * MINUTE, ...unhealthy } as const;
    expect(
      kinds(plan(scene({ ...three, 'w-1': sick, 'w-2': sick, 'w-3': sick }, { record: running }))),
    ).toEqual([]);
  });

  it('never touches a control-plane node while another one is not healthy', () => {
    const sick = { shape: 'joined', readyAt: NOW - 20 * MINUTE, unhealthySince: NOW - 10 * MINUTE } as const;
    const steps = plan(
      scene(
        {
          ...three,
          'w-1': { shape: 'ready' },
          'cp-2': sick,
          'cp-3': { ...sick, unhealthySince: NOW - MINUTE },
        },
        { record: running },
      ),
    );
    expect(kinds(steps)).toEqual([]);
  });

  it('is off when the policy says so', () => {
    const spec = clusterSpec({ policies: { remediation: { enabled: false } } });
    const steps = plan(
      scene(
        { ...three, 'w-1': { shape: 'joined', readyAt: NOW - 20 * MINUTE, ...unhealthy } },
        { record: running, document: { spec } },
      ),
    );
    expect(kinds(steps)).toEqual([]);
  });
});

describe('delete', () => {
  const intent = { kind: 'delete' as const, requestedAt: '2026-01-01T00:00:00Z', reason: 'abort' as const };
  it('announces itself, releases everything in parallel, then the address, then ends', () => {
    const all = {
      'cp-1': { shape: 'ready' },
      'w-1': { shape: 'deploying' },
      'w-2': { shape: 'lost' },
      'w-3': { shape: 'unclaimed' },
    } as const;
    expect(kinds(plan(scene(all, { document: { intent } })))).toEqual(['begin-delete']);
    const deleting = { stage: { kind: 'deleting' as const, since: NOW, reason: 'abort' as const } };
    expect(kinds(plan(scene(all, { document: { intent }, record: deleting })))).toEqual([
      'release cp-1',
      'release w-1',
      'release w-2',
    ]);
    expect(
      kinds(plan(scene({ 'w-3': { shape: 'unclaimed' } }, { document: { intent }, record: deleting }))),
    ).toEqual(['release-endpoint']);
    const bare = { ...deleting, endpoint: { kind: 'released' as const } };
    expect(kinds(plan(scene({}, { document: { intent }, record: bare })))).toEqual(['release-strays']);
    expect(
      kinds(plan(scene({}, { document: { intent }, record: { ...bare, strayCheckedAt: NOW } }))),
    ).toEqual(['finish-delete']);
  });
});
