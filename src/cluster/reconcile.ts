/**
 * One cluster's run: observe -> learn -> plan -> start what may start -> report, for as long as the cluster is
 * known. Steps run side by side, one per subject; each change of the record is on disk before anything relies
 * on it. Stopping at any await loses nothing: the next run starts from record and observation.
 */
import { backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError, toProblem } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Wake } from '../base/wake.ts';
import { type ClusterDocument, ClusterDocumentSchema, type ClusterStatus } from '../contract/cluster.ts';
import type { EventDraft } from '../contract/events.ts';
import type { ProblemDetails } from '../contract/errors.ts';
import type { KubeClient, KubeTarget } from '../kube/client.ts';
import type { EtcdClient } from '../kube/etcd.ts';
import type { Outbox } from '../store/outbox.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';
import { ClusterAccess, type MakeEtcdClient, unreachable } from './access.ts';
import { missingComponent } from './components.ts';
import type { AccountServices, EngineSite, StepContext } from './context.ts';
import { EtcdLooks } from './etcd-looks.ts';
import type { History } from './history.ts';
import { learn } from './milestones.ts';
import { type ClusterRecord, endpointAddress, newClusterRecord } from './model.ts';
import type { Random } from './names.ts';
import { apiHosts, type KubeAnswer, observeKube, observeMaas, trackedIds } from './observe.ts';
import type { Observed } from './observed.ts';
import { plan, type PlanInput, sceneOf } from './plan.ts';
import { poolsWantingSpares } from './remediation.ts';
import { StatusReport } from './report.ts';
import { poolsExpanding } from './rollout.ts';
import { placementContext } from './steps/allocate.ts';
import type { Quarantine } from './quarantine.ts';
import { leftBehind } from './steps/delete.ts';
import { executeStep } from './steps/execute.ts';
import { isInterruptible, keyOf, shrinksEtcd, type Step, subjectOf } from './steps.ts';
import { afterFailure, afterStart, afterSuccess, taskKey } from './task-book.ts';
import type { Timings } from './timings.ts';

export interface RunDependencies {
  readonly records: Records;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly log: Log;
  readonly gatewayId: string;
  readonly account: (id: string) => AccountServices | PcgError;
  readonly kube: (target: KubeTarget) => KubeClient;
  readonly etcd: MakeEtcdClient;
  readonly isTaken: StepContext['isTaken'];
  readonly certificateExpiry: StepContext['certificateExpiry'];
  readonly keyAlgorithm: StepContext['keyAlgorithm'];
  readonly snapshots: StepContext['snapshots'];
  readonly site: EngineSite;
  readonly timings: Timings;
  readonly random: Random;
  readonly quarantine: Quarantine;
  /** What an account's clusters share. */
  readonly history: (account: string) => Promise<History>;
  /** Endpoint addresses that other clusters of this gateway hold. */
  readonly addressesInUse: (exceptCluster: string) => Promise<ReadonlySet<string>>;
  /** While a gateway updates or resizes, new clusters wait here. */
  readonly queue: (clusterId: string) => ClusterStatus['queue'];
}

interface StoredDocument {
  readonly generation: number;
  readonly spec: unknown;
}

interface Flight {
  readonly step: Step;
  readonly controller: AbortController;
  readonly done: Promise<void>;
}

interface Rest {
  readonly attempts: number;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/** What only time or a person brings; asking costs a list of the whole fleet, so it is asked rarely. */
const SCARCE: ReadonlySet<string> = new Set([
  'NOT_ENOUGH_MACHINES',
  'NO_MATCHING_MACHINE',
  'VIP_UNAVAILABLE',
  'MAAS_IP_EXHAUSTED',
]);

type Turn = { readonly kind: 'wait'; readonly ms: number } | { readonly kind: 'gone' };

export class ClusterRun {
  readonly id: string;
  readonly #deps: RunDependencies;
  readonly #log: Log;
  readonly #wake = new Wake();
  readonly #access: ClusterAccess;
  readonly #report: StatusReport;
  readonly #flights = new Map<string, Flight>();
  readonly #rests = new Map<string, Rest>();
  readonly #waiting = new Map<string, string>();
  /** Subject -> number of the look after which its last step ended. */
  readonly #touched = new Map<string, number>();
  readonly #superseded = new AbortController();
  readonly #since: number;
  #looks = 0;
  #record: ClusterRecord | undefined;
  #revision = 0;
  #writes: Promise<unknown> = Promise.resolve();
  #kube: { readonly answer: KubeAnswer; readonly at: number } | undefined;
  /** Since when the API server has not answered; wall clock, milliseconds. */
  #kubeSilentSince: number | undefined;
  readonly #etcdLooks: EtcdLooks;
  #crippledAt: number | undefined;
  #history: History | undefined;
  #generation = 0;
  /** Of what this generation wants. */
  #wanted = new AbortController();
  /** That there is no document was said. */
  #missed = false;

