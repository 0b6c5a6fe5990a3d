/**
 * What the observer knows: who tracks which machines, the newest reading of each, and its latest events.
 * Pure bookkeeping without I/O. Invariant: a reading that began before an action's own answer never
 * overwrites that answer.
 */
import { isDeepStrictEqual } from 'node:util';
import type { MaasEvent, MaasMachineStatus, Machine } from './client.ts';
import { isMoving } from './status.ts';

/** Latest events kept per machine; an installation writes about 30 of level INFO and 200 of DEBUG. */
const EVENTS_KEPT = 100;

/** How MAAS names the event of every state change; knowing it only spares reads, see `mark`. */
const STATUS_CHANGE = 'Node changed status';
/** MAAS shows the newest event of these levels and above as the machine's message. */
const QUIET = 'DEBUG';
const LOUD: ReadonlySet<string> = new Set(['WARNING', 'ERROR', 'CRITICAL', 'AUDIT']);

interface Entry {
  readonly keys: Set<string>;
  machine: Machine | undefined;
  /** Wall clock, for showing; undefined: never read. */
  observedAt: number | undefined;
  /** Monotonic start of the newest reading (or time of the answer of an action), or of a look at its status. */
  asOfMs: number;
  /** The same without looks. */
  readMs: number;
  /** Something happened that the reading does not show. */
  stale: boolean;
  events: MaasEvent[];
}

/** What is to be asked of MAAS now. */
export interface Due {
  /** Machines whose reading is missing or outdated. */
  readonly read: readonly string[];
  /** Status -> machines of which only a change of status is of interest. */
  readonly look: ReadonlyMap<MaasMachineStatus, readonly string[]>;
}

/** Looks at a moving machine between two readings of it: a look does not show that a machine is gone. */
const LOOKS_PER_READING = 4;

export class Sightings {
  readonly #keys = new Map<string, readonly string[]>();
  readonly #active = new Set<string>();
  readonly #entries = new Map<string, Entry>();

