/**
 * What both ends of durable sync share: it lives as long as one session, hears messages in order once it has said its
 * first one, waits for a store that fails for a while (nothing else waits with it), and ends a session that it cannot
 * serve. Nothing is re-sent on a timer; all state that must survive is in the port.
 */
import { backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { CLOSE } from './codes.ts';
import type { SyncKind, TunnelSession } from './session.ts';
import { MessageReader, MessageSender } from './sync-wire.ts';

export const SYNC_RETRY = { baseMs: 500, capMs: 30_000 };
/** The listeners ring; this only bounds what a lost ring could cost, milliseconds. */
export const IDLE_LOOK_MS = 300_000;

export interface SyncEndOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** A message of the peer. */
  readonly arrived: (message: unknown, sender: MessageSender) => Promise<void>;
  /** An acknowledgement of what was sent. */
  readonly acknowledged: (message: unknown) => Promise<void>;
}

export class SyncEnd {
  readonly #options: SyncEndOptions;
  readonly #readers = { sync: new MessageReader(), ack: new MessageReader() };
  readonly #over = new AbortController();
  readonly #started = Promise.withResolvers<MessageSender>();

  constructor(options: SyncEndOptions) {
    this.#options = options;
    this.#started.promise.catch(() => {}); // a session may end before it started
  }

  /** Aborts when the session is over. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** For SessionHandlers.sync. Never rejects. */
  async receive(kind: SyncKind, payload: Buffer): Promise<void> {
    const { arrived, acknowledged, log } = this.#options;
    try {
      const message = this.#readers[kind].push(payload);
      if (message === undefined) return;
      const sender = await this.#started.promise;
      await (kind === 'ack' ? acknowledged(message) : arrived(message, sender));
    } catch (error) {
      if (this.over.aborted) return;
      log.warn({ error: describeError(error) }, 'sync message not understood');
    }
  }

  /** `work` runs until the session is over and calls `start` when it has said its first message. Never rejects. */
  async run(
    session: TunnelSession,
    work: (sender: MessageSender, start: () => void) => Promise<void>,
  ): Promise<void> {
    const sender = new MessageSender(session);
    void session.closed.then(() => this.#stop());
    try {
      await work(sender, () => this.#started.resolve(sender));
    } catch (error) {
      // the session's end is how this ends; anything else is a defect that must not stay silent
      if (!this.over.aborted && session.state.kind !== 'closed') {
        this.#options.log.error({ error: describeError(error) }, 'sync stopped');
        session.close(CLOSE.INTERNAL, 'sync failed'); // a new session starts afresh
      }
    } finally {
      this.#stop();
    }
  }

  /** The store may be full, locked or blocked for a while: sync waits for it, and nothing else does. */
  async persist<T>(what: string, work: () => Promise<T>): Promise<T> {
    const { clock, log } = this.#options;
    for (let attempt = 0; ; attempt += 1) {
      this.over.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        log.error({ what, attempt, error: describeError(error) }, 'sync store failed');
        await clock.sleep(backoffMs(SYNC_RETRY, attempt), this.over);
      }
    }
  }

  /** A message of a type or shape that this program does not know. */
  ignored(message: unknown): void {
    const type = (message as { t?: unknown } | null)?.t;
    this.#options.log.debug(
      { type: typeof type === 'string' ? type.slice(0, 40) : typeof type },
      'sync message ignored',
    );
  }

  #stop(): void {
    this.#over.abort(new Error('session over'));
    this.#started.reject(this.over.reason);
  }
}

/** Of documents and snapshots, `kind/id`. */
export const keyOf = ({ kind, id }: { readonly kind: string; readonly id: string }): string =>
  `${kind}/${id}`;
