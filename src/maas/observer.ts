/**
 * The one poller of a MAAS account, for all its clusters. It keeps the newest reading of every machine that
 * somebody tracks, by reads filtered by id plus one events tail, and tells whose machines changed. Its
 * request rate depends on what happens, not on the number of clusters: at rest it is a tail, a look at the
 * addresses in use, and a slice of old readings renewed now and then, never a list of the fleet. Bookkeeping is in `sightings.ts`.
 */
import { backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Wake } from '../base/wake.ts';
import type { MaasClient, MaasEvent, MaasMachineStatus, Machine } from './client.ts';
import { createEventTail } from './event-tail.ts';
import { type Outage, Outages } from './outages.ts';
import { createPresence } from './presence.ts';
import { IDS_PER_REQUEST } from './read-machines.ts';
import { createReadBatch } from './read-batch.ts';
import { Sightings } from './sightings.ts';
import { STATUS_NAMES } from './status.ts';

export interface Sighting {
  readonly systemId: string;
  /** undefined: not there, or hidden from this key. */
  readonly machine: Machine | undefined;
  /** Clock.now() of the reading; undefined: not read yet. */
  readonly observedAt: number | undefined;
}

export type ObserverState =
  | { readonly kind: 'starting' }
  | { readonly kind: 'ok'; readonly at: number }
  | { readonly kind: 'failing'; readonly since: number; readonly error: PcgError };

export interface ObserverIntervals {
  /** Events are read this often while a key is active or a machine moves, milliseconds. */
  readonly activeMs: number;
  /** A moving machine without a telling event is looked at again after this, milliseconds. */
  readonly movingMs: number;
  /** Events are read this often at rest, milliseconds. */
  readonly idleMs: number;
  /** At rest every machine is read again within this, a slice at a time, milliseconds: some changes leave no event. */
  readonly fullMs: number;
}

const DEFAULT_INTERVALS: ObserverIntervals = {
  activeMs: 5_000,
  movingMs: 30_000,
  idleMs: 30_000,
  fullMs: 600_000,
};

export interface ObserverOptions {
  readonly client: MaasClient;
  readonly clock: Clock;
  readonly log: Log;
  readonly intervals?: Partial<ObserverIntervals>;
}

export interface MaasObserver {
  /**
   * The machines that `key` (a cluster) is interested in; replaces what it tracked before. New ones are read
   * at the next poll, which is brought forward.
   */
  track(key: string, ids: readonly string[]): void;
  untrack(key: string): void;
  /** One sighting per tracked id, in the order of `track`. */
  machines(key: string): readonly Sighting[];
  /** Reads the key's machines now, together with whoever asks at the same time. Throws PcgError. */
  refresh(key: string, signal: AbortSignal): Promise<readonly Sighting[]>;
  /** A reading that an action just returned: spares the next read. Ignored when nobody tracks the machine. */
  saw(machine: Machine): void;
  /** Called with the keys whose machines (or their events) changed, and with all keys when `state` changes its kind. */
  onChange(listener: (keys: ReadonlySet<string>) => void): Disposable;
  /** Newest events of a tracked machine since it is tracked, oldest first, bounded. */
  eventsFor(systemId: string): readonly MaasEvent[];
  /** A key that waits for something: its machines are watched at the active interval. */
  active(key: string, active: boolean): void;
  readonly state: ObserverState;
  /** When MAAS did not answer, oldest first; the newest 64 and the one that lasts. */
  outages(): readonly Outage[];
  /** Polls until aborted; never rejects. Once per observer. */
  run(signal: AbortSignal): Promise<void>;
}

/** Slices in which old readings are renewed within `fullMs`: few requests, and none of them large. */
const SLICES = 4;
/**
 * MAAS takes 150 ms for a list and 20-30 ms for each machine in it: small enough that the first results of
 * a large reading arrive after a second, large enough that the fixed part does not count. At rest nobody
 * waits for them.
 */
const IDS_PER_LIVELY_READ = 50;
/** That a machine was deleted is looked for at each poll at rest, and as often while something is active. */
const LOOK_SHARE = 0.75;
/** A burst of `track` calls becomes one poll: shortest distance between two, milliseconds. */
const SHORTEST_PAUSE_MS = 100;
/** A slow region is left alone for this many times the duration of an events query (13 ms on a quick one). */
const PAUSE_PER_QUERY = 5;
/** While MAAS fails; the client's own retries come on top. */
const FAILURE_BACKOFF = { baseMs: 2_000, capMs: 30_000 };

