/**
 * The event log of a region: ids only grow, levels filter as a threshold (AUDIT exactly), and `after`
 * returns the oldest page that follows, so that a tail has no gap.
 */
import type { Machine } from './model.ts';

export type Level = 'AUDIT' | 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR' | 'CRITICAL';

export const LEVELS: Readonly<Record<Level, number>> = {
  AUDIT: 0,
  DEBUG: 10,
  INFO: 20,
  WARNING: 30,
  ERROR: 40,
  CRITICAL: 50,
};

export interface LoggedEvent {
  readonly id: number;
  readonly level: Level;
  readonly systemId: string;
  readonly hostname: string;
  readonly username: string;
  readonly at: number;
  readonly type: string;
  readonly description: string;
}

export interface EventQuery {
  readonly level: Level;
  readonly limit: number;
  readonly before: number | undefined;
  readonly after: number | undefined;
  readonly matches: (event: LoggedEvent) => boolean;
}

/** MAAS shows this where no user caused the event. */
const NO_USER = 'unknown';

export class EventLog {
  readonly #events: LoggedEvent[] = [];
  #nextId = 1;

  /** Also keeps the machine's status message, which shows the latest event of INFO and above. */
  add(machine: Machine, at: number, level: Level, type: string, description = '', username = NO_USER): void {
    const { systemId, hostname } = machine;
    const event = { id: this.#nextId, level, systemId, hostname, username, at, type, description };
    this.#nextId += 1;
    this.#events.push(event);
    if (LEVELS[level] >= LEVELS.INFO) machine.statusMessage = description ? `${type} - ${description}` : type;
  }

  /** Newest first. */
  query(query: EventQuery): LoggedEvent[] {
    const wanted = (event: LoggedEvent) =>
      (query.level === 'AUDIT' ? event.level === 'AUDIT' : LEVELS[event.level] >= LEVELS[query.level]) &&
      query.matches(event);
    const found: LoggedEvent[] = [];
    if (query.after === undefined) {
      const before = query.before ?? Number.POSITIVE_INFINITY;
      for (let at = this.#events.length - 1; at >= 0 && found.length < query.limit; at -= 1) {
        const event = this.#events[at];
        if (event && event.id < before && wanted(event)) found.push(event);
      }
      return found;
    }
    // Ids are dense, so the id is the index of the event that follows it.
    for (let at = Math.max(0, query.after); at < this.#events.length && found.length < query.limit; at += 1) {
      const event = this.#events[at];
      if (event && wanted(event)) found.push(event);
    }
    return found.reverse();
  }
}
