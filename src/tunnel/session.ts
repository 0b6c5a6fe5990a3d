/**
 * A session: what two ends of the tunnel share over any number of carriers. It multiplexes streams, counts and
 * replays reliable frames, and either resumes byte-exact on the next carrier or ends with SESSION_LOST.
 * Opened by `handshake.ts`; carriers come from `dial` and `accept`.
 */
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Carrier, CarrierHandler } from './carrier.ts';
import { CLOSE, SessionError, STREAM, StreamError } from './codes.ts';
import { ReceiveBudget } from './credit.ts';
import {
  DEFAULT_MAX_FRAME_BYTES,
  FIRST_OPTIONAL_TYPE,
  FLAG_PROBE,
  HEADER_BYTES,
  isReliable,
  outFrame,
  readFrames,
  TYPE,
} from './frame.ts';
import { type Beat, loopLagMs, onBeat } from './heartbeat.ts';
import { Keepalive } from './keepalive.ts';
import type { SessionGauges, TunnelMetrics } from './metrics.ts';
import { Outlet } from './outlet.ts';
import { readAck, readCredit, readDrain, readGoAway, writeDrain, writeGoAway, writePong } from './payload.ts';
import type { OpenOptions, TargetHandler, TunnelStream } from './ports.ts';
import { Receipts } from './receipts.ts';
import { Streams } from './streams.ts';
import { SYNC_CREDIT_BYTES, SyncReceiver, SyncSender } from './sync-channel.ts';

export type Role = 'gateway' | 'portal';

/** The peer is about to go away: finish, come back after `reconnectAfterMs` + random(0, spreadMs). */
export interface DrainNotice {
  readonly reason: string;
  /** Milliseconds that open streams are given to finish. */
  readonly deadlineMs: number;
  readonly reconnectAfterMs: number;
  readonly spreadMs: number;
}

export type SessionState =
  /** Frames flow. */
  | { readonly kind: 'attached'; readonly epoch: number }
  /** No carrier; streams wait. Ends by `attach` or after the grace time. */
  | { readonly kind: 'detached'; readonly closeCode: number; readonly reason: string }
  /** Over for good; all streams were ended with SESSION_LOST. */
  | { readonly kind: 'closed'; readonly error: SessionError };

/** Settings that each end announces in the handshake; both obey the peer's. */
export interface SessionSettings {
  /** Largest payload of a frame that this end accepts, bytes. */
  readonly maxFrameBytes: number;
  /** Bytes that the peer may send on a stream that it opens before it has OPEN_OK. */
  readonly openCredit: number;
  /** Bytes of SYNC payload that the peer may send before it gets credit. */
  readonly syncCredit: number;
  /** Streams that may be open at a time, both directions together. */
  readonly maxStreams: number;
}

export type SyncKind = 'sync' | 'ack';

/** What the session's owner gives it. Called synchronously; none may throw. */
export interface SessionHandlers {
  /** Answers the peer's OPENs. A target that throws or is slow never harms the session. */
  readonly target: TargetHandler;
  /**
   * One SYNC or SYNC_ACK payload, whole and in order. The next one is not delivered before the promise settles;
   * that is the backpressure. A rejection is logged and counts as done.
   */
  readonly sync: (kind: SyncKind, payload: Buffer) => Promise<void>;
  readonly state?: (state: SessionState) => void;
  /** The peer sent DRAIN: dial again as it says; streams on this session may finish. */
  readonly drain?: (notice: DrainNotice) => void;
}

/** The part of a session that its owner uses. `handshake.ts` makes them. */
export interface TunnelSession extends AsyncDisposable {
  readonly id: string;
  readonly role: Role;
  readonly state: SessionState;
  /** Number of carriers so far; 0 before the first. Frames of older carriers are never read. */
  readonly epoch: number;
  /** Streams open now. */
  readonly streams: number;
  /** Smoothed round trip of the last minutes, milliseconds; undefined before the first sample. */
  readonly rttMs: number | undefined;
  /** Resolves with the reason when the session is over for good. Never rejects. */
  readonly closed: Promise<SessionError>;

