/**
 * The engine on the real simulator through the real clients: HTTP to MAAS, TLS through the machine proxy. Time leaps:
 * no test waits for hardware, and no deadline depends on what else the machine has to do.
 */
import { Secret, silentLog } from '../../src/base/log.ts';
import type { SnapshotDoor } from '../../src/cluster/context.ts';
import { type ClusterEngine, createClusterEngine } from '../../src/cluster/engine.ts';
import { DEFAULT_TIMINGS, scaleTimings, type Timings } from '../../src/cluster/timings.ts';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import type { KeyAlgorithm } from '../../src/kube/pki.ts';
import { createMaasObserver } from '../../src/maas/observer.ts';
import { createMaasClient } from '../../src/maas/rest-client.ts';
import { createKubernetesRuntime, type KubernetesRuntime } from '../../src/simulator/kubernetes/runtime.ts';
import { type Simulator, type SimulatorOptions, startSimulator } from '../../src/simulator/simulator.ts';
import type { Outbox } from '../../src/store/outbox.ts';
import { COLLECTIONS, type Records } from '../../src/store/records.ts';
import type { FakeKubernetes } from './fake-kubernetes.ts';
import { hurriedClock } from './hurried-clock.ts';
import { LeapingClock } from './leaping-clock.ts';
import { createLightRuntime, type LightRuntime } from './light-runtime.ts';
import { memoryOutbox, memoryRecords } from './memory-store.ts';

const YEAR_MS = 365 * 24 * 3600 * 1000;

interface SimulatedSiteOptions extends Omit<SimulatorOptions, 'runtime' | 'clock'> {
  readonly speed: number;
  readonly timings?: Partial<Timings>;
  /** Waits of the MAAS client are divided by this: not every Retry-After is waited out in full. */
  readonly maasHurry?: number;
  /** How far the site's time starts behind the real one; more than it lasts, less than its certificates do. */
  readonly behindMs?: number;
  readonly snapshots?: SnapshotDoor;
  /** Least distance between two looks at MAAS; more of them cost more than they save. */
  readonly observeMs?: number;
  /** Of the clusters' keys; default: one whose keys are made in no time. */
  readonly keyAlgorithm?: KeyAlgorithm;
  /** Kubernetes in memory instead of the simulated one. */
  readonly light?: boolean;
}

export class SimulatedSite implements AsyncDisposable {
  readonly simulator: Simulator;
  readonly kubernetes: KubernetesRuntime;
  readonly records: Records = memoryRecords();
  readonly outbox: Outbox;
  readonly timings: Timings;
  readonly speed: number;
  readonly #light: FakeKubernetes | undefined;
  readonly clock: LeapingClock;
  readonly #options: SimulatedSiteOptions;
  engine!: ClusterEngine;
  #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #generation = 0;
  #kill: ((value: unknown) => 'before' | 'after' | undefined) | undefined;
  /** How often `killOnWrites` has struck. */
  kills = 0;

  private constructor(
    simulator: Simulator,
    kubernetes: KubernetesRuntime,
    light: FakeKubernetes | undefined,
    options: SimulatedSiteOptions,
    clock: LeapingClock,
  ) {
    this.simulator = simulator;
    this.kubernetes = kubernetes;
    this.#light = light;
    this.#options = options;
    this.clock = clock;
    this.outbox = memoryOutbox(clock);
    this.speed = options.speed;
    const scaled = scaleTimings(DEFAULT_TIMINGS, options.speed);
    this.timings = { ...scaled, claimSettleMs: 500, ...options.timings };
    this.start();
  }

  static async start(options: SimulatedSiteOptions): Promise<SimulatedSite> {
    let kubernetes: KubernetesRuntime | undefined;
    let light: LightRuntime | undefined;
    const clock = new LeapingClock(options.behindMs);
    const simulator = await startSimulator({
      ...options,
      clock,
      runtime: (site) => {
        kubernetes = createKubernetesRuntime(site);
        if (!options.light) return kubernetes;
        light = createLightRuntime(site);
        return light;
      },
    });
    if (!kubernetes) throw new Error('the simulator did not ask for its runtime');
    return new SimulatedSite(simulator, kubernetes, light?.kubernetes, options, clock);
  }

