/**
 * Looks at etcd of one cluster: often while its control plane moves or a member is a learner or silent, seldom at rest,
 * where a member of no machine would else eat up the quorum unseen. Remembers since when such a member has been so
 * without a break. A look that fails, or a pause in looking, forgets that: nobody knows what was in between. Alarms
 * are another thing: etcd keeps them until somebody disarms them, so they stand until etcd says otherwise.
 */
import { type Clock, withDeadline } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { EtcdClient } from '../kube/etcd.ts';
import type { EtcdAlarm } from '../kube/etcd-alarms.ts';
import { membershipMoves } from './observe.ts';
import type { EtcdView, Observed } from './observed.ts';
import { type PlanInput, sceneOf } from './plan.ts';
import { rolloutPlan } from './rollout.ts';

/** A look has its members' answers, and those of the silent ones, within this many times the time of one question. */
const QUESTIONS = 2;

export class EtcdLooks {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #timeoutMs: number;
  #last: { readonly view: EtcdView | undefined; readonly at: number } | undefined;
  /** Member id -> first look that found it restless; wall clock, milliseconds. */
  #restlessSince: ReadonlyMap<string, number> = new Map();
  #alarms: readonly EtcdAlarm[] = [];
  /** Monotonic time of the last look at them, in vain or not. */
  #alarmsAt: number | undefined;

  /** `timeoutMs`: of one question; that about alarms etcd answers only with a majority. */
  constructor(clock: Clock, log: Log, timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * What is to be known of it now; at most every `oftenMs`, at rest every `etcdRestMs`. Who is a member is only asked while
   * the API server says which Nodes there are; alarms also while it is silent: it may be silent because of one. Rejects
   * when aborted.
   */
  async observe(
    input: PlanInput,
    open: () => Promise<EtcdClient>,
    oftenMs: number,
    signal: AbortSignal,
  ): Promise<Pick<Observed, 'etcd' | 'etcdAlarms'>> {
    const { record, document, observed, timings } = input;
    const { stage, initializedAt } = record;
    const runs = stage.kind === 'provisioning' || stage.kind === 'running';
    const members = observed.kube.kind === 'reachable';
    if (!members) this.forget();
    // Nothing of a delete depends on it.
    if (initializedAt === undefined || !runs || document.intent.kind !== 'present')
      return { etcd: undefined, etcdAlarms: [] };
    const rolls = rolloutPlan(sceneOf(input))?.approved === true;
    const moves = rolls || (members && membershipMoves(record));
    const everyMs = moves || this.#restlessSince.size > 0 ? oftenMs : timings.etcdRestMs;
    const etcd = members ? await this.look(open, everyMs, signal) : undefined;
    return { etcd, etcdAlarms: await this.alarms(open, everyMs, signal) };
  }

  /** The last view when it is younger than `everyMs`; undefined when etcd does not answer. Rejects when aborted. */
  async look(
    open: () => Promise<EtcdClient>,
    everyMs: number,
    signal: AbortSignal,
  ): Promise<EtcdView | undefined> {
    if (this.#last && this.#clock.monotonic() - this.#last.at < everyMs) return this.#last.view;
    let view: EtcdView | undefined;
    try {
      await using client = await open();
      const ask = (limited: AbortSignal) => client.health(limited);
      const members = withDeadline(this.#clock, QUESTIONS * this.#timeoutMs, 'etcd', signal, ask);
      const [seen] = await Promise.all([members, this.#askAlarms(client, signal)]);
      view = this.#remember(seen);
    } catch (error) {
      signal.throwIfAborted();
      // Not reachable for the gateway: the steps that change membership ask again and refuse by themselves.
      this.#log.debug({ error: describeError(error) }, 'etcd was not observed');
      this.#restlessSince = new Map();
    }
    this.#last = { view, at: this.#clock.monotonic() };
    return view;
  }

  /** As etcd said last, asked again when that is older than `everyMs`. Rejects when aborted. */
  async alarms(
    open: () => Promise<EtcdClient>,
    everyMs: number,
    signal: AbortSignal,
  ): Promise<readonly EtcdAlarm[]> {
    if (this.#alarmsAt !== undefined && this.#clock.monotonic() - this.#alarmsAt < everyMs)
      return this.#alarms;
    try {
      await using client = await open();
      await this.#askAlarms(client, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#log.debug({ error: describeError(error) }, 'etcd was not asked for alarms');
    }
    this.#alarmsAt = this.#clock.monotonic();
    return this.#alarms;
  }

  /** The membership was changed: the next look is a new one. */
  renew(): void {
    this.#last = undefined;
  }

  /** Nobody needs to know at present. */
  forget(): void {
    this.#last = undefined;
    this.#restlessSince = new Map();
  }

  async #askAlarms(client: EtcdClient, signal: AbortSignal): Promise<void> {
    try {
      const ask = (limited: AbortSignal) => client.alarms(limited);
      this.#alarms = await withDeadline(this.#clock, this.#timeoutMs, 'alarms of etcd', signal, ask);
    } catch (error) {
      signal.throwIfAborted();
      this.#log.debug({ error: describeError(error) }, 'etcd did not tell its alarms');
    }
    this.#alarmsAt = this.#clock.monotonic();
  }

  #remember(members: Awaited<ReturnType<EtcdClient['health']>>): EtcdView {
    const now = this.#clock.now();
    const since = new Map(
      members
        .filter(({ learner, healthy }) => learner || !healthy)
        .map(({ id }) => [id, this.#restlessSince.get(id) ?? now]),
    );
    this.#restlessSince = since;
    return {
      members: members.map(({ id, name, peerUrls, learner, healthy }) => ({
        id,
        name,
        peerUrls,
        learner,
        healthy,
        restlessSince: since.get(id),
      })),
    };
  }
}
