/** Policies and the queue: when they run, what they report, what survives a restart. */
import { describe, expect, it, vi } from 'vitest';
import { newClusterRecord } from '../../src/cluster/model.ts';
import { type Log, silentLog } from '../../src/base/log.ts';
import type { KubeNode } from '../../src/cluster/observed.ts';
import { type RebootProgress, readRebootProgress, rebootNodes } from '../../src/cluster/policies/reboot.ts';
import { duePolicies, nextRun } from '../../src/cluster/policies/schedule.ts';
import { openQueue } from '../../src/cluster/queue.ts';
import type { KubeClient, KubeObject } from '../../src/kube/client.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { eventually } from '../support/eventually.ts';
import { FakeSite } from '../support/fake-site.ts';
import { memoryRecords } from '../support/memory-store.ts';
import { clusterSpec } from '../support/node-input.ts';
import { NOW, scene } from '../support/scenes.ts';

const signal = new AbortController().signal;
const HOUR = 3_600_000;

/** Remembers Jobs and patches; every node carries `pods`. */
function jobClient(pods: KubeObject[] = []) {
  const started: string[] = [];
  const patched: unknown[] = [];
  const client: Partial<KubeClient> = {
    async create(object) {
      if (started.includes(object.metadata.name)) return 'exists';
      started.push(object.metadata.name);
      return object;
    },
    apply: async (object) => object,
    get: async (path) =>
      started.some((name) => path.endsWith(`/jobs/${name}`))
        ? { apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'x' } }
        : undefined,
    list: async (path) => ({ items: path.startsWith('/api/v1/pods') ? pods : [], resourceVersion: '1' }),
    async patch(_path, patch) {
      patched.push(patch);
      return { apiVersion: 'v1', kind: 'Node', metadata: { name: 'x' } };
    },
  };
  return { client: client as KubeClient, started, patched };
}

const node = (name: string, changes: Partial<KubeNode> = {}): KubeNode => ({
  name,
  systemId: undefined,
  ready: true,
  silent: false,
  controlPlane: false,
  unschedulable: false,
  version: 'v1.36.1',
  internalIp: undefined,
  bootId: `boot-${name}`,
  labels: {},
  managed: { labels: [], taints: [] },
  taints: [],
  ...changes,
});

describe('schedules', () => {
  const at = (schedule: string, record = {}) => {
    const input = scene(
      {},
      {
        document: { spec: clusterSpec({ policies: { patching: { schedule } } }) },
        record: { stage: { kind: 'running', since: NOW }, ...record },
      },
    );
    return { input, next: nextRun(input.document, input.record, 'patching', NOW) };
  };

  it('count from the last run, or from the time the cluster became Running', () => {
    const { next } = at('0 * * * *');
    expect(next).toBeGreaterThan(NOW);
    expect((next ?? 0) - NOW).toBeLessThanOrEqual(HOUR);
    const later = at('0 * * * *', {
      policies: { patching: { state: 'succeeded', lastRunAt: NOW + 10 * HOUR, summary: {} } },
    });
    expect(later.next).toBeGreaterThan(NOW + 10 * HOUR);
  });

  it('make up a missed run once', () => {
    const { input } = at('0 * * * *');
    expect(duePolicies(input.document, input.record, NOW + 50 * HOUR)).toEqual(['patching']);
    const ran = at('0 * * * *', {
      policies: { patching: { state: 'succeeded', lastRunAt: NOW + 50 * HOUR, summary: {} } },
    });
    expect(duePolicies(ran.input.document, ran.input.record, NOW + 50 * HOUR)).toEqual([]);
  });

  it('never run when off, when the cluster never ran, or when they are nonsense', () => {
    expect(at('never').next).toBeUndefined();
    expect(at('0 * * * *', { stage: { kind: 'provisioning', since: NOW } }).next).toBeUndefined();
    expect(at('99 99 99 99 99').next).toBeUndefined();
  });
});

const MINUTE = 60_000;

describe('a maintenance window', () => {
  const scheduled = (now: number, since: number) => {
    const { document, record } = scene(
      {},
      {
        document: {
          spec: clusterSpec({ policies: { patching: { schedule: '0 3 * * *', windowMinutes: 120 } } }),
        },
        record: { stage: { kind: 'running', since } },
      },
    );
    return { due: duePolicies(document, record, now), next: nextRun(document, record, 'patching', now) };
  };
  const three = new Date(2026, 5, 1, 3).getTime();

  it('begins a run that is a little late, and none when it has passed', () => {
    expect(scheduled(three - MINUTE, three - 5 * HOUR)).toEqual({ due: [], next: three });
    expect(scheduled(three + 90 * MINUTE, three - 5 * HOUR)).toEqual({ due: ['patching'], next: three });
    expect(scheduled(three + 3 * HOUR, three - 5 * HOUR)).toEqual({ due: [], next: three + 24 * HOUR });
    expect(scheduled(three + 50 * HOUR, three - 500 * HOUR)).toEqual({ due: [], next: three + 72 * HOUR });
  });
});