  /** True when a machine is new here, so that it is worth reading soon. */
  track(key: string, ids: readonly string[]): boolean {
    const wanted = [...new Set(ids)];
    const before = this.#keys.get(key) ?? [];
    this.#keys.set(key, wanted);
    let fresh = false;
    for (const id of wanted) {
      const entry = this.#entries.get(id);
      if (entry === undefined) {
        fresh = true;
        this.#entries.set(id, {
          keys: new Set([key]),
          machine: undefined,
          observedAt: undefined,
          asOfMs: Number.NEGATIVE_INFINITY,
          readMs: Number.NEGATIVE_INFINITY,
          stale: true,
          events: [],
        });
      } else entry.keys.add(key);
    }
    for (const id of before) if (!wanted.includes(id)) this.#drop(key, id);
    return fresh;
  }

  untrack(key: string): void {
    for (const id of this.#keys.get(key) ?? []) this.#drop(key, id);
    this.#keys.delete(key);
    this.#active.delete(key);
  }

  #drop(key: string, id: string): void {
    const entry = this.#entries.get(id);
    entry?.keys.delete(key);
    if (entry?.keys.size === 0) this.#entries.delete(id);
  }

  setActive(key: string, active: boolean): void {
    if (active) this.#active.add(key);
    else this.#active.delete(key);
  }

  get ids(): string[] {
    return [...this.#entries.keys()];
  }

  get keys(): string[] {
    return [...this.#keys.keys()];
  }

  deployed(): Machine[] {
    return [...this.#entries.values()].flatMap(({ machine }) =>
      machine?.status === 'deployed' ? machine : [],
    );
  }

  idsOf(key: string): readonly string[] {
    return this.#keys.get(key) ?? [];
  }

  sighting(id: string): { systemId: string; machine: Machine | undefined; observedAt: number | undefined } {
    const entry = this.#entries.get(id);
    return { systemId: id, machine: entry?.machine, observedAt: entry?.observedAt };
  }

  eventsOf(id: string): readonly MaasEvent[] {
    return this.#entries.get(id)?.events ?? [];
  }

  /** Somebody waits, or a machine is on its way to another state. */
  get lively(): boolean {
    if (this.#active.size > 0) return true;
    for (const entry of this.#entries.values()) {
      if (entry.machine !== undefined && isMoving(entry.machine.status)) return true;
    }
    return false;
  }

  /**
   * To be read: machines without a reading, with one that an event outdated, and moving ones now and then. To be
   * looked at: those of which nothing was heard for `movingMs` while they move or somebody waits for them, and
   * with them all others of the same status, which cost nothing.
   */
  due(nowMs: number, movingMs: number): Due {
    const read: string[] = [];
    const watched = new Map<MaasMachineStatus, string[]>();
    const late = new Set<MaasMachineStatus>();
    for (const [id, entry] of this.#entries) {
      const status = entry.machine?.status ?? 'unknown';
      const moving = isMoving(status);
      if (entry.stale) read.push(id);
      else if (!moving && !this.#isActive(entry)) continue;
      else if (status === 'unknown' && nowMs - entry.readMs >= movingMs) read.push(id);
      else if (moving && nowMs - entry.readMs >= movingMs * LOOKS_PER_READING) read.push(id);
      else if (status !== 'unknown') {
        watched.set(status, [...(watched.get(status) ?? []), id]);
        if (nowMs - entry.asOfMs >= movingMs) late.add(status);
      }
    }
    return { read, look: new Map([...watched].filter(([status]) => late.has(status))) };
  }

  /** The `count` machines that were read longest ago. */
  oldest(count: number): string[] {
    return [...this.#entries]
      .sort(([, a], [, b]) => a.readMs - b.readMs)
      .slice(0, count)
      .map(([id]) => id);
  }

  /** Files events; returns the keys that see something new. A missed state change is found by re-reading in time. */
  mark(events: readonly MaasEvent[]): Set<string> {
    const touched = new Set<string>();
    for (const event of events) {
      const entry = this.#entries.get(event.systemId);
      if (entry === undefined) continue;
      entry.events.push(event);
      if (entry.events.length > EVENTS_KEPT) entry.events.splice(0, entry.events.length - EVENTS_KEPT);
      const change = event.type === STATUS_CHANGE && !isKnown(event, entry.machine);
      if (change || LOUD.has(event.level)) entry.stale = true;
      if (event.level === QUIET) continue;
      if (entry.machine !== undefined) entry.machine = { ...entry.machine, statusMessage: messageOf(event) };
      for (const key of entry.keys) touched.add(key);
    }
    return touched;
  }

  markAllStale(): void {
    for (const entry of this.#entries.values()) entry.stale = true;
  }

  /**
   * Takes over readings begun at `startedMs`: for each of `ids` the machine in `found`, or none. Returns the
   * keys for which something changed.
   */
  take(
    ids: readonly string[],
    found: readonly Machine[],
    startedMs: number,
    observedAt: number,
  ): Set<string> {
    const byId = new Map(found.map((machine) => [machine.systemId, machine]));
    const changed = new Set<string>();
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (entry === undefined) continue;
      if (entry.asOfMs > startedMs) {
        entry.stale = true; // an action answered meanwhile: this reading may be older than its effect
        continue;
      }
      const machine = byId.get(id);
      const same = entry.observedAt !== undefined && isDeepStrictEqual(entry.machine, machine);
      Object.assign(entry, { machine, observedAt, asOfMs: startedMs, readMs: startedMs, stale: false });
      if (!same) for (const key of entry.keys) changed.add(key);
    }
    return changed;
  }

  /** A look that began at `startedMs` found these machines still in this status. */
  confirm(ids: readonly string[], status: MaasMachineStatus, startedMs: number, observedAt: number): void {
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (entry === undefined || entry.asOfMs > startedMs || entry.machine?.status !== status) continue;
      Object.assign(entry, { observedAt, asOfMs: startedMs });
    }
  }

  /** Ids that were there in the last reading and are missing in `found`. */
  vanished(ids: readonly string[], found: readonly Machine[]): string[] {
    const there = new Set(found.map((machine) => machine.systemId));
    return ids.filter((id) => !there.has(id) && this.#entries.get(id)?.machine !== undefined);
  }

  #isActive(entry: Entry): boolean {
    for (const key of entry.keys) if (this.#active.has(key)) return true;
    return false;
  }
}

/**
 * The echo of an action whose answer we have. "From 'Allocated' to 'Deploying'": another wording costs a reading,
 * and so does every change to and fro, since one of its events names another status.
 */
function isKnown(event: MaasEvent, machine: Machine | undefined): boolean {
  return machine !== undefined && event.description.includes(` to '${machine.statusName}'`);
}

function messageOf({ type, description }: MaasEvent): string {
  return description === '' ? type : `${type} - ${description}`;
}