export function createMaasObserver(options: ObserverOptions): MaasObserver {
  const { client, clock, log } = options;
  const intervals = { ...DEFAULT_INTERVALS, ...options.intervals };
  const known = new Sightings();
  const tail = createEventTail((query, signal) => client.events(query, signal), { clock });
  const presence = createPresence(client, { clock, everyMs: intervals.idleMs * LOOK_SHARE });
  const wake = new Wake();
  const listeners = new Set<(keys: ReadonlySet<string>) => void>();
  let state: ObserverState = { kind: 'starting' };
  const outages = new Outages();
  let renewedMs = Number.NEGATIVE_INFINITY;
  let failures = 0;
  /** Duration of the newest events query. */
  let queryMs = 0;

  const batch = createReadBatch({
    idsPerRead: () => (known.lively ? IDS_PER_LIVELY_READ : IDS_PER_REQUEST),
    read: async (ids, signal) => {
      const startedMs = clock.monotonic();
      const found = await client.machines.list({ ids }, signal);
      await confirmVanished(ids, found, signal);
      return () => tell(known.take(ids, found, startedMs, clock.now()));
    },
  });

  /** "Gone" makes clusters replace machines: a list that merely came back short must not be believed. */
  async function confirmVanished(
    ids: readonly string[],
    found: Machine[],
    signal: AbortSignal,
  ): Promise<void> {
    const [sample] = known.vanished(ids, found);
    if (sample === undefined) return;
    const machine = await client.machines.get(sample, signal);
    if (machine !== undefined) throw new PcgError('MAAS_PROTOCOL', 'MAAS listed fewer machines than it has');
  }

  /**
   * Has any of them left this status without an event? MAAS sends those that did, instead of 30 KB for each that
   * did not. A machine that is gone is not found out this way, but by the next reading.
   */
  async function lookFor(
    status: MaasMachineStatus,
    ids: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const startedMs = clock.monotonic();
    const statuses = STATUS_NAMES.filter((name) => name !== status);
    const moved = await client.machines.list({ ids, statuses }, signal);
    const left = new Set(moved.map(({ systemId }) => systemId));
    known.confirm(
      ids.filter((id) => !left.has(id)),
      status,
      startedMs,
      clock.now(),
    );
    tell(known.take([...left], moved, startedMs, clock.now()));
  }

  function tell(keys: ReadonlySet<string>): void {
    if (keys.size === 0) return;
    for (const listener of listeners) {
      try {
        listener(keys);
      } catch (error) {
        log.error({ error: describeError(error) }, 'observer listener failed');
      }
    }
  }

  function setState(next: ObserverState): void {
    const changed = next.kind !== state.kind;
    state = next;
    if (next.kind === 'failing') outages.failed(next.since);
    if (next.kind === 'ok') outages.answered(next.at);
    if (changed) tell(new Set(known.keys));
  }

  async function poll(signal: AbortSignal): Promise<void> {
    const { ids } = known;
    if (ids.length === 0) {
      await client.whoami(signal); // nothing to watch: only whether MAAS and the key still work
      return;
    }
    // Beyond one request line the tail is read unfiltered: one request, whatever the number of machines.
    const askedMs = clock.monotonic();
    const { events, complete } = await tail.next(ids.length > IDS_PER_REQUEST ? undefined : ids, signal);
    queryMs = clock.monotonic() - askedMs;
    if (!complete) known.markAllStale();
    const touched = known.mark(events);
    const nowMs = clock.monotonic();
    const { read, look } = known.due(nowMs, intervals.movingMs);
    const due = new Set(read);
    for (const id of await presence.look(known.deployed(), signal)) due.add(id);
    if (nowMs - renewedMs >= intervals.fullMs / SLICES) {
      renewedMs = nowMs;
      for (const id of known.oldest(Math.min(IDS_PER_REQUEST, Math.ceil(ids.length / SLICES)))) due.add(id);
    }
    tell(touched);
    if (due.size > 0) await batch.want([...due], signal);
    for (const [status, some] of look) await lookFor(status, some, signal);
  }

  /** One poll -> milliseconds until the next. */
  async function turn(signal: AbortSignal): Promise<number> {
    const startedMs = clock.monotonic();
    try {
      await poll(signal);
      failures = 0;
      setState({ kind: 'ok', at: clock.now() });
    } catch (error) {
      if (signal.aborted) return 0;
      const failure =
        error instanceof PcgError ? error : new PcgError('INTERNAL', 'the observer failed', { cause: error });
      log.warn({ error: describeError(error), failures }, 'maas cannot be observed');
      setState({
        kind: 'failing',
        since: state.kind === 'failing' ? state.since : clock.now(),
        error: failure,
      });
      return SHORTEST_PAUSE_MS + backoffMs(FAILURE_BACKOFF, failures++);
    }
    const interval = known.lively ? intervals.activeMs : intervals.idleMs;
    // Never busy for more than half of the time, however much there is to read.
    return Math.max(interval, queryMs * PAUSE_PER_QUERY, clock.monotonic() - startedMs);
  }

  return {
    track(key, ids) {
      if (known.track(key, ids)) wake.ring();
    },
    untrack: (key) => known.untrack(key),
    machines: (key) => known.idsOf(key).map((id) => known.sighting(id)),
    async refresh(key, signal) {
      await batch.want(known.idsOf(key), signal);
      return known.idsOf(key).map((id) => known.sighting(id));
    },
    saw(machine) {
      tell(known.take([machine.systemId], [machine], clock.monotonic(), clock.now()));
    },
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => listeners.delete(listener) };
    },
    eventsFor: (systemId) => known.eventsOf(systemId),
    active(key, active) {
      const before = known.lively;
      known.setActive(key, active);
      if (active && !before) wake.ring(); // out of the long pause
    },
    get state() {
      return state;
    },
    outages: () => outages.list(clock.now()),
    async run(signal) {
      while (!signal.aborted) {
        const pauseMs = await turn(signal);
        try {
          await clock.sleep(SHORTEST_PAUSE_MS, signal);
          await wake.wait(clock, Math.max(0, pauseMs - SHORTEST_PAUSE_MS), signal);
        } catch {
          return; // only the signal ends a pause
        }
      }
    },
  };
}
