/**
 * Which gateways are connected to this portal process, over reconnects: one session per gateway, the newest one.
 * Whoever proves the key may take over: a gateway that restarted on a bad line is never kept out by its own old
 * connection. Two agents with one identity are known by the one that was pushed out and comes back.
 * Everything about a gateway without session and without waiting opens is forgotten.
 */
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { CLOSE } from './codes.ts';
import type { Tunnel } from './ports.ts';
import type { TunnelSession } from './session.ts';
import { SessionSlot } from './session-slot.ts';

/** A gateway that has a session now. */
export interface ConnectedGateway {
  readonly gatewayId: string;
  readonly instanceId: string;
  readonly sessionId: string;
  /** False while the session waits for its gateway to come back (grace time). */
  readonly attached: boolean;
  /** Number of connections of this session so far. */
  readonly epoch: number;
  /** Start of the present connection, milliseconds since the epoch. */
  readonly since: number;
  readonly remoteAddress: string;
  readonly rttMs: number | undefined;
  readonly software: string;
  readonly clockSkewMs: number;
  readonly streams: number;
}

export type RosterChange =
  | { readonly kind: 'connected' | 'resumed'; readonly gatewayId: string }
  /** No carrier; the session may still be resumed. */
  | {
      readonly kind: 'detached';
      readonly gatewayId: string;
      readonly closeCode: number;
      readonly reason: string;
    }
  | { readonly kind: 'gone'; readonly gatewayId: string; readonly closeCode: number; readonly reason: string }
  /** Two agents use one identity; the one that is connected stays. */
  | { readonly kind: 'duplicate'; readonly gatewayId: string; readonly remoteAddresses: readonly string[] };

export interface Arrival {
  readonly session: TunnelSession;
  readonly gatewayId: string;
  readonly instanceId: string;
  readonly remoteAddress: string;
  readonly software: string;
  readonly clockSkewMs: number;
  /** Grows with every connection that this portal accepted, in the order in which they began. */
  readonly order: number;
  /** The agent says that another one with its identity pushed it out before. */
  readonly displaced: boolean;
}

interface Place {
  readonly slot: SessionSlot;
  arrival: Arrival | undefined;
  since: number;
  /** Opens under way: they wait here, or will when the session that they asked refuses them. */
  opening: number;
}

export class Roster {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #places = new Map<string, Place>();
  readonly #sessions = new Map<string, TunnelSession>();
  readonly #listeners = new Set<(change: RosterChange) => void>();
  #disconnects = 0;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Opens wait for a session up to their deadline, then reject with GATEWAY_OFFLINE. */
  tunnel(gatewayId: string): Tunnel {
    return {
      open: async (options, signal) => {
        const place = this.#place(gatewayId);
        place.opening += 1;
        try {
          return await place.slot.open(options, signal);
        } finally {
          place.opening -= 1;
          this.#forget(gatewayId, place);
        }
      },
    };
  }

  get(gatewayId: string): ConnectedGateway | undefined {
    const place = this.#places.get(gatewayId);
    const arrival = place?.arrival;
    if (!place || !arrival) return undefined;
    const { session, software, clockSkewMs, instanceId, remoteAddress } = arrival;
    return {
      gatewayId,
      instanceId,
      sessionId: session.id,
      attached: session.state.kind === 'attached',
      epoch: session.epoch,
      since: place.since,
      remoteAddress,
      rttMs: session.rttMs,
      software,
      clockSkewMs,
      streams: session.streams,
    };
  }

  list(): ConnectedGateway[] {
    return [...this.#places.keys()].map((id) => this.get(id)).filter((entry) => entry !== undefined);
  }

  /** Places, waiting opens included: 0 when everything is gone. */
  get size(): number {
    return this.#places.size;
  }

  onChange(listener: (change: RosterChange) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Calls of `disconnect` so far: who was looked up before one of them has to be looked up again. */
  get disconnects(): number {
    return this.#disconnects;
  }

  /** Ends the gateway's session for good; its agent hears `closeCode`. */
  disconnect(gatewayId: string, closeCode: number, reason: string): void {
    this.#disconnects += 1;
    this.#places.get(gatewayId)?.arrival?.session.close(closeCode, reason);
  }

  findSession(sessionId: string): TunnelSession | undefined {
    return this.#sessions.get(sessionId);
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  sessions(): TunnelSession[] {
    return [...this.#sessions.values()];
  }

  /**
   * A new session: it takes the place of the gateway's older one, which ends with 4410. False: it was closed instead,
   * because it was pushed out by the one that is connected (two agents), or began before it (a handshake that was
   * overtaken by a newer one of the same agent).
   */
  admit(arrival: Arrival): boolean {
    const { session, gatewayId } = arrival;
    const place = this.#place(gatewayId);
    const older = place.arrival;
    if (older && older.session.state.kind === 'attached') {
      if (arrival.order < older.order) {
        session.close(CLOSE.SUPERSEDED, 'a newer connection was first');
        return false;
      }
      if (arrival.displaced) {
        const remoteAddresses = [older.remoteAddress, arrival.remoteAddress];
        this.#log.error({ gateway: gatewayId, remoteAddresses }, 'two agents use one identity');
        session.close(CLOSE.SUPERSEDED, 'another agent with this identity is connected');
        this.#emit({ kind: 'duplicate', gatewayId, remoteAddresses });
        return false;
      }
    }
    place.arrival = arrival;
    place.since = this.#clock.now();
    this.#sessions.set(session.id, session);
    void session.closed.then((error) => this.#closed(arrival, error.closeCode, error.message));
    older?.session.close(CLOSE.SUPERSEDED, 'a newer session took over');
    place.slot.replace(session);
    this.#emit({ kind: 'connected', gatewayId });
    return true;
  }

  /** The same session on another carrier. */
  resumed(arrival: Arrival): void {
    const place = this.#places.get(arrival.gatewayId);
    if (place?.arrival?.session !== arrival.session) return;
    place.arrival = arrival;
    place.since = this.#clock.now();
    place.slot.changed();
    this.#emit({ kind: 'resumed', gatewayId: arrival.gatewayId });
  }

  /** To be called from the session's state handler. */
  stateChanged(gatewayId: string, sessionId: string | undefined): void {
    const place = this.#places.get(gatewayId);
    const session = place?.arrival?.session;
    if (!place || !session || session.id !== sessionId) return;
    place.slot.changed();
    const { state } = session;
    if (state.kind === 'detached') {
      const { closeCode, reason } = state;
      this.#emit({ kind: 'detached', gatewayId, closeCode, reason });
    }
  }

  #closed({ session, gatewayId }: Arrival, closeCode: number, reason: string): void {
    this.#sessions.delete(session.id);
    const place = this.#places.get(gatewayId);
    if (!place || place.arrival?.session !== session) return;
    place.arrival = undefined;
    place.slot.replace(undefined);
    this.#forget(gatewayId, place);
    this.#emit({ kind: 'gone', gatewayId, closeCode, reason });
  }

  #place(gatewayId: string): Place {
    let place = this.#places.get(gatewayId);
    if (!place) {
      const offline = (): PcgError =>
        new PcgError('GATEWAY_OFFLINE', 'the gateway is not connected', { details: { gateway: gatewayId } });
      place = { slot: new SessionSlot(this.#clock, offline), arrival: undefined, since: 0, opening: 0 };
      this.#places.set(gatewayId, place);
    }
    return place;
  }

  #forget(gatewayId: string, place: Place): void {
    if (place.arrival || place.opening > 0) return;
    if (this.#places.get(gatewayId) === place) this.#places.delete(gatewayId);
  }

  #emit(change: RosterChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}
