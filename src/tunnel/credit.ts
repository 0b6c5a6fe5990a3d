/**
 * Flow control. A receiver promises bytes and keeps memory for every promise: per stream a window that grows while
 * a fast reader uses it up, per session a budget that all windows share, per process an optional budget above.
 * Promises are returned when the application has consumed, so a stalled reader costs its own window and no more.
 */
import type { StreamClass } from './ports.ts';

/** First window of a stream when the budget has room, bytes. */
export const INITIAL_WINDOW_BYTES = 256 * 1024;
/** Largest window: 4 MiB fill 300 Mbit/s at 100 ms. */
export const MAX_WINDOW_BYTES = 4 * 1024 * 1024;
/** Kept for commands when bulk has taken all the rest. */
export const COMMAND_RESERVE_BYTES = 64 * 1024;
/** Peer's total credit on one stream; more is a counter gone wrong. */
export const MAX_CREDIT_BYTES = 0xffff_ffff;
/** Credit goes back in pieces of at most this size, so that senders never stop for want of it. */
const RETURN_AT_MOST_BYTES = 256 * 1024;
/** A new stream takes at most this part of what is left, so that the hundredth still finds some. */
const NEW_STREAM_SHARE = 16;
/** Below this part of the budget, large windows give back instead of growing. */
const SCARCE_SHARE = 8;
/** "Within two round trips", where the trip is never believed to be shorter than a busy event loop's turn. */
const GROWTH_TRIPS = 2;
const MIN_TRIP_MS = 2;

/** Memory for promises above each stream's floor. Floors are paid for by `maxStreams x openCredit`. */
export class ReceiveBudget {
  readonly #limit: number;
  readonly #parent: ReceiveBudget | undefined;
  #used = 0;
  #reserveUsed = 0;
  #holders = 0;

  /** `limitBytes`: what all windows together may promise above their floors. */
  constructor(limitBytes: number, parent?: ReceiveBudget) {
    this.#limit = limitBytes;
    this.#parent = parent;
  }

  get usedBytes(): number {
    return this.#used + this.#reserveUsed;
  }

  get freeBytes(): number {
    const own = this.#limit - this.#used;
    return Math.max(0, this.#parent === undefined ? own : Math.min(own, this.#parent.freeBytes));
  }

  get scarce(): boolean {
    return this.freeBytes * SCARCE_SHARE < this.#limit;
  }

  /** What each stream would have if all had the same. */
  get fairShare(): number {
    return this.#limit / Math.max(1, this.#holders);
  }

  join(): void {
    this.#holders += 1;
  }

  leave(): void {
    this.#holders -= 1;
  }

  /** Up to `want` bytes; class 1 may use the reserve as well. */
  take(want: number, cls: StreamClass): Holding {
    const normal = Math.max(0, Math.min(want, this.freeBytes));
    this.#use(normal);
    let reserve = 0;
    if (cls === 1 && normal < want) {
      reserve = Math.max(0, Math.min(want - normal, COMMAND_RESERVE_BYTES - this.#reserveUsed));
      this.#reserveUsed += reserve;
    }
    return { normal, reserve };
  }

  give(holding: Holding): void {
    this.#use(-holding.normal);
    this.#reserveUsed -= holding.reserve;
  }

  #use(bytes: number): void {
    this.#used += bytes;
    if (this.#parent !== undefined) this.#parent.#use(bytes);
  }
}

export interface Holding {
  normal: number;
  reserve: number;
}

/** The receiving half of one stream's flow control. All counts are bytes since the stream began. */
export class ReceiveWindow {
  readonly #budget: ReceiveBudget;
  readonly #floor: number;
  readonly #class: StreamClass;
  #holding: Holding = { normal: 0, reserve: 0 };
  #window: number;
  #granted: number;
  #received = 0;
  #consumed = 0;
  #roundBytes = 0;
  #roundStart = 0;
  #released = false;

  /** `floor`: promised without asking the budget, see SessionSettings.openCredit. */
  constructor(budget: ReceiveBudget, floor: number, cls: StreamClass) {
    this.#budget = budget;
    this.#floor = floor;
    this.#class = cls;
    this.#window = floor;
    this.#granted = floor;
    budget.join();
  }

  get window(): number {
    return this.#window;
  }

  /** Received and not consumed. */
  get held(): number {
    return this.#received - this.#consumed;
  }

  /** Widens to the initial window as far as there is room. Returns the bytes to announce on top of the floor. */
  widen(now: number): number {
    const room = Math.floor(this.#budget.freeBytes / NEW_STREAM_SHARE);
    const least = this.#class === 1 ? COMMAND_RESERVE_BYTES / 8 : 0;
    this.#grow(Math.min(INITIAL_WINDOW_BYTES - this.#floor, Math.max(room, least)));
    this.#roundStart = now;
    const more = this.#window - this.#granted;
    this.#granted += more;
    return more;
  }

  /** False when the peer sent more than it was promised. */
  receive(bytes: number): boolean {
    this.#received += bytes;
    return this.#received <= this.#granted;
  }

  /** The application consumed `bytes`. Returns credit to announce now, 0 for none yet. */
  consume(bytes: number, monotonic: () => number, rttMs: number): number {
    this.#consumed += bytes;
    if (this.#released) return 0;
    this.#roundBytes += bytes;
    if (this.#roundBytes >= this.#window) {
      const now = monotonic();
      const quick = now - this.#roundStart <= GROWTH_TRIPS * Math.max(rttMs, MIN_TRIP_MS);
      this.#roundBytes = 0;
      this.#roundStart = now;
      if (quick && this.#window < MAX_WINDOW_BYTES && !this.#budget.scarce)
        this.#grow(Math.min(this.#window, MAX_WINDOW_BYTES - this.#window, this.#budget.freeBytes / 2));
    }
    if (this.#budget.scarce) this.#shrink();
    const due = this.#consumed + this.#window - this.#granted;
    if (due < Math.min(this.#window / 2, RETURN_AT_MOST_BYTES)) return 0;
    this.#granted += due;
    return due;
  }

  /** No promise is outstanding any more: the stream ended and its bytes were consumed or dropped. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#budget.give(this.#holding);
    this.#budget.leave();
  }

  #grow(bytes: number): void {
    if (bytes < 1) return;
    const got = this.#budget.take(Math.floor(bytes), this.#class);
    this.#holding.normal += got.normal;
    this.#holding.reserve += got.reserve;
    this.#window += got.normal + got.reserve;
  }

  /** Gives back what was consumed and need not be promised again; promises already made stay covered. */
  #shrink(): void {
    const fair = Math.max(this.#floor, this.#budget.fairShare);
    const spare = Math.min(
      this.#window - fair,
      this.#consumed + this.#window - this.#granted,
      this.#holding.normal,
    );
    const bytes = Math.floor(spare);
    if (bytes < 1) return;
    this.#holding.normal -= bytes;
    this.#window -= bytes;
    this.#budget.give({ normal: bytes, reserve: 0 });
  }
}