  start(): void {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const { clock } = this;
    const observeMs = this.#options.observeMs ?? 50;
    const maas = createMaasClient({
      endpoint: this.simulator.maasUrl,
      apiKey: new Secret(this.simulator.adminKey),
      clock: hurriedClock(this.#options.maasHurry ?? 1, clock),
      log: silentLog,
    });
    const observer = createMaasObserver({
      client: maas,
      clock,
      log: silentLog,
      intervals: {
        activeMs: Math.max(observeMs, 10_000 / this.speed),
        idleMs: Math.max(2 * observeMs, 30_000 / this.speed),
        fullMs: Math.max(500, 300_000 / this.speed),
      },
    });
    const alive = () => signal.throwIfAborted();
    const { records } = this;
    const choose = (value: unknown) => this.#kill?.(value);
    const die = () => this.#die();
    const light = this.#light;
    this.engine = createClusterEngine({
      records: {
        get: (collection, key) => records.get(collection, key),
        list: (collection) => records.list(collection),
        watch: (collection, listener) => records.watch(collection, listener),
        async put(collection, key, value, options) {
          alive();
          const kill = choose(value);
          if (kill === 'before') die();
          alive();
          const revision = await records.put(collection, key, value, options);
          if (kill === 'after') die();
          alive();
          return revision;
        },
        async delete(collection, key) {
          alive();
          return await records.delete(collection, key);
        },
      },
      outbox: this.outbox,
      clock,
      log: silentLog,
      gatewayId: 'gw-one',
      accounts: { client: () => ({ maas, observer }) },
      kube: (target) => (light ? light.kube(target) : createKubeClient(target, { clock, log: silentLog })),
      ...(light && {
        etcd: (endpoints: readonly string[]) => light.etcd(endpoints),
        certificateExpiry: async () => clock.now() + YEAR_MS,
      }),
      keyAlgorithm: this.#options.keyAlgorithm ?? 'ecdsa-p256',
      site: { machineProxyUrl: this.simulator.machineProxyUrl },
      ...(this.#options.snapshots === undefined ? {} : { snapshots: this.#options.snapshots }),
      timings: this.timings,
    });
    this.#running = Promise.all([this.engine.run(signal), observer.run(signal)]).then(() =>
      maas[Symbol.asyncDispose](),
    );
  }

  /** As kill -9 just before or just after a write of the record reached the disk: between any two steps. */
  killOnWrites(choose: ((value: unknown) => 'before' | 'after' | undefined) | undefined): void {
    this.#kill = choose;
  }

  #die(): void {
    this.kills += 1;
    this.crash();
  }

  crash(): void {
    this.#stop.abort(new Error('killed'));
    this.start();
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
    { cluster = 'cl-demo', withinMs = 60_000 } = {},
  ): Promise<ClusterStatus> {
    const end = this.clock.monotonic() + withinMs;
    for (;;) {
      const status = this.engine.status(cluster);
      if (status && test(status)) return status;
      if (this.clock.monotonic() > end)
        throw new Error(`not ${what} within ${withinMs} ms: ${await this.describe(status)}`);
      await this.clock.sleep(Math.max(20, withinMs / 5_000));
    }
  }

  async describe(status: ClusterStatus | undefined): Promise<string> {
    const events = await this.outbox.recentEvents({}, 12);
    return JSON.stringify(
      {
        phase: status?.phase,
        error: status?.error,
        nodes: status?.nodes.map(({ name, phase, systemId, maasStatus, maasMessage }) => ({
          name,
          phase,
          maasStatus,
          maasMessage,
          inside: systemId === undefined ? undefined : this.kubernetes.machine(systemId),
        })),
        conditions: status?.conditions.map(
          ({ type, status: state, message }) => `${type} ${state} ${message}`,
        ),
        tasks: status?.tasks,
        clusters: this.kubernetes.clusters(),
        events: events.map(({ reason, message, error }) => ({ reason, message, error })),
      },
      undefined,
      1,
    );
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
    await this.simulator[Symbol.asyncDispose]();
    await this.kubernetes[Symbol.asyncDispose]();
    this.clock[Symbol.dispose]();
  }
}
