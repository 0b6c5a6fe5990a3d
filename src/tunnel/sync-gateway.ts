/**
 * Durable sync, gateway end, for one session: says what it knows, puts documents on disk and acknowledges them,
 * ships snapshots (newest only, one in flight each) and events (in order, one batch in flight).
 * All state that must survive is in the port; this object dies with the session.
 */
import { backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Wake } from '../base/wake.ts';
import type { Event } from '../contract/events.ts';
import type { GatewaySyncPort, SyncDocument } from './ports.ts';
import type { SyncKind, TunnelSession } from './session.ts';
import { IDLE_LOOK_MS, keyOf, SYNC_RETRY, SyncEnd } from './sync-end.ts';
import {
  DownAckSchema,
  DownMessageSchema,
  type MessageSender,
  shrinkEvent,
  SyncTooLarge,
} from './sync-wire.ts';

/** A batch ends at the first of these. One event may carry a megabyte of evidence. */
const BATCH_EVENTS = 200;
const BATCH_BYTES = 256 * 1024;
const SNAPSHOTS_IN_FLIGHT = 8;
/** A document whose handler throws this often is parked with its cause; the others go on. */
const APPLY_TRIES = 3;

export interface GatewaySyncOptions {
  readonly port: GatewaySyncPort;
  readonly clock: Clock;
  readonly log: Log;
}

export class GatewaySync {
  readonly #port: GatewaySyncPort;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #end: SyncEnd;
  readonly #upWake = new Wake();
  readonly #snapshotWake = new Wake();
  readonly #ackWake = new Wake();
  /** `kind/id` -> revision that was sent and not yet answered. */
  readonly #inFlight = new Map<string, number>();
  /** `kind/id` -> newest generation, for documents whose store fails for the moment. */
  readonly #retrying = new Map<string, number>();
  #eventCursor: number | undefined;
  #ackedSeq: number | undefined;

