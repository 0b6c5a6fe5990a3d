/** Policies and the queue: when they run, what they report, what survives a restart. */
import { describe, expect, it, vi } from 'vitest';
import { newClusterRecord } from '../../src/cluster/model.ts';
import { type Log, silentLog } from '../../src/base/log.ts';
import type { KubeNode } from '../../src/cluster/observed.ts';
import { type RebootProgress, readRebootProgress, rebootNodes } from '../../src/cluster/policies/reboot.ts';
import { duePolicies, nextRun } from '../../src/cluster/policies/schedule.ts';
import { openQueue } from '../../src/cluster/queue.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { memoryRecords } from '../support/memory-store.ts';
import { clusterSpec } from '../support/node-input.ts';
import { NOW, scene } from '../support/scenes.ts';

const signal = new AbortController().signal;
const HOUR = 3_600_000;

/** Remembers Jobs and patches; the nodes carry no pods. */
function jobClient() {
  const started: string[] = [];
  const patched: unknown[] = [];
  const client: Partial<KubeClient> = {
    async create(object) {
      if (started.includes(object.metadata.name)) return 'exists';
      started.push(object.metadata.name);
      return object;
    },
    apply: async (object) => object,
    list: async () => ({ items: [], resourceVersion: '1' }),
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

describe('reboots after patching', () => {
  async function rebootAll(wanting: string[], nodesAt: (started: readonly string[]) => KubeNode[]) {
    const { client, started, patched } = jobClient();
    let progress: RebootProgress = { wanting };
    for (let turn = 0; turn < 40; turn += 1) {
      const outcome = await rebootNodes(client, nodesAt(started), progress, { run: 'r', nowMs: NOW }, signal);
      if (outcome.kind === 'done') return { done: true, started, patched };
      // As after a restart: only what was written down is known.
      progress = readRebootProgress(JSON.parse(JSON.stringify(outcome.progress)));
    }
    return { done: false, started, patched };
  }

  it('take one node at a time, each cordoned, rebooted until its boot id is new, and put back to work', async () => {
    const { done, started, patched } = await rebootAll(['a', 'b'], (jobs) =>
      ['a', 'b', 'c'].map((name) => node(name, jobs.includes(`reboot-r-${name}`) ? { bootId: 'new' } : {})),
    );
    expect(done).toBe(true);
    expect(started).toEqual(['reboot-r-a', 'reboot-r-b']);
    expect(patched).toEqual([true, false, true, false].map((unschedulable) => ({ spec: { unschedulable } })));
  });

  it('wait while another node is not Ready', async () => {
    const { done, started } = await rebootAll(['a'], () => [node('a'), node('b', { ready: false })]);
    expect(done).toBe(false);
    expect(started).toEqual([]);
  });

  it('do not wait for a node that has left', async () => {
    const { done, started } = await rebootAll(['gone', 'a'], (jobs) => [
      node('a', jobs.length > 0 ? { bootId: 'new' } : {}),
    ]);
    expect(done).toBe(true);
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
    await vi.waitFor(() =>
      expect(errors).toEqual([[{ error: expect.stringContaining('full') }, expect.any(String)]]),
    );
    expect(queue.place('cl-two')?.position).toBe(1);
    const old = await records.list(COLLECTIONS.clusters);
    const late = Promise.withResolvers<typeof old>();
    list.mockReturnValueOnce(late.promise);
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 30));
    await records.put(COLLECTIONS.clusters, 'cl-one', waiting('cl-one', 40));
    late.resolve(old); // in which cl-one is the older one
    await vi.waitFor(() => expect(list).toHaveBeenCalledTimes(4));
    await vi.waitFor(() => expect(queue.place('cl-two')?.position).toBe(1));
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
