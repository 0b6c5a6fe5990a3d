/**
 * Leader election with a Lease, by client-go's rules: whether another's lease is over is judged by our own clock
 * since we last saw the record change, never by comparing its times with ours; takeover is an update with the
 * version that was read; a leader that cannot renew in time stops at once. A lease does not fence: what the
 * leader does outside must be safe to do twice.
 */
import { type Clock, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KubeClient, KubeObject } from './client.ts';
import { asRecord, statusError } from './errors.ts';

export interface LeaseOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Log;
  readonly namespace: string;
  readonly name: string;
  /** Unique per process, e.g. `<hostname>_<uuid>`. */
  readonly identity: string;
  readonly timings?: LeaseTimings;
  readonly random?: () => number;
}

export interface LeaseTimings {
  /** Others take over when nothing changed for this long. */
  readonly leaseMs: number;
  /** A leader that has not renewed for this long stops. Shorter than leaseMs, so that two never lead. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

export const LEASE_TIMINGS: LeaseTimings = { leaseMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000 };
/** Retries are spread by up to this factor, so that candidates do not act in step. */
const JITTER = 1.2;
/** Giving the lease back is a courtesy to the successor; it must not hold up the end of the process. */
const RELEASE_TIMEOUT_MS = 5_000;

/** Why leadership ended: abort reason of the signal that the work gets. */
export class LeadershipLost extends Error {
  constructor(identity: string) {
    super(`${identity} is no longer the leader`);
    this.name = 'LeadershipLost';
  }
}

/**
 * Runs `work` whenever this process leads, until `signal` aborts. The signal given to `work` aborts the moment
 * leadership is lost (reason: LeadershipLost); the lease is given back only after `work` has settled, and never
 * runs twice at once. Rejects with what `work` threw, unless that is the end of its signal.
 */
export async function leadWhilePossible(
  options: LeaseOptions,
  signal: AbortSignal,
  work: (leading: AbortSignal) => Promise<void>,
): Promise<void> {
  const timings = options.timings ?? LEASE_TIMINGS;
  if (!(timings.leaseMs > timings.renewDeadlineMs && timings.renewDeadlineMs > timings.retryMs * JITTER))
    throw new Error('lease times must satisfy lease > renew deadline > retry x 1.2');
  const candidate = new Candidate(options, timings);
  while (!signal.aborted) {
    try {
      await candidate.campaign(signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    options.log.info({ lease: options.name, identity: options.identity }, 'leading');
    const lead = new AbortController();
    const leading = AbortSignal.any([signal, lead.signal]);
    const working = work(leading);
    const watchdog = candidate.keep(leading).then((outcome) => {
      if (outcome === 'lost') lead.abort(new LeadershipLost(options.identity));
    });
    try {
      await working;
    } catch (error) {
      if (!leading.aborted) throw error;
    } finally {
      lead.abort(new LeadershipLost(options.identity));
      await watchdog;
      await candidate.release();
    }
  }
}

interface LeaseRecord {
  readonly holder: string;
  readonly durationMs: number;
  readonly acquireTime: string;
  readonly transitions: number;
  /** What tells one record from the next. */
  readonly fingerprint: string;
}

class Candidate {
  readonly #options: LeaseOptions;
  readonly #timings: LeaseTimings;
  readonly #path: string;
  /** The record that was last seen, and when (monotonic) it was first seen like this. */
  #seen: { readonly record: LeaseRecord; readonly atMs: number } | undefined;
  #renewedAtMs = 0;
  #held = false;

  constructor(options: LeaseOptions, timings: LeaseTimings) {
    this.#options = options;
    this.#timings = timings;
    const namespace = encodeURIComponent(options.namespace);
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/${encodeURIComponent(options.name)}`;
  }

  /** Resolves when the lease is ours. */
  async campaign(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (true) {
      signal.throwIfAborted();
      try {
        if (await this.#acquireOrRenew(signal)) return;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof PcgError && !error.retryable && error.code !== 'KUBE_UNAUTHORIZED') throw error;
        log.warn({ err: error, lease: this.#options.name }, 'lease not readable');
      }
      await clock.sleep(this.#retryMs(), signal);
    }
  }

  /** Renews until the signal ends (`ended`) or the renew deadline has passed or another holds it (`lost`). */
  async keep(signal: AbortSignal): Promise<'ended' | 'lost'> {
    const { clock } = this.#options;
    while (true) {
      try {
        await clock.sleep(this.#retryMs(), signal);
        const leftMs = this.#renewedAtMs + this.#timings.renewDeadlineMs - clock.monotonic();
        if (leftMs <= 0) return 'lost';
        const renewed = await withDeadline(clock, leftMs, 'renewing the lease', signal, (limited) =>
          this.#acquireOrRenew(limited),
        );
        if (!renewed && this.#seen?.record.holder !== this.#options.identity) return 'lost';
      } catch (error) {
        if (signal.aborted) return 'ended';
        this.#options.log.warn({ err: error, lease: this.#options.name }, 'lease not renewed');
      }
      if (clock.monotonic() - this.#renewedAtMs >= this.#timings.renewDeadlineMs) return 'lost';
    }
  }

  /** Only after all work has stopped: the successor may start at once. */
  async release(): Promise<void> {
    if (!this.#held) return;
    this.#held = false;
    const { clock, client, log } = this.#options;
    try {
      await withDeadline(clock, RELEASE_TIMEOUT_MS, 'releasing the lease', undefined, async (signal) => {
        const lease = await client.get(this.#path, signal);
        if (lease === undefined || readLease(lease).holder !== this.#options.identity) return;
        const spec = {
          ...asRecord(lease['spec']),
          holderIdentity: '',
          leaseDurationSeconds: 1,
          renewTime: this.#now(),
        };
        await this.#put(lease, spec, signal);
      });
    } catch (error) {
      log.warn({ err: error, lease: this.#options.name }, 'lease not released; others wait until it expires');
    }
  }

  /** True when the lease is ours afterwards. */
  async #acquireOrRenew(signal: AbortSignal): Promise<boolean> {
    const { client, clock, identity, name, namespace } = this.#options;
    const startedMs = clock.monotonic(); // before the request: the lease must never look younger than it is
    const lease = await client.get(this.#path, signal);
    if (lease === undefined) {
      const created = await client.create(
        {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          metadata: { name, namespace },
          spec: this.#spec(undefined),
        },
        signal,
      );
      if (created === 'exists') return false;
      return this.#holds(created, startedMs);
    }
    const record = readLease(lease);
    if (this.#seen?.record.fingerprint !== record.fingerprint)
      this.#seen = { record, atMs: clock.monotonic() };
    const expired = clock.monotonic() >= this.#seen.atMs + record.durationMs;
    if (record.holder !== '' && record.holder !== identity && !expired) return false;
    const updated = await this.#put(lease, this.#spec(record), signal);
    return updated === undefined ? false : this.#holds(updated, startedMs);
  }

  #holds(lease: KubeObject, startedMs: number): true {
    this.#seen = { record: readLease(lease), atMs: this.#options.clock.monotonic() };
    this.#renewedAtMs = startedMs;
    this.#held = true;
    return true;
  }

  #spec(previous: LeaseRecord | undefined): Record<string, unknown> {
    const now = this.#now();
    const kept = previous?.holder === this.#options.identity;
    return {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: Math.ceil(this.#timings.leaseMs / 1000),
      acquireTime: kept ? previous.acquireTime : now,
      renewTime: now,
      leaseTransitions: previous === undefined ? 0 : previous.transitions + (kept ? 0 : 1),
    };
  }

  /** undefined when somebody else was faster. */
  async #put(
    lease: KubeObject,
    spec: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<KubeObject | undefined> {
    const body = { ...lease, spec: { ...asRecord(lease['spec']), ...spec } };
    const answer = await this.#options.client.request({ method: 'PUT', path: this.#path, body }, signal);
    if (answer.status === 409) return undefined;
    if (answer.status !== 200) throw statusError(answer.status, answer.body, `PUT ${this.#path}`);
    return answer.body as KubeObject;
  }

  #retryMs(): number {
    return this.#timings.retryMs * (1 + (this.#options.random ?? Math.random)() * (JITTER - 1));
  }

  /** MicroTime: RFC 3339 with six fractional digits. */
  #now(): string {
    return new Date(this.#options.clock.now()).toISOString().replace('Z', '000Z');
  }
}

function readLease(lease: KubeObject): LeaseRecord {
  const spec = asRecord(lease['spec']);
  const text = (key: string) => (typeof spec[key] === 'string' ? spec[key] : '');
  const number = (key: string) => (typeof spec[key] === 'number' ? spec[key] : 0);
  return {
    holder: text('holderIdentity'),
    durationMs: number('leaseDurationSeconds') * 1000,
    acquireTime: text('acquireTime'),
    transitions: number('leaseTransitions'),
    fingerprint: `${text('holderIdentity')}|${text('renewTime')}|${text('acquireTime')}|${number('leaseTransitions')}`,
  };
}