  /**
   * Opens a stream and resolves when the peer's target answered. While detached it waits for the next carrier.
   * Rejects with StreamError: the peer's code, BUSY, DRAINING, DEADLINE, CANCELLED (signal) or SESSION_LOST.
   */
  open(options: OpenOptions, signal?: AbortSignal): Promise<TunnelStream>;

  /**
   * Sends an opaque payload (1 byte to MAX_SYNC_BYTES of `sync-channel.ts`) of layer 5, reliably and in order. Resolves when it was handed to
   * the wire (not: acknowledged by layer 5); rejects with StreamError SESSION_LOST when the session ends first, or
   * with the signal's reason before any of it was sent.
   */
  sendSync(kind: SyncKind, payload: Buffer, signal?: AbortSignal): Promise<void>;

  /** Tells the peer, opens nothing new, resolves when no stream is left or `deadlineMs` is over; then closes 1001. */
  drain(notice: DrainNotice, signal?: AbortSignal): Promise<void>;

  /** Gives up the present carrier; the session waits for another for the grace time. */
  detach(closeCode: number, reason: string): void;

  /** Ends for good: GOAWAY to the peer when attached, streams end with SESSION_LOST. Idempotent. */
  close(closeCode: number, reason: string): void;
}

/** For `handshake.ts`, which alone creates sessions and gives them carriers. */
export interface SessionInit {
  readonly id: string;
  readonly role: Role;
  readonly clock: Clock;
  /** [0, 1): spreads the keepalive's pings; default Math.random. */
  readonly random?: () => number;
  /** Milliseconds that a session waits without a carrier. */
  readonly graceMs: number;
  readonly local: SessionSettings;
  readonly peer: SessionSettings;
  readonly handlers: SessionHandlers;
  readonly metrics?: TunnelMetrics | undefined;
  readonly log?: Log | undefined;
  /** Memory that all sessions of the process share, above this session's own budget. */
  readonly processBudget?: ReceiveBudget | undefined;
  /** Where counting begins: sequence numbers and own stream ids. For proofs of what happens where they end. */
  readonly first?: { readonly sequence?: number; readonly peerSequence?: number; readonly streamId?: number };
}

/** Streams per session, both directions. */
export const MAX_STREAMS = 1024;
/** Memory that a session may promise to its peer, by role. */
const RECEIVE_BUDGET_BYTES: Record<Role, number> = { gateway: 16 * 1024 * 1024, portal: 8 * 1024 * 1024 };
/** Promised to every stream without asking the budget: half of it, spread over all streams. */
const OPEN_CREDIT_BYTES: Record<Role, number> = {
  gateway: RECEIVE_BUDGET_BYTES.gateway / 2 / MAX_STREAMS,
  portal: RECEIVE_BUDGET_BYTES.portal / 2 / MAX_STREAMS,
};

/** What this end announces unless told otherwise. */
export function defaultSettings(role: Role): SessionSettings {
  return {
    maxFrameBytes: DEFAULT_MAX_FRAME_BYTES,
    openCredit: OPEN_CREDIT_BYTES[role],
    syncCredit: SYNC_CREDIT_BYTES,
    maxStreams: MAX_STREAMS,
  };
}

/** A carrier that holds this much for this long has a peer that does not read. */
const SLOW_BYTES = 4 * 1024 * 1024;
const SLOW_MS = 30_000;

/**
 * Close codes of a carrier after which there is no session to come back to. Not UNAUTHENTICATED: somebody on the way
 * can provoke it, and must not be able to do more than cut.
 */
const FINAL_CLOSES: ReadonlySet<number> = new Set([
  CLOSE.NORMAL,
  CLOSE.PROTOCOL,
  CLOSE.REVOKED,
  CLOSE.SESSION_EXPIRED,
  CLOSE.TOO_BIG,
  CLOSE.TOO_OLD,
]);

/** A carrier that this session no longer listens to. */
const DEAF: CarrierHandler = { message() {}, closed() {}, drained() {} };

type Phase =
  | {
      readonly kind: 'attached';
      readonly carrier: Carrier;
      readonly keepalive: Keepalive;
      readonly beat: Disposable;
    }
  | {
      readonly kind: 'detached';
      readonly closeCode: number;
      readonly reason: string;
      readonly grace: Disposable;
    }
  | { readonly kind: 'closed'; readonly error: SessionError };