describe('reboots after patching', () => {
  const OPTIONS = {
    run: 'r',
    nowMs: NOW,
    drainDeadlineMs: 10 * MINUTE,
    rebootDeadlineMs: 30 * MINUTE,
    closed: false,
    hold: { unmanaged: false, localData: false },
    sickMember: async () => undefined,
  };
  interface Turn {
    readonly started: readonly string[];
    readonly at: number;
  }

  /** One pass a minute, each as after a restart: only what was written down is known. */
  async function rebootAll(
    wanting: string[],
    nodesAt: (turn: Turn) => KubeNode[],
    change: (turn: Turn) => Partial<typeof OPTIONS> = () => ({}),
    pods: KubeObject[] = [],
  ) {
    const { client, started, patched } = jobClient(pods);
    let progress: RebootProgress = { wanting, rebooted: [] };
    for (let at = 0; at < 90; at += 1) {
      const turn = { started, at };
      const options = { ...OPTIONS, nowMs: NOW + at * MINUTE, ...change(turn) };
      const outcome = await rebootNodes(client, nodesAt(turn), progress, options, signal);
      if (outcome.kind !== 'later') return { outcome, started, patched, at };
      progress = readRebootProgress(JSON.parse(JSON.stringify(outcome.progress)));
    }
    return { outcome: undefined, started, patched, at: 90 };
  }
  const cordons = (...on: boolean[]) => on.map((unschedulable) => ({ spec: { unschedulable } }));

  it('take one node at a time, each cordoned, rebooted until its boot id is new, and put back to work', async () => {
    const { outcome, started, patched } = await rebootAll(['a', 'b'], ({ started: jobs }) =>
      ['a', 'b', 'c'].map((name) => node(name, jobs.includes(`reboot-r-${name}`) ? { bootId: 'new' } : {})),
    );
    expect(outcome).toEqual({ kind: 'done', rebooted: ['a', 'b'], postponed: [] });
    expect(started).toEqual(['reboot-r-a', 'reboot-r-b']);
    expect(patched).toEqual(cordons(true, false, true, false));
  });

  it('leave a cordon that somebody else has set', async () => {
    const { outcome, patched } = await rebootAll(['a'], ({ started: jobs }) => [
      node('a', { unschedulable: true, ...(jobs.length > 0 ? { bootId: 'new' } : {}) }),
    ]);
    expect(outcome?.kind).toBe('done');
    expect(patched).toEqual(cordons(true));
  });

  it('wait while another node is not Ready, and give up when it stays so', async () => {
    const { outcome, started, at } = await rebootAll(['a'], () => [node('a'), node('b', { ready: false })]);
    expect(outcome).toMatchObject({
      kind: 'failed',
      code: 'NODE_UNHEALTHY',
      message: 'b is not Ready: a was not rebooted',
    });
    expect(started).toEqual([]);
    expect(at).toBe(31);
  });

  it('do not wait for a node that has left', async () => {
    const { outcome, started } = await rebootAll(['gone', 'a'], ({ started: jobs }) => [
      node('a', jobs.length > 0 ? { bootId: 'new' } : {}),
    ]);
    expect(outcome).toMatchObject({ kind: 'done', rebooted: ['a'] });
    expect(started).toEqual(['reboot-r-a']);
  });

  it('stop at a node that does not come back, which stays cordoned', async () => {
    const { outcome, started, patched } = await rebootAll(['a', 'b'], ({ started: jobs }) => [
      node('a', jobs.length > 0 ? { bootId: 'new', ready: false } : {}),
      node('b'),
    ]);
    expect(outcome).toMatchObject({ kind: 'failed', message: 'a did not become Ready after its reboot' });
    expect(started).toEqual(['reboot-r-a']);
    expect(patched).toEqual(cordons(true));
  });

  it('stop at a node that never reboots', async () => {
    const { outcome } = await rebootAll(['a'], () => [node('a')]);
    expect(outcome).toMatchObject({ kind: 'failed', message: 'a did not reboot' });
  });

  it('stop at a node that cannot be drained and give it back to work', async () => {
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'stays', namespace: 'x', labels: { 'cluster.x-k8s.io/drain': 'wait-completed' } },
      spec: {},
      status: { phase: 'Running' },
    };
    const { outcome, started, patched, at } = await rebootAll(['a'], () => [node('a')], undefined, [pod]);
    expect(outcome).toMatchObject({ kind: 'failed', code: 'DRAIN_BLOCKED' });
    expect(outcome).toHaveProperty('message', expect.stringContaining('x/stays'));
    expect(started).toEqual([]);
    expect(at).toBe(11);
    expect(patched.at(-1)).toEqual({ spec: { unschedulable: false } });
  });

  it.each([
    ['unmanaged', { metadata: {} }, 'has no controller'],
    [
      'localData',
      { spec: { volumes: [{ name: 'cache', emptyDir: {} }] } },
      'keeps data on the node in volume cache',
    ],
  ])('end nothing that the policy %s holds: the node goes back to work unpatched', async (rule, pod, why) => {
    const held = {
      apiVersion: 'v1',
      kind: 'Pod',
      spec: {},
      status: { phase: 'Running' },
      ...pod,
      metadata: { name: 'kept', namespace: 'x' },
    };
    const hold = { unmanaged: false, localData: false, [rule]: true };
    const { outcome, started, patched } = await rebootAll(
      ['a'],
      () => [node('a')],
      () => ({ hold }),
      [held],
    );
    expect(outcome).toMatchObject({
      kind: 'failed',
      code: 'DRAIN_BLOCKED',
      message: expect.stringContaining(`x/kept: ${why}`),
    });
    expect(started).toEqual([]);
    expect(patched.at(-1)).toEqual({ spec: { unschedulable: false } });
  });

  it('let no control-plane node go while a member of etcd is not healthy', async () => {
    const control = (turn: Turn) => [
      node('cp', { controlPlane: true, ...(turn.started.length > 0 ? { bootId: 'new' } : {}) }),
    ];
    const healed = await rebootAll(['cp'], control, ({ at }) => ({
      sickMember: async () => (at < 5 ? 'cp-2' : undefined) as undefined,
    }));
    expect(healed.outcome?.kind).toBe('done');
    expect(healed.at).toBeGreaterThan(5);
    const never = await rebootAll(['cp'], control, () => ({ sickMember: async () => 'cp-2' as never }));
    expect(never.outcome).toMatchObject({ kind: 'failed', code: 'ETCD_QUORUM_AT_RISK' });
    expect(never.started).toEqual([]);
  });

  it('begin no node after the window has closed, and finish the one that is away', async () => {
    const { outcome, started } = await rebootAll(
      ['a', 'b'],
      ({ started: jobs }) =>
        ['a', 'b'].map((name) => node(name, jobs.includes(`reboot-r-${name}`) ? { bootId: 'new' } : {})),
      ({ at }) => ({ closed: at >= 2 }),
    );
    expect(outcome).toEqual({ kind: 'done', rebooted: ['a'], postponed: ['b'] });
    expect(started).toEqual(['reboot-r-a']);
  });
});

