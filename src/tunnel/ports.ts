/**
 * The tunnel's public shapes: what agent and portal may use of it, and what they must give it.
 * The tunnel never knows what a cluster is: targets are names, documents and snapshots are opaque.
 */
import type { Duplex } from 'node:stream';
import type { Event } from '../contract/events.ts';

/** 1 commands and status (strict), 2 interactive, 3 bulk. Class 0 belongs to the session. */
export type StreamClass = 1 | 2 | 3;

export interface Principal {
  readonly user: string;
  readonly groups: readonly string[];
}

export interface OpenOptions {
  /** `agent`, `maas:<account>`, `kube:<cluster>`, `tcp:<host>:<port>`, or `portal` in the other direction. */
  readonly target: string;
  readonly class?: StreamClass;
  /** Scheduler share: streams of one cluster share one deficit. Default: the target. */
  readonly shareKey?: string;
  readonly deadlineMs?: number;
  readonly principal?: Principal;
  readonly traceparent?: string;
}

/** A byte stream: half-close by `end()`, abort by `destroy(error)`; StreamError carries the tunnel code. */
export type TunnelStream = Duplex;

/** One end's view of the peer, over reconnects. */
export interface Tunnel {
  /** Rejects with PcgError GATEWAY_OFFLINE when there is no session and none comes within the deadline. */
  open(options: OpenOptions, signal?: AbortSignal): Promise<TunnelStream>;
}

/**
 * Answers the peer's OPEN with what the target is here: a byte stream to be joined with (sockets made with
 * `allowHalfOpen: true`), or a function that takes the stream itself (an `http.Server` that serves it).
 * Throws StreamError(code) to refuse; system errors are translated.
 */
export type TargetHandler = (
  open: Required<Pick<OpenOptions, 'target' | 'class'>> & OpenOptions,
  signal: AbortSignal,
) => Promise<Duplex | ((stream: TunnelStream) => void)>;

/** Desired state: only the newest generation counts; spec null = deleted. */
export interface SyncDocument {
  readonly kind: string;
  readonly id: string;
  readonly generation: number;
  readonly spec: unknown;
}

export interface SyncSnapshot {
  readonly kind: string;
  readonly id: string;
  readonly revision: number;
  readonly status: unknown;
}

/** Durable sync, gateway end. Implemented by `agent/sync.ts` over the store. All calls return after the disk. */
export interface GatewaySyncPort {
  /** (kind, id, generation) of every document on disk: sent on connect so that only newer ones come. */
  known(): Promise<{ kind: string; id: string; generation: number }[]>;
  /** `stale`: an equal or newer generation is already there (acknowledged all the same). */
  apply(document: SyncDocument): Promise<'applied' | 'stale' | { refused: string }>;
  /** Once a session: all that the portal wants was applied or refused. */
  current(): void;
  pendingSnapshots(): Promise<SyncSnapshot[]>;
  pendingEvents(afterSeq: number, limit: number): Promise<Event[]>;
  /** When the oldest event happened that is not acknowledged, milliseconds since the epoch. For metrics. */
  oldestEventAt(): Promise<number | undefined>;
  acknowledgeSnapshot(kind: string, id: string, revision: number): Promise<void>;
  acknowledgeEvents(seq: number): Promise<void>;
  onChange(listener: () => void): Disposable;
}

/** `acknowledged`: the generation that is known to be on the gateway's disk; saves writes at every reconnect. */
export interface StoredDocument extends SyncDocument {
  readonly acknowledged?: number;
}

/** Durable sync, portal end, for one gateway. Implemented by the portal over its store. */
export interface PortalSyncPort {
  /** The newest generation of every document for this gateway, including deleted ones. */
  documents(): Promise<StoredDocument[]>;
  /** `stale` with a generation above its own: the gateway has that one, so the next one shall be above it. */
  acknowledgeDocument(
    kind: string,
    id: string,
    generation: number,
    outcome: 'applied' | 'stale' | { refused: string },
  ): Promise<void>;
  /** Stores when newer than what is stored. `refused` is final for that revision: the gateway does not retry it. */
  putSnapshot(snapshot: SyncSnapshot): Promise<'stored' | 'stale' | { refused: string }>;
  /** Stores those not stored yet; returns the highest sequence below which nothing is missing. */
  appendEvents(events: readonly Event[]): Promise<number>;
  /** Highest contiguous event sequence stored. */
  lastEventSeq(): Promise<number>;
  onDocumentChange(listener: () => void): Disposable;
}