export class Session implements TunnelSession {
  readonly id: string;
  readonly role: Role;
  readonly closed: Promise<SessionError>;
  readonly #init: SessionInit;
  readonly #clock: Clock;
  readonly #outlet: Outlet;
  readonly #streams: Streams;
  readonly #receipts: Receipts;
  readonly #syncOut: SyncSender;
  readonly #syncIn: SyncReceiver;
  readonly #tracking: Disposable | undefined;
  readonly #resolveClosed: (error: SessionError) => void;
  #phase: Phase;
  #epoch = 0;
  #attempt = 0;
  #draining: (() => void) | undefined;
  #slowSince: number | undefined;

  constructor(init: SessionInit) {
    this.#init = init;
    this.id = init.id;
    this.role = init.role;
    this.#clock = init.clock;
    const { promise, resolve } = Promise.withResolvers<SessionError>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    const outlet = new Outlet({
      clock: init.clock,
      io: {
        ack: (now, asked) => (asked ? this.#receipts.take(now) : this.#receipts.ride(now)),
        receivedBytes: () => this.#receipts.bytes,
        pingSent: (now) => {
          if (this.#phase.kind === 'attached') this.#phase.keepalive.pingSent(now);
        },
        broke: (error) => this.#broke(error),
      },
      firstSequence: init.first?.sequence ?? 0,
      metrics: init.metrics,
      failed: (error) => this.#init.log?.error({ error: describeError(error) }, 'a stream callback threw'),
    });
    this.#outlet = outlet;
    this.#receipts = new Receipts(init.clock, init.first?.peerSequence ?? 0, () => outlet.acknowledge());
    const floors = init.local.openCredit * init.local.maxStreams;
    this.#streams = new Streams({
      role: init.role,
      clock: init.clock,
      local: init.local,
      peer: init.peer,
      budget: new ReceiveBudget(Math.max(0, RECEIVE_BUDGET_BYTES[init.role] - floors), init.processBudget),
      outlet,
      target: init.handlers.target,
      metrics: init.metrics,
      ...(init.first?.streamId === undefined ? {} : { firstStreamId: init.first.streamId }),
      violated: (code, message) => this.close(code, message),
      exhausted: () => this.close(CLOSE.NORMAL, 'stream ids are used up'),
      idle: () => this.#draining?.(),
    });
    this.#syncOut = new SyncSender(init.peer.maxFrameBytes, init.peer.syncCredit, (source) =>
      outlet.activate(source),
    );
    this.#syncIn = new SyncReceiver(
      init.local.syncCredit,
      async (kind, payload) => {
        try {
          await init.handlers.sync(kind, payload);
        } catch (error) {
          init.log?.error({ error: describeError(error) }, 'a sync payload was not handled');
        }
      },
      (holder) => outlet.credit(holder),
    );
    this.#tracking = init.metrics?.track(this.#gauges());
    this.#phase = this.#wait(1006, 'not connected yet');
  }

  get state(): SessionState {
    switch (this.#phase.kind) {
      case 'attached':
        return { kind: 'attached', epoch: this.#epoch };
      case 'detached':
        return { kind: 'detached', closeCode: this.#phase.closeCode, reason: this.#phase.reason };
      case 'closed':
        return { kind: 'closed', error: this.#phase.error };
    }
  }

  get epoch(): number {
    return this.#epoch;
  }

  get streams(): number {
    return this.#streams.size;
  }

  get rttMs(): number | undefined {
    return this.#outlet.governor.rttMs;
  }

  /** Count of reliable frames received: what RESUME and RESUMED tell the peer. */
  get nextExpected(): number {
    return this.#receipts.count;
  }

  /** Number for the next RESUME: one that arrives late, behind a newer one, is recognised by it. */
  nextAttempt(): number {
    this.#attempt += 1;
    return this.#attempt;
  }

  /** False for a RESUME older than one already seen. */
  acceptAttempt(attempt: number): boolean {
    if (attempt <= this.#attempt) return false;
    this.#attempt = attempt;
    return true;
  }

  canResumeFrom(peerNext: number): boolean {
    const { base, next } = this.#outlet.replay;
    return peerNext >= base && peerNext <= next;
  }

  // ---- carriers

  /**
   * Continues on `carrier`, the peer having received everything below `peerNext`. False, and nothing changed, when
   * that claim cannot be true. An older carrier is closed with SUPERSEDED and never read again.
   */
  attach(carrier: Carrier, epoch: number, peerNext: number): boolean {
    if (this.#phase.kind === 'closed' || !this.#outlet.resumeFrom(peerNext)) return false;
    this.#leave(CLOSE.SUPERSEDED, 'a newer connection took over');
    const now = this.#clock.monotonic();
    this.#epoch = epoch;
    this.#slowSince = undefined;
    const keepalive = new Keepalive(
      {
        ping: (payload) => this.#outlet.ping(payload),
        bytesReceived: () => carrier.bytesReceived,
        dead: (reason) => {
          this.#init.log?.warn({ session: this.id, reason }, 'the peer does not answer');
          this.#lose(1006, reason);
          carrier.terminate();
        },
      },
      now,
      this.#init.random,
    );
    const beat = onBeat(this.#clock, (at) => this.#safely(() => this.#onBeat(carrier, keepalive, at)));
    this.#phase = { kind: 'attached', carrier, keepalive, beat };
    this.#outlet.attach(carrier);
    this.#tell();
    // last: messages that waited in the carrier are delivered in here
    carrier.bind({
      message: (data) => {
        if (this.#isCurrent(carrier)) this.#safely(() => this.#onMessage(data));
      },
      drained: () => {
        if (this.#isCurrent(carrier)) this.#outlet.flush();
      },
      closed: (code, reason) => {
        if (this.#isCurrent(carrier)) this.#onCarrierClosed(code, reason);
      },
    });
    return true;
  }

  detach(closeCode: number, reason: string): void {
    if (this.#phase.kind !== 'attached') return;
    const { carrier } = this.#phase;
    this.#lose(closeCode, reason);
    carrier.close(closeCode, reason);
  }

  /** What throws where nobody listens (memory that is not there) ends this session, and neither the process nor others. */
  #safely(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#broke(error);
    }
  }

  /** A frame may be lost half-way: the session cannot go on, the next one can. */
  #broke(error: unknown): void {
    this.#init.log?.error({ session: this.id, error: describeError(error) }, 'the session broke');
    const carrier = this.#phase.kind === 'attached' ? this.#phase.carrier : undefined;
    this.#lose(1006, 'this end failed');
    this.close(CLOSE.INTERNAL, 'this end failed');
    carrier?.terminate();
  }

  #isCurrent(carrier: Carrier): boolean {
    return this.#phase.kind === 'attached' && this.#phase.carrier === carrier;
  }

  #onCarrierClosed(code: number, reason: string): void {
    if (FINAL_CLOSES.has(code)) this.#end(new SessionError(code, reason || 'the peer ended the session'));
    else this.#lose(code, reason);
  }

  /** The carrier is gone; wait for another. */
  #lose(closeCode: number, reason: string): void {
    if (this.#phase.kind !== 'attached') return;
    this.#release();
    this.#phase = this.#wait(closeCode, reason);
    this.#tell();
  }

  #wait(closeCode: number, reason: string): Phase {
    const grace = this.#clock.timer(this.#init.graceMs, () =>
      this.#end(new SessionError(CLOSE.SESSION_EXPIRED, 'no connection within the grace time')),
    );
    return { kind: 'detached', closeCode, reason, grace };
  }

  /** Leaves the present phase for an attachment. */
  #leave(closeCode: number, reason: string): void {
    if (this.#phase.kind === 'detached') this.#phase.grace[Symbol.dispose]();
    if (this.#phase.kind !== 'attached') return;
    const { carrier } = this.#phase;
    this.#release();
    carrier.close(closeCode, reason);
  }

  /** Stops everything that belongs to the present carrier, which is not read from here on. */
  #release(): void {
    if (this.#phase.kind !== 'attached') return;
    this.#phase.beat[Symbol.dispose]();
    this.#phase.carrier.bind(DEAF);
    this.#receipts.rest();
    this.#outlet.detach();
  }

  #tell(): void {
    this.#init.handlers.state?.(this.state);
  }

  #onBeat(carrier: Carrier, keepalive: Keepalive, beat: Beat): void {
    if (carrier.bufferedAmount <= SLOW_BYTES) this.#slowSince = undefined;
    else if (this.#slowSince === undefined) this.#slowSince = beat.now;
    else if (beat.now - this.#slowSince >= SLOW_MS) {
      this.detach(CLOSE.SLOW_CONSUMER, 'the peer does not read');
      return;
    }
    this.#outlet.rest();
    keepalive.beat(beat);
  }

  // ---- receiving

  #onMessage(message: Buffer): void {
    const now = this.#clock.monotonic();
    const fault = readFrames(
      message,
      this.#init.local.maxFrameBytes,
      (type, flags, id, sequence, payload) => {
        if (isReliable(type)) {
          if (sequence !== this.#receipts.count >>> 0) {
            this.close(CLOSE.PROTOCOL, 'a frame is missing or repeated');
            return false;
          }
          this.#receipts.add(HEADER_BYTES + payload.length, now);
        }
        this.#onFrame(type, flags, id, payload, now);
        return this.#phase.kind === 'attached';
      },
    );
    if (fault === 'too-big') this.close(CLOSE.TOO_BIG, 'a frame is larger than agreed');
    else if (fault !== undefined) this.close(CLOSE.PROTOCOL, 'a frame does not fit its message');
    if (this.#phase.kind === 'attached') this.#receipts.plan(now);
  }

  #onFrame(type: number, flags: number, id: number, payload: Buffer, now: number): void {
    switch (type) {
      case TYPE.OPEN:
        return this.#streams.onOpen(id, payload);
      case TYPE.OPEN_OK:
      case TYPE.OPEN_ERR:
      case TYPE.DATA:
      case TYPE.FIN:
      case TYPE.RESET:
      case TYPE.STOP:
        return this.#streams.onFrame(type, flags, id, payload, now);
      case TYPE.CREDIT:
        return id === 0 ? this.#onSyncCredit(payload) : this.#streams.onFrame(type, flags, id, payload, now);
      case TYPE.SYNC:
      case TYPE.SYNC_ACK: {
        const fault = this.#syncIn.receive(type, flags, payload);
        return fault === undefined ? undefined : this.close(CLOSE.PROTOCOL, fault);
      }
      case TYPE.ACK:
        return this.#onAck(payload, now);
      case TYPE.PING:
        this.#streams.countIdleFrame(now);
        if (payload.length !== 16) return this.close(CLOSE.PROTOCOL, 'unreadable PING');
        if ((flags & FLAG_PROBE) !== 0) this.#outlet.governor.peerProbes(now);
        return this.#outlet.pong(writePong(payload, loopLagMs(this.#clock)));
      case TYPE.PONG:
        return this.#onPong(payload, now);
      case TYPE.DRAIN:
        return this.#onDrain(payload);
      case TYPE.GOAWAY:
        return this.#onGoAway(payload);
      default:
        if (type < FIRST_OPTIONAL_TYPE) this.close(CLOSE.PROTOCOL, 'unknown frame type');
        else this.#streams.countIdleFrame(now);
    }
  }

  #onSyncCredit(payload: Buffer): void {
    const bytes = readCredit(payload);
    if (bytes === undefined) return this.close(CLOSE.PROTOCOL, 'unreadable CREDIT');
    if (!this.#syncOut.addCredit(bytes)) this.close(CLOSE.PROTOCOL, 'credit overflow');
  }

  #onAck(payload: Buffer, now: number): void {
    const ack = readAck(payload);
    if (ack === undefined) return this.close(CLOSE.PROTOCOL, 'unreadable ACK');
    if (ack.sequence === this.#outlet.replay.base) this.#streams.countIdleFrame(now);
    if (!this.#outlet.acknowledged(ack, now)) this.close(CLOSE.PROTOCOL, 'acknowledged what was not sent');
  }

  #onPong(payload: Buffer, now: number): void {
    this.#streams.countIdleFrame(now);
    const pong = this.#phase.kind === 'attached' ? this.#phase.keepalive.pong(payload, now) : undefined;
    if (pong === undefined) return;
    this.#outlet.governor.ponged(pong.rttMs, pong.sentAt, now);
    this.#init.metrics?.rtt(pong.rttMs);
  }

  #onDrain(payload: Buffer): void {
    const notice = readDrain(payload);
    if (notice === undefined) return this.close(CLOSE.PROTOCOL, 'unreadable DRAIN');
    this.#streams.peerDrains();
    this.#init.handlers.drain?.(notice);
  }

  #onGoAway(payload: Buffer): void {
    const away = readGoAway(payload);
    if (away === undefined) return this.close(CLOSE.PROTOCOL, 'unreadable GOAWAY');
    this.#end(new SessionError(away.closeCode, away.message || 'the peer ended the session'));
  }

  // ---- the owner's verbs

  open(options: OpenOptions, signal?: AbortSignal): Promise<TunnelStream> {
    if (this.#phase.kind === 'closed')
      return Promise.reject(new StreamError(STREAM.SESSION_LOST, 'the session is over'));
    return this.#streams.open(options, signal);
  }

  sendSync(kind: SyncKind, payload: Buffer, signal?: AbortSignal): Promise<void> {
    if (this.#phase.kind === 'closed')
      return Promise.reject(new StreamError(STREAM.SESSION_LOST, 'the session is over'));
    return this.#syncOut.send(kind, payload, signal);
  }

  async drain(notice: DrainNotice, signal?: AbortSignal): Promise<void> {
    if (this.#phase.kind === 'closed') return;
    this.#streams.startDraining();
    this.#outlet.control(outFrame(TYPE.DRAIN, 0, writeDrain(notice)));
    const { promise, resolve } = Promise.withResolvers<void>();
    const deadline = this.#clock.timer(notice.deadlineMs, resolve);
    this.#draining = resolve;
    signal?.addEventListener('abort', () => resolve(), { once: true });
    if (this.#streams.size === 0 || signal?.aborted) resolve();
    await Promise.race([promise, this.closed]);
    deadline[Symbol.dispose]();
    this.#draining = undefined;
    this.#outlet.flush();
    this.close(CLOSE.GOING_AWAY, notice.reason);
  }

  close(closeCode: number, reason: string): void {
    if (this.#phase.kind === 'closed') return;
    if (this.#phase.kind === 'attached') {
      const { carrier } = this.#phase;
      const away = { closeCode, lastStream: this.#streams.lastPeerId, message: reason };
      this.#outlet.farewell(outFrame(TYPE.GOAWAY, 0, writeGoAway(away)));
      carrier.bind(DEAF);
      carrier.close(closeCode, reason);
    }
    this.#end(new SessionError(closeCode, reason));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close(CLOSE.GOING_AWAY, 'shutting down');
    await this.closed;
  }

  #end(error: SessionError): void {
    if (this.#phase.kind === 'closed') return;
    if (this.#phase.kind === 'attached') {
      const { carrier } = this.#phase;
      this.#release();
      carrier.close(error.closeCode, error.message);
    } else this.#phase.grace[Symbol.dispose]();
    this.#phase = { kind: 'closed', error };
    this.#tracking?.[Symbol.dispose]();
    this.#syncIn.close();
    this.#syncOut.fail();
    this.#streams.closeAll(STREAM.SESSION_LOST, error.message);
    this.#outlet.clear();
    this.#resolveClosed(error);
    this.#tell();
  }

  #gauges(): SessionGauges {
    const { replay, governor } = this.#outlet;
    return {
      state: () => this.#phase.kind,
      inflightBytes: () => (this.#phase.kind === 'attached' ? replay.bytes : 0),
      inflightCapBytes: () => (this.#phase.kind === 'attached' ? governor.capBytes : 0),
      replayBytes: () => replay.bytes,
      lagMs: () => loopLagMs(this.#clock),
      streamsStalled: () => this.#streams.stalled,
      streamsOpen: () => this.#streams.byTarget(),
    };
  }
}
