/**
 * One peer over many sessions: whoever wants a stream asks here, and waits for a session up to the deadline.
 * While a session is detached opens wait for its next carrier; when it is lost they go on with the next session,
 * which is safe: an open that was not answered has carried no data.
 */
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import type { PcgError } from '../base/errors.ts';
import { STREAM, StreamError } from './codes.ts';
import type { OpenOptions, Tunnel, TunnelStream } from './ports.ts';
import type { TunnelSession } from './session.ts';
import { OPEN_DEADLINE_MS } from './streams.ts';

export class SessionSlot implements Tunnel {
  readonly #clock: Clock;
  readonly #offline: () => PcgError;
  readonly #waiters = new Set<() => void>();
  #session: TunnelSession | undefined;

  /** `offline`: what to throw when no session came in time. */
  constructor(clock: Clock, offline: () => PcgError) {
    this.#clock = clock;
    this.#offline = offline;
  }

  get session(): TunnelSession | undefined {
    return this.#session;
  }

  replace(session: TunnelSession | undefined): void {
    this.#session = session;
    this.changed();
  }

  /** To be called whenever the session's state changed. */
  changed(): void {
    const woken = [...this.#waiters];
    this.#waiters.clear();
    for (const wake of woken) wake();
  }

  async open(options: OpenOptions, signal?: AbortSignal): Promise<TunnelStream> {
    const { deadlineMs = OPEN_DEADLINE_MS } = options;
    const endsAt = this.#clock.monotonic() + deadlineMs;
    let reached = false;
    try {
      return await withDeadline(this.#clock, deadlineMs, 'opening a stream', signal, async (stop) => {
        for (let refusedBy: TunnelSession | undefined; ; ) {
          const session = await this.#usable(refusedBy, stop);
          const left = Math.max(1, endsAt - this.#clock.monotonic());
          reached = true;
          try {
            return await session.open({ ...options, deadlineMs: left }, stop);
          } catch (error) {
            if (!isSessionOver(error)) throw error;
            stop.throwIfAborted();
            refusedBy = session;
            reached = false;
          }
        }
      });
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw reached ? new StreamError(STREAM.DEADLINE, undefined, { cause: error }) : this.#offline();
    }
  }

  /** The attached session, once there is one that is not `not`. */
  async #usable(not: TunnelSession | undefined, signal: AbortSignal): Promise<TunnelSession> {
    for (;;) {
      const session = this.#session;
      if (session && session !== not && session.state.kind === 'attached') return session;
      await this.#nextChange(signal);
    }
  }

  #nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const wake = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        this.#waiters.delete(wake);
        reject(signal.reason);
      };
      this.#waiters.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** This session will not answer any more; the next one may. */
const isSessionOver = (error: unknown): boolean =>
  error instanceof StreamError &&
  (error.streamCode === STREAM.SESSION_LOST || error.streamCode === STREAM.DRAINING);