  constructor(id: string, deps: RunDependencies) {
    this.id = id;
    this.#deps = deps;
    this.#log = deps.log.child({ cluster: id });
    this.#since = deps.clock.now();
    this.#etcdLooks = new EtcdLooks(deps.clock, this.#log, deps.timings.kubeTimeoutMs);
    this.#access = new ClusterAccess(deps, deps.clock, deps.site.machineProxyUrl);
    this.#report = new StatusReport(id, deps.outbox, deps.clock, deps.timings.reportMs);
  }

  get status(): ClusterStatus | undefined {
    return this.#report.status;
  }

  get record(): ClusterRecord | undefined {
    return this.#record;
  }

  ring(): void {
    this.#wake.ring();
  }

  /** Admin credentials for the API server's endpoint; undefined before it can exist. */
  async kubeTarget(): Promise<KubeTarget | undefined> {
    const endpoint = this.#record && endpointAddress(this.#record.endpoint);
    const pki = this.#record?.pki;
    if (!endpoint || !pki || this.#record?.initializedAt === undefined) return undefined;
    return await this.#access.target(pki, endpoint.host, endpoint.port);
  }

  /** Until the cluster is gone or the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, timings } = this.#deps;
    let observing: Disposable | undefined;
    try {
      await this.#load();
      while (!signal.aborted) {
        let turn: Turn;
        try {
          turn = await this.#turn(signal, (subscription) => {
            observing ??= subscription();
          });
        } catch (error) {
          if (signal.aborted) break;
          this.#log.error({ error: describeError(error) }, 'cluster turn failed');
          turn = { kind: 'wait', ms: timings.retryCapMs };
        }
        if (turn.kind === 'gone') break;
        await this.#wake.wait(clock, turn.ms, signal).catch(() => undefined); // rejects only when aborted
      }
    } finally {
      observing?.[Symbol.dispose]();
      for (const flight of this.#flights.values()) flight.controller.abort(signal.reason);
      await Promise.allSettled([...this.#flights.values()].map((flight) => flight.done));
      await this.#access[Symbol.asyncDispose]();
    }
  }

  async #load(): Promise<void> {
    const stored = await this.#deps.records.get<ClusterRecord>(COLLECTIONS.clusters, this.id);
    this.#record = stored?.value;
    this.#revision = stored?.revision ?? 0;
  }

  async #turn(signal: AbortSignal, observe: (subscribe: () => Disposable) => void): Promise<Turn> {
    const { records, timings, clock } = this.#deps;
    const stored = await records.get<StoredDocument>(COLLECTIONS.documents, `cluster/${this.id}`);
    if (!stored || stored.value.spec === null) return await this.#withoutDocument(stored !== undefined);
    const parsed = ClusterDocumentSchema.safeParse(stored.value.spec);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      return await this.#refuse(
        new PcgError('INVALID_INPUT', issue?.message ?? 'the cluster document is malformed', {
          field: issue?.path.join('.'),
        }),
        stored.value.generation,
      );
    }
    const document = parsed.data;
    await this.#adopt(document, stored.value.generation);
    const account = this.#deps.account(document.spec.cloudAccount);
    if (account instanceof PcgError) return await this.#refuse(account, stored.value.generation);
    this.#history ??= await this.#deps.history(account.id);
    observe(() => this.#subscribe(account));

    const queue =
      document.intent.kind === 'present' && this.#record?.pki === undefined
        ? this.#deps.queue(this.id)
        : undefined;
    if (document.intent.kind !== 'present') this.#preempt();
    this.#looks += 1;
    const look = this.#looks;
    const observed = await this.#observe(document, account, signal);
    await this.#learn(observed);
    const input = this.#input(document, observed);
    const steps = queue ? [] : plan(input);
    for (const step of steps)
      if (this.#mayStart(step, look)) this.#start(step, document, observed, account, signal);
    const unsaidMs = await this.#report.put(this.#input(document, observed), {
      history: this.#history,
      waiting: this.#waiting,
      ...(queue === undefined ? {} : { queue }),
    });

    const now = clock.monotonic();
    // Backups that wait for a Velero that somebody has to add move nothing: only their next attempt matters.
    const idle = steps.every((step) => step.kind === 'set-up-backups' && !this.#mayStart(step, look));
    const resting = this.#record?.stage.kind === 'running' && idle && this.#flights.size === 0;
    account.observer.active(this.id, !resting && this.#record?.stage.kind !== 'deleted');
    if (this.#record?.stage.kind === 'deleted') {
      account.observer.untrack(this.id);
      return { kind: 'wait', ms: Math.min(timings.restMs, unsaidMs) };
    }
    // A rest that is over waits for no clock: its step starts when something rings, or is never planned again.
    const rests = [...this.#rests.values()].map((rest) => rest.until - now).filter((left) => left > 0);
    const soonest = Math.min(...rests, resting ? timings.restMs : timings.activeMs);
    return {
      kind: 'wait',
      ms: Math.min(unsaidMs, resting ? soonest : Math.max(0, Math.min(soonest, this.#probeMs()))),
    };
  }

  #input(document: ClusterDocument, observed: Observed): PlanInput {
    return {
      document,
      generation: this.#generation,
      record: this.#mustRecord(),
      observed,
      timings: this.#deps.timings,
    };
  }

  #mustRecord(): ClusterRecord {
    if (!this.#record) throw new PcgError('INTERNAL', `cluster ${this.id} has no record`);
    return this.#record;
  }

  /**
   * The portal has withdrawn the document, or a restored store lacks it: a cluster that is deleted, or that holds
   * nothing and has no keys yet, is forgotten; any other is left untouched until its document comes back.
   */
  async #withoutDocument(withdrawn: boolean): Promise<Turn> {
    const record = this.#record;
    const ended = record?.stage.kind === 'deleted' && (withdrawn || record.leftovers.length === 0);
    const empty = record?.pki === undefined && (record === undefined || leftBehind(record).length === 0);
    if (ended || empty) {
      await this.#deps.records.delete(COLLECTIONS.clusters, this.id);
      await this.#deps.outbox.putSnapshot('cluster', this.id, null);
      return { kind: 'gone' };
    }
    if (!this.#missed) this.#log.warn('cluster without a document: left as it is');
    this.#missed = true;
    return { kind: 'wait', ms: this.#deps.timings.restMs };
  }

  async #refuse(error: PcgError, generation: number): Promise<Turn> {
    const { clock, timings } = this.#deps;
    await this.#report.replace((before) => ({
      ...(before ?? {
        nodes: [],
        tasks: [],
        policies: [],
        leftovers: [],
        conditions: [],
        progress: { done: 0, total: 0 },
      }),
      phase:
        this.#record?.stage.kind === 'deleting'
          ? 'Deleting'
          : this.#record?.stage.kind === 'running'
            ? 'Unknown'
            : 'Failed',
      observedGeneration: generation,
      observedAt: before?.observedAt ?? new Date(clock.now()).toISOString(),
      error: toProblem(error),
    }));
    return { kind: 'wait', ms: error.retryable ? timings.activeMs : timings.blockedRetryMs };
  }

  /** A new generation ends every pause and clears the old cause of failure: it may be the remedy. */
  async #adopt(document: ClusterDocument, generation: number): Promise<void> {
    const { clock } = this.#deps;
    if (this.#record === undefined) {
      const record = newClusterRecord({
        id: document.id,
        name: document.spec.name,
        account: document.spec.cloudAccount,
        generation,
        now: clock.now(),
      });
      this.#record = record;
      await this.#commit(() => record);
    }
    if (generation !== this.#generation) {
      this.#rests.clear();
      if (this.#generation !== 0 && this.#record.problemStep !== undefined)
        await this.#commit(({ problem: _problem, problemStep: _step, ...rest }) => rest);
      this.#generation = generation;
      this.#wanted.abort(new PcgError('CANCELLED', 'something else is wanted by now'));
      this.#wanted = new AbortController();
    }
  }

  #subscribe(account: AccountServices): Disposable {
    return account.observer.onChange((keys) => {
      if (keys.has(this.id)) this.#wake.ring();
    });
  }

  /** Delete and abort do not wait for what they make pointless. */
  #preempt(): void {
    if (!this.#superseded.signal.aborted)
      this.#superseded.abort(new PcgError('CANCELLED', 'the cluster is being deleted'));
    for (const flight of this.#flights.values()) {
      if (isInterruptible(flight.step)) flight.controller.abort(this.#superseded.signal.reason);
    }
  }

  async #observe(
    document: ClusterDocument,
    account: AccountServices,
    signal: AbortSignal,
  ): Promise<Observed> {
    const { clock, timings } = this.#deps;
    const record = this.#mustRecord();
    account.observer.track(this.id, trackedIds(record));
    const maas = observeMaas(record, account.observer);
    const due = this.#kube === undefined || clock.monotonic() - this.#kube.at >= this.#probeMs() * 0.9;
    if (due && record.stage.kind !== 'deleting' && record.stage.kind !== 'deleted') {
      const answer = await observeKube({
        record,
        machines: maas.machines,
        access: this.#access,
        clock,
        timings,
        signal,
      });
      this.#kube = { answer, at: clock.monotonic() };
      const silent = answer.view.kind === 'unreachable';
      this.#kubeSilentSince = silent ? (this.#kubeSilentSince ?? clock.now()) : undefined;
    }
    const kube = this.#kube?.answer.view ?? { kind: 'none' as const };
    const plain = {
      now: clock.now(),
      since: this.#since,
      ...maas,
      kube,
      kubeSilentSince: this.#kubeSilentSince,
      etcd: undefined,
      etcdAlarms: [],
      spares: undefined,
    };
    const open = () => this.#etcd(plain);
    const input = this.#input(document, plain);
    const etcd = await this.#etcdLooks.observe(input, open, this.#probeMs() * 0.9, signal);
    // etcd that takes no writes, or pods that nobody places: no node that comes meanwhile is late.
    if (etcd.etcdAlarms.length > 0 || missingComponent(kube)) this.#crippledAt = plain.now;
    const whole = { ...plain, ...etcd, crippledAt: this.#crippledAt };
    return { ...whole, spares: await this.#observeSpares(whole, document, account, signal) };
  }

  /** All wait for the control plane while it comes up, one node after the other. */
  #probeMs(): number {
    const { kubeProbeMs, kubeBootProbeMs } = this.#deps.timings;
    const { nodes, stage } = this.#mustRecord();
    const coming = nodes.some((node) => node.role === 'control-plane' && node.readyAt === undefined);
    return coming && stage.kind !== 'deleting' ? Math.min(kubeProbeMs, kubeBootProbeMs) : kubeProbeMs;
  }

  async #observeSpares(
    observed: Observed,
    document: ClusterDocument,
    account: AccountServices,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, number> | undefined> {
    const scene = sceneOf(this.#input(document, observed));
    const names = [...poolsWantingSpares(scene), ...poolsExpanding(scene)];
    if (names.length === 0) return undefined;
    const spares = new Map<string, number>();
    for (const pool of document.spec.pools.filter(({ name }) => names.includes(name))) {
      try {
        const context = this.#context(document, observed, account);
        const free = await account.candidates.ordered(
          pool,
          await placementContext(context, pool),
          new Map(),
          signal,
        );
        spares.set(pool.name, free.length);
      } catch (error) {
        signal.throwIfAborted();
        this.#log.debug({ pool: pool.name, error: describeError(error) }, 'spares were not counted');
      }
    }
    return spares;
  }

  async #learn(observed: Observed): Promise<void> {
    // Learnt from the record as it is when written: a step may have ended in between.
    const before = this.#mustRecord();
    const { record, events, durations } = learn(before, observed);
    if (record === before) return;
    await this.#commit((current) => (current === before ? record : learn(current, observed).record));
    for (const draft of events) await this.#event(draft);
    for (const { task, ms } of durations) await this.#history?.add(task, ms);
  }

  #mayStart(step: Step, look: number): boolean {
    const subject = subjectOf(step);
    if (this.#flights.has(subject)) return false;
    if (shrinksEtcd(step) && [...this.#flights.values()].some((flight) => shrinksEtcd(flight.step)))
      return false;
    // Planned from a picture that is older than the subject's last step.
    if ((this.#touched.get(subject) ?? 0) >= look) return false;
    const rest = this.#rests.get(keyOf(step));
    return rest === undefined || rest.until <= this.#deps.clock.monotonic();
  }

  #start(
    step: Step,
    document: ClusterDocument,
    observed: Observed,
    account: AccountServices,
    signal: AbortSignal,
  ): void {
    const subject = subjectOf(step);
    const controller = new AbortController();
    const combined = AbortSignal.any([signal, controller.signal]);
    const done = this.#execute(step, document, observed, account, combined).finally(() => {
      this.#flights.delete(subject);
      if (shrinksEtcd(step)) this.#etcdLooks.renew();
      this.#touched.set(subject, this.#looks);
      this.#wake.ring();
    });
    this.#flights.set(subject, { step, controller, done });
  }

  async #execute(
    step: Step,
    document: ClusterDocument,
    observed: Observed,
    account: AccountServices,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, timings } = this.#deps;
    const key = keyOf(step);
    const task = taskKey(step);
    try {
      await this.#commit((record) => afterStart(record, step, clock.now()));
      const outcome = await executeStep(step, this.#context(document, observed, account), signal);
      if (outcome.kind === 'later') {
        this.#rests.set(key, {
          attempts: 0,
          until: clock.monotonic() + (outcome.afterMs ?? timings.activeMs),
        });
        if (task !== undefined) this.#waiting.set(task, outcome.waitingFor);
        return;
      }
      this.#rests.delete(key);
      if (task !== undefined) this.#waiting.delete(task);
      await this.#commit((record) => afterSuccess(record, step, clock.now()));
    } catch (error) {
      if (signal.aborted) return;
      await this.#failed(step, error).catch((cause: unknown) => {
        this.#log.error({ step: key, error: describeError(cause) }, 'failure could not be recorded');
      });
    }
  }

  async #failed(step: Step, error: unknown): Promise<void> {
    const { clock, timings, random } = this.#deps;
    const key = keyOf(step);
    const attempts = (this.#rests.get(key)?.attempts ?? 0) + 1;
    const problem: ProblemDetails = toProblem(error);
    const pause =
      problem.retryable && !SCARCE.has(problem.code)
        ? timings.retryBaseMs / 2 +
          backoffMs({ baseMs: timings.retryBaseMs, capMs: timings.retryCapMs }, attempts, random)
        : timings.blockedRetryMs;
    this.#rests.set(key, { attempts, until: clock.monotonic() + pause });
    this.#log.warn(
      { step: key, attempt: attempts, code: problem.code, error: describeError(error) },
      'step failed',
    );
    await this.#commit((record) =>
      afterFailure(record, step, { problem, attempts, now: clock.now(), nextAttemptAt: clock.now() + pause }),
    );
    // Said once per cause, not once per attempt.
    if (attempts === 1)
      await this.#event({
        severity: problem.retryable ? 'warning' : 'error',
        reason: 'StepFailed',
        message: problem.message,
        task: step.kind,
        attempt: attempts,
        error: problem,
        ...('node' in step ? { node: step.node } : {}),
      });
  }

  /** Through every control-plane node whose machine runs. */
  async #etcd(observed: Pick<Observed, 'machines'>): Promise<EtcdClient> {
    const record = this.#mustRecord();
    if (!record.pki) throw unreachable(record.name);
    return await this.#access.etcd(record.pki, apiHosts(record, observed.machines));
  }

  #context(document: ClusterDocument, observed: Observed, account: AccountServices): StepContext {
    const { clock, timings, site, random, quarantine, gatewayId } = this.#deps;
    return {
      document,
      generation: this.#generation,
      observed,
      record: () => this.#mustRecord(),
      commit: (change) => this.#commit(change),
      event: (draft) => this.#event(draft),
      account,
      maas: account.maas,
      kube: () => {
        const client = this.#kube?.answer.client;
        if (!client) throw unreachable(document.spec.name);
        return client;
      },
      etcd: () => this.#etcd(observed),
      saw: (machine) => {
        // A machine that was claimed a moment ago: the next step need not wait for MAAS to be read.
        account.observer.track(this.id, trackedIds(this.#mustRecord()));
        account.observer.saw(machine);
      },
      superseded: this.#superseded.signal,
      outdated: this.#wanted.signal,
      addressesInUse: () => this.#deps.addressesInUse(this.id),
      isTaken: this.#deps.isTaken,
      certificateExpiry: this.#deps.certificateExpiry,
      keyAlgorithm: this.#deps.keyAlgorithm,
      snapshots: this.#deps.snapshots,
      quarantine,
      gateway: gatewayId,
      site,
      timings,
      clock,
      log: this.#log,
      random,
    };
  }

  /** Serialised: each change sees the one before; on disk when it resolves. */
  #commit(change: (record: ClusterRecord) => ClusterRecord): Promise<ClusterRecord> {
    const write = this.#writes.then(async () => {
      const before = this.#mustRecord();
      const after = change(before);
      if (after === before && this.#revision > 0) return after;
      this.#revision = await this.#deps.records.put(COLLECTIONS.clusters, this.id, after, {
        ifRevision: this.#revision,
      });
      this.#record = after;
      return after;
    });
    this.#writes = write.catch(() => undefined); // the caller hears of it; the next one only waits
    return write;
  }

  async #event(draft: Omit<EventDraft, 'cluster'>): Promise<void> {
    await this.#deps.outbox.appendEvent({ ...draft, cluster: this.id });
  }
}
