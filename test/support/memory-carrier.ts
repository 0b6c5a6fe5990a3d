/**
 * Two carriers joined in memory. Messages arrive in later turns of the event loop, as on a network; a cut loses
 * what did not fit before it, whole messages included, as a WebSocket does.
 */
import type { Carrier, CarrierHandler } from '../../src/tunnel/carrier.ts';

/** As large as a WebSocket's, so that tests see a forgotten head room. */
const HEADROOM = 14;

export interface LinkOptions {
  /** Breaks the link when this many bytes have been sent from the first end (`a`) or the second (`b`). */
  readonly cutAfter?: { readonly a?: number; readonly b?: number };
  /** Sees every message before it arrives; true breaks the link instead, so that it is the first one lost. */
  readonly cutBefore?: (to: 'a' | 'b', message: Buffer) => boolean;
}

export class MemoryCarrier implements Carrier {
  readonly headroom = HEADROOM;
  readonly name: 'a' | 'b';
  readonly #link: MemoryLink;
  peer!: MemoryCarrier;
  /** Bytes sent so far, including a message that was cut. */
  sent = 0;
  /** Everything received, for asserting what was on the wire. */
  bytesReceived = 0;
  /** Frozen: accepts, but nothing leaves. */
  frozen = false;
  closes: { code: number; reason: string }[] = [];
  #queue: Buffer[] = [];
  #queued = 0;
  #handler: CarrierHandler | undefined;
  #early: Buffer[] = [];
  #over: { code: number; reason: string } | undefined;
  #pumping = false;

  constructor(link: MemoryLink, name: 'a' | 'b') {
    this.#link = link;
    this.name = name;
  }

  get bufferedAmount(): number {
    return this.#queued;
  }

  get open(): boolean {
    return this.#over === undefined;
  }

  cork(): void {}
  uncork(): void {}

  send(parts: readonly Buffer[]): void {
    if (this.#over !== undefined) return;
    const message = Buffer.concat(parts).subarray(HEADROOM);
    this.#queue.push(message);
    this.#queued += message.length;
    this.#plan();
  }

  thaw(): void {
    this.frozen = false;
    this.#plan();
  }

  bind(handler: CarrierHandler): void {
    this.#handler = handler;
    const early = this.#early;
    this.#early = [];
    for (const message of early) this.#handler.message(message);
    const over = this.#over;
    if (over !== undefined) queueMicrotask(() => handler.closed(over.code, over.reason));
  }

  close(code: number, reason: string): void {
    if (this.#over !== undefined) return;
    this.closes.push({ code, reason });
    setImmediate(() => {
      this.#drainNow();
      this.peer.ended(code, reason);
      this.ended(code, reason);
    });
  }

  terminate(): void {
    this.#link.cut();
  }

  /** Called by the link. */
  ended(code: number, reason: string): void {
    if (this.#over !== undefined) return;
    this.#over = { code, reason };
    this.#queue = [];
    this.#handler?.closed(code, reason);
  }

  #plan(): void {
    if (this.#pumping || this.frozen || this.#queue.length === 0) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      if (this.frozen || this.#over !== undefined) return;
      this.#drainNow();
      this.#handler?.drained();
    });
  }

  #drainNow(): void {
    const limit = this.#link.options.cutAfter?.[this.name] ?? Number.POSITIVE_INFINITY;
    const queue = this.#queue;
    this.#queue = [];
    this.#queued = 0;
    for (const message of queue) {
      if (this.#over !== undefined) return;
      this.sent += message.length;
      if (this.sent > limit) {
        this.#link.cut();
        return;
      }
      this.peer.#arrive(message);
      if (this.sent === limit) {
        this.#link.cut();
        return;
      }
    }
  }

  #arrive(message: Buffer): void {
    if (this.#over !== undefined) return;
    if (this.#link.options.cutBefore?.(this.name, message) === true) {
      this.#link.cut();
      return;
    }
    this.bytesReceived += message.length;
    if (this.#handler === undefined) this.#early.push(message);
    else this.#handler.message(message);
  }
}

export class MemoryLink {
  readonly a: MemoryCarrier;
  readonly b: MemoryCarrier;
  readonly options: LinkOptions;

  constructor(options: LinkOptions = {}) {
    this.options = options;
    this.a = new MemoryCarrier(this, 'a');
    this.b = new MemoryCarrier(this, 'b');
    this.a.peer = this.b;
    this.b.peer = this.a;
  }

  /** Breaks without a word; both ends hear 1006. */
  cut(): void {
    this.a.ended(1006, 'cut');
    this.b.ended(1006, 'cut');
  }
}