describe('the queue', () => {
  const waiting = (id: string, createdAt: number) =>
    newClusterRecord({ id, name: id, account: 'ca-one', generation: 1, now: createdAt });

  it('shows places oldest first, survives a restart, and lets go on resume', async () => {
    const records = memoryRecords();
    await records.put(COLLECTIONS.clusters, 'cl-two', waiting('cl-two', 20));
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 10));
    using before = await openQueue(records, () => NOW, silentLog);
    expect(before.place('cl-one')).toBeUndefined();
    await before.hold('the gateway is being updated');
    using after = await openQueue(records, () => NOW, silentLog);
    expect(after.place('cl-one')).toEqual({ position: 1, reason: 'the gateway is being updated' });
    expect(after.place('cl-two')?.position).toBe(2);
    await after.resume();
    expect(after.place('cl-two')).toBeUndefined();
  });

  it('keeps the line and says so when it cannot be read, and an older reading never replaces a newer one', async () => {
    const records = memoryRecords();
    const errors: unknown[] = [];
    const log = { ...silentLog, error: (...said: unknown[]) => void errors.push(said) } as unknown as Log;
    await records.put(COLLECTIONS.clusters, 'cl-two', waiting('cl-two', 20));
    using queue = await openQueue(records, () => NOW, log);
    await queue.hold('the gateway is being updated');
    const list = vi.spyOn(records, 'list');
    list.mockRejectedValueOnce(new Error('the disk is full'));
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 10));
    await eventually(() => errors.length > 0);
    expect(errors).toEqual([[{ error: expect.stringContaining('full') }, expect.any(String)]]);
    expect(queue.place('cl-two')?.position).toBe(1);
    const old = await records.list(COLLECTIONS.clusters);
    const late = Promise.withResolvers<typeof old>();
    list.mockReturnValueOnce(late.promise);
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 30));
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 40));
    late.resolve(old); // in which cl-one is the older one
    await eventually(() => list.mock.calls.length === 4);
    await eventually(() => queue.place('cl-two')?.position === 1);
    expect(queue.place('cl-one')?.position).toBe(2);
  });

  it('holds new clusters, and abort passes it', async () => {
    const site = new FakeSite(8);
    let held = true;
    await using harness = new EngineHarness(site, {}, () =>
      held ? { position: 1, reason: 'updating' } : undefined,
    );
    await harness.want(document());
    const queued = await harness.phase('Queued');
    expect(queued.queue).toEqual({ position: 1, reason: 'updating' });
    expect(site.calls.get('allocate')).toBeUndefined();
    await harness.want(
      document({ intent: { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'abort' } }),
    );
    await harness.phase('Deleted');
    held = false;
    expect(site.owned()).toEqual([]);
  });

  it('lets them go when it opens', async () => {
    const site = new FakeSite(8);
    let held = true;
    await using harness = new EngineHarness(site, {}, () =>
      held ? { position: 1, reason: 'updating' } : undefined,
    );
    await harness.want(document());
    await harness.phase('Queued');
    held = false;
    await harness.phase('Running');
  });
});
