/**
 * Durable sync, portal end, for one session of one gateway: sends the documents that the gateway does not have yet
 * (newest generation only, one in flight each) and stores snapshots and events before it acknowledges them.
 * A slow store holds back this gateway's sync alone; nothing is re-sent on a live session.
 */
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { Wake } from '../base/wake.ts';
import type { Event } from '../contract/events.ts';
import type { PortalSyncPort, SyncDocument } from './ports.ts';
import type { SyncKind, TunnelSession } from './session.ts';
import { IDLE_LOOK_MS, keyOf, SyncEnd } from './sync-end.ts';
import { type MessageSender, SyncTooLarge, UpAckSchema, UpMessageSchema } from './sync-wire.ts';

const DOCUMENTS_IN_FLIGHT = 16;

export interface PortalSyncOptions {
  readonly port: PortalSyncPort;
  readonly clock: Clock;
  readonly log: Log;
}

export class PortalSync {
  readonly #port: PortalSyncPort;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #end: SyncEnd;
  readonly #wake = new Wake();
  /** `kind/id` -> generation that the gateway has or has answered. */
  readonly #settled = new Map<string, number>();
  /** `kind/id` -> generation that was sent and not yet answered. */
  readonly #inFlight = new Map<string, number>();
  #known = false;
  #saidCurrent = false;

  constructor(options: PortalSyncOptions) {
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
      using _changes = this.#port.onDocumentChange(() => this.#wake.ring());
      const lastEventSeq = await this.#end.persist('reading the event position', () =>
        this.#port.lastEventSeq(),
      );
      await sender.send({ t: 'ready', lastEventSeq });
      start();
      for (;;) {
        await this.#wake.wait(this.#clock, IDLE_LOOK_MS, this.#end.over);
        if (this.#known) await this.#sendNewer(sender);
      }
    });
  }

  // ---- down: documents ----

  async #sendNewer(sender: MessageSender): Promise<void> {
    const documents = await this.#end.persist('reading documents', () => this.#port.documents());
    let current = true;
    for (const document of documents) {
      const key = keyOf(document);
      const settled = this.#settled.get(key);
      if (settled !== undefined && settled >= document.generation) continue;
      current = false;
      // one at a time: while one is on its way only the newest of its successors will ever be sent
      if (this.#inFlight.has(key)) continue;
      if (this.#inFlight.size >= DOCUMENTS_IN_FLIGHT) return; // the next acknowledgement rings
      await this.#send(document, sender);
    }
    if (!current || this.#saidCurrent) return;
    this.#saidCurrent = true;
    await sender.send({ t: 'current' });
  }

  async #send({ kind, id, generation, spec }: SyncDocument, sender: MessageSender): Promise<void> {
    const key = keyOf({ kind, id });
    this.#inFlight.set(key, generation);
    try {
      await sender.send({ t: 'document', kind, id, generation, spec });
    } catch (error) {
      if (!(error instanceof SyncTooLarge)) throw error;
      await this.#settle(kind, id, generation, { refused: `it is too large to be sent: ${error.message}` });
    }
  }

  async #acknowledged(message: unknown): Promise<void> {
    const parsed = UpAckSchema.safeParse(message);
    if (!parsed.success) return this.#end.ignored(message);
    const { kind, id, generation, outcome } = parsed.data;
    // generation 3 acknowledged while 4 is current, or never sent: nothing follows from it
    if (this.#inFlight.get(keyOf(parsed.data)) !== generation) return;
    await this.#settle(kind, id, generation, outcome);
  }

  async #settle(
    kind: string,
    id: string,
    generation: number,
    outcome: 'applied' | 'stale' | { refused: string },
  ): Promise<void> {
    await this.#end.persist('acknowledging a document', () =>
      this.#port.acknowledgeDocument(kind, id, generation, outcome),
    );
    const key = keyOf({ kind, id });
    this.#inFlight.delete(key);
    this.#settled.set(key, generation);
    this.#wake.ring();
  }

  // ---- up: what the gateway knows, snapshots, events ----

  async #arrived(message: unknown, sender: MessageSender): Promise<void> {
    const parsed = UpMessageSchema.safeParse(message);
    if (!parsed.success) return this.#end.ignored(message);
    switch (parsed.data.t) {
      case 'known':
        return await this.#learnKnown(parsed.data.documents);
      case 'snapshot': {
        const { kind, id, revision, status = null } = parsed.data;
        const outcome = await this.#end.persist('storing a snapshot', () =>
          this.#port.putSnapshot({ kind, id, revision, status }),
        );
        return await sender.acknowledge({ t: 'snapshot', kind, id, revision, outcome });
      }
      case 'events': {
        const events = parsed.data.events as unknown as Event[];
        const seq = await this.#end.persist('storing events', () => this.#port.appendEvents(events));
        return await sender.acknowledge({ t: 'events', seq });
      }
    }
  }

  /** An acknowledgement that was lost with an earlier session is made good here. */
  async #learnKnown(known: readonly { kind: string; id: string; generation: number }[]): Promise<void> {
    const onDisk = new Map(known.map((entry) => [keyOf(entry), entry.generation]));
    const documents = await this.#end.persist('reading documents', () => this.#port.documents());
    for (const { kind, id, generation, spec, acknowledged } of documents) {
      const has = onDisk.get(keyOf({ kind, id }));
      const doneWith = spec === null && acknowledged === generation && has === undefined;
      if (!doneWith && (has === undefined || has < generation)) continue;
      if (has !== undefined && has > generation) {
        // The portal was restored from a backup. What it wants is older than what the gateway was told since.
        this.#log.error({ kind, id, generation, has }, 'gateway has a newer document than the portal');
        await this.#settle(kind, id, has, 'stale');
      } else if (acknowledged === generation) this.#settled.set(keyOf({ kind, id }), generation);
      else await this.#settle(kind, id, generation, 'applied');
    }
    this.#known = true;
    this.#wake.ring();
  }
}
