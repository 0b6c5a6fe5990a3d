/**
 * Facts on their way up. Snapshots: only the newest unacknowledged one per (kind, id). Events: numbered
 * without gaps, kept until acknowledged, bounded. Written in the same store as the state they describe.
 */
import type { Event, EventDraft } from '../contract/events.ts';

export interface Snapshot {
  readonly kind: string;
  readonly id: string;
  /** Grows with every change of this (kind, id). */
  readonly revision: number;
  /** null: the object is gone. */
  readonly status: unknown;
}

export interface Outbox {
  /** Replaces the pending snapshot; no new revision when the status is deeply equal to the last one. */
  putSnapshot(kind: string, id: string, status: unknown): Promise<void>;
  appendEvent(draft: EventDraft): Promise<Event>;
  /** Everything unacknowledged, oldest first. */
  pendingSnapshots(): Promise<Snapshot[]>;
  pendingEvents(afterSeq: number, limit: number): Promise<Event[]>;
  acknowledgeSnapshot(kind: string, id: string, revision: number): Promise<void>;
  /**
   * All events up to and including `seq` are at the portal. Less than before says that the portal lost some: every
   * snapshot is pending again. More than was ever given says that this store did: numbers go on behind `seq`.
   */
  acknowledgeEvents(seq: number): Promise<void>;
  /** Local reading for `pcg clusters events`, newest `limit` that match. */
  recentEvents(filter: { cluster?: string }, limit: number): Promise<Event[]>;
  /** Number of events that the portal has not acknowledged. */
  unacknowledgedEvents(): Promise<number>;
  /** When the oldest of them happened, milliseconds since the epoch. */
  oldestUnacknowledgedAt(): Promise<number | undefined>;
  /** Number of events dropped because the bound was reached; reported, never silent. */
  droppedEvents(): Promise<number>;
  onChange(listener: () => void): Disposable;
}
