/**
 * The one poller of a MAAS account, for all its clusters. It keeps the newest reading of every machine that
 * somebody tracks, by reads filtered by id plus one events tail, and tells whose machines changed. Its
 * request rate depends on the number of machines that move, not on the number of clusters; at rest it is a
 * tail and a rare re-read of what is tracked, never a list of the fleet.
 */
import type { Clock } from '../base/clock.ts';
import type { PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { MaasClient, MaasEvent, Machine } from './client.ts';

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
  /** Poll while some tracked key is active or a machine moves, milliseconds. */
  readonly activeMs: number;
  /** Poll at rest, milliseconds. */
  readonly idleMs: number;
  /** Re-read all tracked machines at rest at least this often, milliseconds (some changes leave no event). */
  readonly fullMs: number;
}

export interface ObserverOptions {
  readonly client: MaasClient;
  readonly clock: Clock;
  readonly log: Log;
  readonly intervals?: Partial<ObserverIntervals>;
}

export interface MaasObserver {
  /** The machines that `key` (a cluster) is interested in; replaces what it tracked before. New ones are read at the next poll, which is brought forward. */
  track(key: string, ids: readonly string[]): void;
  untrack(key: string): void;
  /** One sighting per tracked id, in the order of `track`. */
  machines(key: string): readonly Sighting[];
  /** Reads the key's machines now, shared with whoever asks at the same time. Throws PcgError. */
  refresh(key: string, signal: AbortSignal): Promise<readonly Sighting[]>;
  /** A reading that an action just returned: saves the next read. */
  saw(machine: Machine): void;
  /** Called with the keys whose machines (or their events) changed, and with all keys when `state` changes its kind. */
  onChange(listener: (keys: ReadonlySet<string>) => void): Disposable;
  /** Newest events of a tracked machine, oldest first, bounded. */
  eventsFor(systemId: string): readonly MaasEvent[];
  /** A key that waits for something: its machines are polled at the active interval. */
  active(key: string, active: boolean): void;
  readonly state: ObserverState;
  /** Polls until aborted; never rejects. */
  run(signal: AbortSignal): Promise<void>;
}

export type CreateMaasObserver = (options: ObserverOptions) => MaasObserver;
