/**
 * A session: what two ends of the tunnel share over any number of carriers. It multiplexes streams, counts and
 * replays reliable frames, and either resumes byte-exact on the next carrier or ends with SESSION_LOST.
 * Opened by `handshake.ts`; carriers come from `dial` and `accept`.
 */
import type { Clock } from '../base/clock.ts';
import type { Carrier } from './carrier.ts';
import type { SessionError } from './codes.ts';
import type { OpenOptions, TargetHandler, TunnelStream } from './ports.ts';

/** Longest SYNC payload; a document or a batch of events fits. Longer ones are refused at the sender. */
export const MAX_SYNC_BYTES = 1024 * 1024;

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
   * Sends an opaque payload (<= MAX_SYNC_BYTES) of layer 5, reliably and in order. Resolves when it was handed to
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
  /** Milliseconds that a session waits without a carrier. */
  readonly graceMs: number;
  readonly local: SessionSettings;
  readonly peer: SessionSettings;
  readonly handlers: SessionHandlers;
}

export type CarrierFactory = (signal: AbortSignal) => Promise<Carrier>;
