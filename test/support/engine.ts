/** An engine on a fake site, in its time, with records that survive it: abandon one, start the next, as kill -9 does. */
import { silentLog } from '../../src/base/log.ts';
import { type ClusterEngine, createClusterEngine } from '../../src/cluster/engine.ts';
import { DEFAULT_TIMINGS, scaleTimings } from '../../src/cluster/timings.ts';
import type { Timings } from '../../src/cluster/timings.ts';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { createMaasObserver } from '../../src/maas/observer.ts';
import type { Outbox } from '../../src/store/outbox.ts';
import { COLLECTIONS, type Records } from '../../src/store/records.ts';
import type { FakeSite } from './fake-site.ts';
import { memoryOutbox, memoryRecords } from './memory-store.ts';
import { clusterSpec, resolvedProfile } from './node-input.ts';

export const FAST_TIMINGS: Timings = {
  ...scaleTimings(DEFAULT_TIMINGS, 600),
  activeMs: 15,
  restMs: 60,
  kubeProbeMs: 10,
  kubeTimeoutMs: 2000,
  retryBaseMs: 5,
  retryCapMs: 40,
  blockedRetryMs: 200,
  claimSettleMs: 60,
  candidatesMs: 100,
};

export function document(changes: Partial<ClusterDocument> = {}): ClusterDocument {
  return {
    id: 'cl-demo',
    spec: clusterSpec(),
    profile: resolvedProfile(),
    intent: { kind: 'present' },
    actions: [],
    ...changes,
  };
}

export class EngineHarness implements AsyncDisposable {
  readonly site: FakeSite;
  readonly records: Records = memoryRecords();
  readonly outbox: Outbox;
  readonly timings: Timings;
  engine!: ClusterEngine;
  #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #generation = 0;

  readonly queue: (clusterId: string) => ClusterStatus['queue'];

  constructor(
    site: FakeSite,
    timings: Partial<Timings> = {},
    queue: (clusterId: string) => ClusterStatus['queue'] = () => undefined,
  ) {
    this.site = site;
    this.outbox = memoryOutbox(site.clock);
    this.queue = queue;
    this.timings = { ...FAST_TIMINGS, ...timings };
    this.start();
  }

  start(): void {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const maas = this.site.client();
    const observer = createMaasObserver({
      client: maas,
      clock: this.site.clock,
      log: silentLog,
      intervals: { activeMs: 8, idleMs: 30, fullMs: 100 },
    });
    this.engine = createClusterEngine({
      records: fenced(this.records, signal),
      outbox: fencedOutbox(this.outbox, signal),
      clock: this.site.clock,
      log: silentLog,
      gatewayId: 'gw-one',
      accounts: { client: () => ({ maas, observer }) },
      kube: (target) => this.site.kube(target),
      etcd: (endpoints) => this.site.etcd(endpoints),
      isTaken: async (ip) => this.site.answering.has(ip),
      certificateExpiry: async () => this.site.certificateEnd,
      keyAlgorithm: 'ecdsa-p256', // no server here ever shows a certificate: a hundredth of the time
      site: {},
      timings: this.timings,
      queue: this.queue,
    });
    this.#running = Promise.all([this.engine.run(signal), observer.run(signal)]);
  }

  /** As kill -9: nothing of the old engine reaches disk any more; what it asked of MAAS goes on. */
  crash(): void {
    this.#stop.abort(new Error('killed'));
    this.start();
  }

  /** In the time of the site. */
  async pause(ms: number): Promise<void> {
    await this.site.clock.sleep(ms);
  }

  async want(wanted: ClusterDocument): Promise<void> {
    this.#generation += 1;
    await this.records.put(COLLECTIONS.documents, `cluster/${wanted.id}`, {
      generation: this.#generation,
      spec: wanted,
    });
  }

  async until(
    what: string,
    test: (status: ClusterStatus) => boolean,
    { cluster = 'cl-demo', withinMs = 20_000 } = {},
  ): Promise<ClusterStatus> {
    const { clock } = this.site;
    const end = clock.monotonic() + withinMs;
    for (;;) {
      const status = this.engine.status(cluster);
      if (status && test(status)) return status;
      if (clock.monotonic() > end)
        throw new Error(
          `not ${what} within ${withinMs} ms: ${JSON.stringify(summary(status), undefined, 1)}`,
        );
      await clock.sleep(5);
    }
  }

  async phase(
    phase: ClusterStatus['phase'],
    options: { cluster?: string; withinMs?: number } = {},
  ): Promise<ClusterStatus> {
    return await this.until(phase, (status) => status.phase === phase, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('test is over'));
    await this.#running;
  }
}

function summary(status: ClusterStatus | undefined): unknown {
  return {
    phase: status?.phase,
    error: status?.error,
    nodes: status?.nodes.map(({ name, phase, maasStatus, tasks }) => ({ name, phase, maasStatus, tasks })),
    conditions: status?.conditions.map(({ type, status: state, message }) => `${type} ${state} ${message}`),
    tasks: status?.tasks,
  };
}

/** A dead process writes nothing. */
function fenced(records: Records, signal: AbortSignal): Records {
  const alive = () => signal.throwIfAborted();
  return {
    get: (collection, key) => records.get(collection, key),
    list: (collection) => records.list(collection),
    watch: (collection, listener) => records.watch(collection, listener),
    async put(collection, key, value, options) {
      alive();
      return await records.put(collection, key, value, options);
    },
    async delete(collection, key) {
      alive();
      return await records.delete(collection, key);
    },
  };
}

function fencedOutbox(outbox: Outbox, signal: AbortSignal): Outbox {
  return new Proxy(outbox, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...parameters: unknown[]) => {
        if (name === 'putSnapshot' || name === 'appendEvent') signal.throwIfAborted();
        return value.apply(target, parameters);
      };
    },
  });
}