  constructor(options: GatewaySyncOptions) {
    this.#port = options.port;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#end = new SyncEnd({
      clock: options.clock,
      log: options.log,
      arrived: (message, sender) => this.#arrived(message, sender),
      acknowledged: (message) => this.#acknowledged(message),
    });
  }

  /** For SessionHandlers.sync. Never rejects. */
  receive(kind: SyncKind, payload: Buffer): Promise<void> {
    return this.#end.receive(kind, payload);
  }

  /** Runs until the session is over. Never rejects. */
  run(session: TunnelSession): Promise<void> {
    return this.#end.run(session, async (sender, start) => {
      using _changes = this.#port.onChange(() => {
        this.#upWake.ring();
        this.#snapshotWake.ring();
      });
      const documents = await this.#end.persist('reading known documents', () => this.#port.known());
      await sender.send({ t: 'known', documents });
      start();
      await Promise.all([this.#shipEvents(sender), this.#shipSnapshots(sender)]);
    });
  }

  // ---- down: documents ----

  async #arrived(message: unknown, sender: MessageSender): Promise<void> {
    const parsed = DownMessageSchema.safeParse(message);
    if (!parsed.success) return this.#end.ignored(message);
    if (parsed.data.t === 'ready') {
      const { lastEventSeq } = parsed.data;
      await this.#end.persist('acknowledging events', () => this.#port.acknowledgeEvents(lastEventSeq));
      this.#eventCursor = lastEventSeq;
      this.#upWake.ring();
      return;
    }
    if (parsed.data.t === 'current') return this.#port.current();
    const { kind, id, generation, spec = null } = parsed.data;
    await this.#apply({ kind, id, generation, spec }, sender, 1);
  }

  /** Tries a few times in line, so that order is kept; a full disk is then waited out beside the others. */
  async #apply(document: SyncDocument, sender: MessageSender, attempt: number): Promise<void> {
    const { kind, id, generation } = document;
    const key = keyOf(document);
    const waiting = this.#retrying.get(key);
    if (waiting !== undefined && waiting <= generation) this.#retrying.delete(key);
    try {
      const outcome = await this.#port.apply(document);
      await sender.acknowledge({ t: 'document', kind, id, generation, outcome: bounded(outcome) });
    } catch (error) {
      this.#end.over.throwIfAborted();
      const details = { kind, id, generation, attempt, error: describeError(error) };
      this.#log.error(details, 'document not stored');
      const waitsOut = error instanceof PcgError && error.retryable;
      if (attempt < APPLY_TRIES) {
        await this.#clock.sleep(backoffMs(SYNC_RETRY, attempt - 1), this.#end.over);
        return await this.#apply(document, sender, attempt + 1);
      }
      if (!waitsOut) {
        const refused = `the gateway failed to store it: ${describeError(error)}`.slice(0, 500);
        return await sender.acknowledge({ t: 'document', kind, id, generation, outcome: { refused } });
      }
      this.#retrying.set(key, generation);
      void this.#applyLater(document, sender, attempt);
    }
  }

  async #applyLater(document: SyncDocument, sender: MessageSender, attempt: number): Promise<void> {
    try {
      await this.#clock.sleep(backoffMs(SYNC_RETRY, attempt), this.#end.over);
      // a newer generation may have come, and even been stored, meanwhile
      if (this.#retrying.get(keyOf(document)) !== document.generation) return;
      await this.#apply(document, sender, attempt + 1);
    } catch (error) {
      if (!this.#end.over.aborted) this.#log.error({ error: describeError(error) }, 'document retry failed');
    }
  }

  // ---- up: events ----

  async #shipEvents(sender: MessageSender): Promise<void> {
    for (let failures = 0; ; ) {
      const cursor = this.#eventCursor;
      const batch = cursor === undefined ? [] : await this.#nextBatch(cursor);
      const last = batch.at(-1)?.seq;
      if (cursor === undefined || last === undefined) {
        await this.#upWake.wait(this.#clock, IDLE_LOOK_MS, this.#end.over);
        continue;
      }
      this.#ackedSeq = undefined;
      await sender.send({ t: 'events', events: batch.map((event) => ({ ...event })) });
      while (this.#ackedSeq === undefined) {
        await this.#ackWake.wait(this.#clock, IDLE_LOOK_MS, this.#end.over);
      }
      // a portal cannot acknowledge what it was not sent
      const acked = Math.min(this.#ackedSeq, last);
      await this.#end.persist('acknowledging events', () => this.#port.acknowledgeEvents(acked));
      this.#eventCursor = acked;
      if (acked >= last) {
        failures = 0;
        continue;
      }
      // it stored less: a hole (our bound dropped events), or trouble with its disk
      failures += 1;
      this.#log.warn({ sent: last, acknowledged: acked, failures }, 'portal did not take all events');
      await this.#clock.sleep(backoffMs(SYNC_RETRY, failures - 1), this.#end.over);
    }
  }

  async #nextBatch(after: number): Promise<Event[]> {
    const pending = await this.#end.persist('reading events', () =>
      this.#port.pendingEvents(after, BATCH_EVENTS),
    );
    const batch: Event[] = [];
    let bytes = 0;
    for (const event of pending) {
      const size = JSON.stringify(event).length;
      const fitting = size > BATCH_BYTES * 8 ? shrinkEvent(event) : event;
      if (batch.length > 0 && bytes + size > BATCH_BYTES) break;
      batch.push(fitting);
      bytes += size;
    }
    return batch;
  }

  // ---- up: snapshots ----

  async #shipSnapshots(sender: MessageSender): Promise<void> {
    for (;;) {
      const pending = await this.#end.persist('reading snapshots', () => this.#port.pendingSnapshots());
      for (const snapshot of pending) {
        if (this.#inFlight.size >= SNAPSHOTS_IN_FLIGHT) break;
        const key = keyOf(snapshot);
        // one at a time: while one is on its way only the newest of its successors will ever be sent
        if (this.#inFlight.has(key)) continue;
        const { kind, id, revision, status } = snapshot;
        this.#inFlight.set(key, revision);
        try {
          await sender.send({ t: 'snapshot', kind, id, revision, status });
        } catch (error) {
          if (!(error instanceof SyncTooLarge)) throw error;
          this.#log.error({ kind, id, revision, bytes: error.bytes }, 'snapshot too large to send; given up');
          await this.#settleSnapshot(key, kind, id, revision);
        }
      }
      await this.#snapshotWake.wait(this.#clock, IDLE_LOOK_MS, this.#end.over);
    }
  }

  async #acknowledged(message: unknown): Promise<void> {
    const parsed = DownAckSchema.safeParse(message);
    if (!parsed.success) return this.#end.ignored(message);
    if (parsed.data.t === 'events') {
      this.#ackedSeq = parsed.data.seq;
      this.#ackWake.ring();
      return;
    }
    const { kind, id, revision, outcome } = parsed.data;
    const key = keyOf(parsed.data);
    if (this.#inFlight.get(key) !== revision) return; // of an older session, or invented
    if (typeof outcome === 'object') {
      this.#log.error({ kind, id, revision, refused: outcome.refused }, 'portal refused a snapshot');
    }
    await this.#settleSnapshot(key, kind, id, revision);
  }

  async #settleSnapshot(key: string, kind: string, id: string, revision: number): Promise<void> {
    await this.#end.persist('acknowledging a snapshot', () =>
      this.#port.acknowledgeSnapshot(kind, id, revision),
    );
    this.#inFlight.delete(key);
    this.#snapshotWake.ring();
  }
}

function bounded(
  outcome: 'applied' | 'stale' | { refused: string },
): 'applied' | 'stale' | { refused: string } {
  return typeof outcome === 'string' ? outcome : { refused: outcome.refused.slice(0, 4000) };
}
