/** Policies and the queue: when they run, what they report, what survives a restart. */
import { describe, expect, it } from 'vitest';
import { newClusterRecord } from '../../src/cluster/model.ts';
import type { KubeNode } from '../../src/cluster/observed.ts';
import { patchNodes } from '../../src/cluster/policies/patching.ts';
import type { PolicyStep } from '../../src/cluster/policies/run.ts';
import { readTotals, scanCis } from '../../src/cluster/policies/scans.ts';
import { duePolicies, nextRun } from '../../src/cluster/policies/schedule.ts';
import { openQueue } from '../../src/cluster/queue.ts';
import type { KubeClient, KubeObject } from '../../src/kube/client.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { memoryRecords } from '../support/memory-store.ts';
import { clusterSpec } from '../support/node-input.ts';
import { NOW, scene } from '../support/scenes.ts';

const signal = new AbortController().signal;
const HOUR = 3_600_000;

/** Jobs succeed at the second look, with a log that depends on their name. */
function jobClient(logOf: (job: string) => string) {
  const jobs = new Map<string, KubeObject>();
  const started: string[] = [];
  const patched: unknown[] = [];
  const client = {
    async get(path: string) {
      const job = jobs.get(path.split('/').at(-1) ?? '');
      return job && { ...job, status: { succeeded: 1 } };
    },
    async create(object: KubeObject) {
      if (object.kind !== 'Job') return object;
      started.push(object.metadata.name);
      jobs.set(object.metadata.name, object);
      return object;
    },
    async list(path: string) {
      const job = decodeURIComponent(path).split('job-name=')[1];
      const items = job === undefined ? [] : [{ apiVersion: 'v1', kind: 'Pod', metadata: { name: job } }];
      return { items, resourceVersion: '1' };
    },
    async request({ path }: { path: string }) {
      return { status: 200, body: logOf(path.split('/pods/')[1]?.split('/')[0] ?? ''), headers: {} };
    },
    async patch(_path: string, patch: unknown) {
      patched.push(patch);
      return {};
    },
    async delete(path: string) {
      jobs.delete(path.split('/').at(-1) ?? '');
    },
  };
  return { client: client as unknown as KubeClient, started, patched };
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
    return { input, next: nextRun(input.document, input.record, 'patching') };
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

describe('scans', () => {
  const report = JSON.stringify({
    Controls: [],
    Totals: { total_pass: 40, total_fail: 2, total_warn: 5, total_info: 0 },
  });

  it('runs kube-bench once per role and adds up its totals', async () => {
    const { client, started } = jobClient(() => `some noise\n${report}`);
    const nodes = [node('a', { controlPlane: true }), node('b'), node('c')];
    let outcome: PolicyStep = { kind: 'later', waitingFor: '' };
    for (let turn = 0; turn < 5 && outcome.kind === 'later'; turn += 1)
      outcome = await scanCis(client, nodes, 'run1', signal);
    expect(outcome).toEqual({
      kind: 'done',
      summary: {
        'control-plane': { pass: 40, fail: 2, warn: 5, info: 0 },
        worker: { pass: 40, fail: 2, warn: 5, info: 0 },
      },
    });
    expect(new Set(started)).toEqual(new Set(['cis-control-plane-run1', 'cis-worker-run1']));
  });

  it('says that there is no report instead of reporting zeros', () => {
    expect(() => readTotals('exec format error')).toThrow('kube-bench wrote no report');
  });
});

describe('patching', () => {
  it('takes one node at a time, reboots only where it is due, and waits for a new boot id', async () => {
    const { client, started, patched } = jobClient((job) =>
      job.includes('-b-') ? 'PCG-REBOOT=yes' : 'PCG-REBOOT=no',
    );
    let nodes = [node('a'), node('b')];
    let summary: Record<string, unknown> = {};
    let outcome: PolicyStep = { kind: 'later', waitingFor: '' };
    for (let turn = 0; turn < 30 && outcome.kind === 'later'; turn += 1) {
      outcome = await patchNodes(
        client,
        nodes,
        { run: 'r', rebootIfRequired: true, summary, nowMs: NOW },
        signal,
      );
      if (outcome.kind === 'later' && outcome.progress) summary = { ...outcome.progress };
      if (started.includes('reboot-b')) nodes = [node('a'), node('b', { bootId: 'boot-new' })];
    }
    expect(outcome).toEqual({ kind: 'done', summary: { done: ['a', 'b'], reboots: ['b'] } });
    expect(started).toEqual(['patch-a-r', 'patch-b-r', 'reboot-b']);
    expect(patched).toEqual([{ spec: { unschedulable: true } }, { spec: { unschedulable: false } }]);
  });

  it('waits while another node is not Ready', async () => {
    const { client, started } = jobClient(() => '');
    const outcome = await patchNodes(
      client,
      [node('a'), node('b', { ready: false })],
      { run: 'r', rebootIfRequired: true, summary: {}, nowMs: NOW },
      signal,
    );
    expect(outcome).toMatchObject({ kind: 'later', waitingFor: 'b to be Ready' });
    expect(started).toEqual([]);
  });
});

describe('the queue', () => {
  const waiting = (id: string, createdAt: number) =>
    newClusterRecord({ id, name: id, account: 'ca-one', generation: 1, now: createdAt });

  it('shows places oldest first, survives a restart, and lets go on resume', async () => {
    const records = memoryRecords();
    await records.put(COLLECTIONS.clusters, 'cl-two', waiting('cl-two', 20));
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 10));
    using before = await openQueue(records, () => NOW);
    expect(before.place('cl-one')).toBeUndefined();
    await before.hold('the gateway is being updated');
    using after = await openQueue(records, () => NOW);
    expect(after.place('cl-one')).toEqual({ position: 1, reason: 'the gateway is being updated' });
    expect(after.place('cl-two')?.position).toBe(2);
    await after.resume();
    expect(after.place('cl-two')).toBeUndefined();
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
