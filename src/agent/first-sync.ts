/**
 * Whether the store may act on clusters. What lies in it was the newest intent while it was in use: a store restored
 * from a backup may hold clusters that are deleted or larger since, and would build them again or release their
 * machines. So a store that was not in use lately acts only after the portal has said, once, all that it wants. With
 * the portal away it acts after an hour: after a long power cut clusters must be looked after without a portal too.
 * A restart within ten minutes waits for nothing.
 */
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { runForever } from '../base/loop.ts';
import { Wake } from '../base/wake.ts';
import type { Outbox } from '../store/outbox.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';

/** A store that was in use this recently is not an old one. */
const IN_USE_MS = 10 * 60_000;
/** How often a store in use says so. */
const MARK_EVERY_MS = 60_000;
/** Longest wait for a portal that is away. */
const MAX_HOLD_MS = 60 * 60_000;
const KEY = 'in-use';

/** Milliseconds since the epoch, all of them. */
export interface Hold {
  readonly sinceMs: number;
  readonly untilMs: number;
  /** When the store was last in use; undefined: it never said. */
  readonly lastUsedMs: number | undefined;
}

export interface FirstSyncOptions {
  readonly records: Records;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly log: Log;
}

export class FirstSync {
  readonly #options: FirstSyncOptions;
  readonly #wake = new Wake();
  #held: Hold | undefined;

  constructor(options: FirstSyncOptions) {
    this.#options = options;
  }

  /** While clusters are left alone. */
  get held(): Hold | undefined {
    return this.#held;
  }

  /** The portal has said all that it wants, and it is on disk. */
  current(): void {
    this.#wake.ring();
  }

  /** True when clusters may be acted on, false when `signal` aborted first. Throws STORAGE_FAILED. */
  async ready(signal: AbortSignal): Promise<boolean> {
    const { clock, log, records, outbox } = this.#options;
    const documents = await records.list(COLLECTIONS.documents);
    if (!documents.some(({ key }) => key.startsWith('cluster/'))) return true;
    const lastUsedMs = (await records.get<number>(COLLECTIONS.settings, KEY))?.value;
    const now = clock.now();
    // a mark in the future says no more than none: one of the two clocks was wrong
    if (lastUsedMs !== undefined && Math.abs(now - lastUsedMs) <= IN_USE_MS) return true;
    this.#held = { sinceMs: now, untilMs: now + MAX_HOLD_MS, lastUsedMs };
    const lastUsed = lastUsedMs === undefined ? 'an unknown time' : new Date(lastUsedMs).toISOString();
    const message = `This gateway's store was last in use at ${lastUsed}. It may be a restored backup, so clusters are left alone until the portal has said what it wants, or for an hour.`;
    log.warn({ lastUsed }, message);
    await outbox.appendEvent({ severity: 'warning', reason: 'StoreMayBeOld', message });
    try {
      const how = await this.#wake.wait(clock, MAX_HOLD_MS, signal);
      if (how === 'rung') log.info('the portal has said what it wants: clusters are looked after');
      else log.error('no portal for an hour: clusters are looked after by a store that may be old');
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    } finally {
      this.#held = undefined;
    }
  }

  /** Says in the store that it is in use, until aborted. Begin it after `ready`. Never rejects. */
  async keepMark(signal: AbortSignal): Promise<void> {
    const { clock, log, records } = this.#options;
    await runForever({
      clock,
      signal,
      attempt: async () => void (await records.put(COLLECTIONS.settings, KEY, clock.now())),
      onError: (error) => log.error({ error: describeError(error) }, 'the mark of use was not stored'),
      delayMs: () => MARK_EVERY_MS,
    });
  }
}
