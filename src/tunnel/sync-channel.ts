/**
 * Layer 5's payloads on their way: cut into frames, put together again, delivered one at a time. The receiver keeps
 * memory for what it promised and promises more when the handler is done, so a slow disk slows the sender.
 */
import { Assembly } from '../base/assembly.ts';
import { STREAM, StreamError } from './codes.ts';
import { MAX_CREDIT_BYTES } from './credit.ts';
import { FLAG_FIN, HEADER_BYTES, type OutFrame, outFrame, TYPE } from './frame.ts';
import type { Source } from './outlet.ts';
import { FlowLink } from './scheduler.ts';
import type { SyncKind } from './session.ts';
import type { CreditHolder } from './urgent.ts';

/** Longest payload; a document or a batch of events fits. Longer ones are refused at the sender. */
export const MAX_SYNC_BYTES = 1024 * 1024;
/** Promised to the peer at the start: more than one largest payload, so that one can wait behind another. */
export const SYNC_CREDIT_BYTES = 2 * 1024 * 1024;
/** Credit goes back in pieces of this size; what is left over still fits a largest payload. */
const RETURN_BYTES = 256 * 1024;

interface Outgoing {
  readonly type: number;
  readonly payload: Buffer;
  offset: number;
  readonly sent: () => void;
  readonly failed: (error: unknown) => void;
}

export class SyncSender implements Source {
  readonly class = 1;
  readonly shareKey = 'sync';
  readonly link = new FlowLink();
  queuedAt = 0;
  readonly #maxFrameBytes: number;
  readonly #wake: (source: Source) => void;
  #credit: number;
  #queue: Outgoing[] = [];

  constructor(maxFrameBytes: number, credit: number, wake: (source: Source) => void) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#credit = credit;
    this.#wake = wake;
  }

  /** A frame costs its header as well, so that empty pieces are not free. */
  get ready(): boolean {
    return this.#queue.length > 0 && this.#credit > HEADER_BYTES;
  }

  /** False when the credit is more than anybody can mean. */
  addCredit(bytes: number): boolean {
    this.#credit += bytes;
    if (this.#credit > MAX_CREDIT_BYTES) return false;
    if (this.ready) this.#wake(this);
    return true;
  }

  send(kind: SyncKind, payload: Buffer, signal?: AbortSignal): Promise<void> {
    if (payload.length === 0 || payload.length > MAX_SYNC_BYTES)
      return Promise.reject(new RangeError(`a sync payload has 1 to ${MAX_SYNC_BYTES} bytes`));
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        if (item.offset > 0) return; // half sent: the peer waits for the rest
        this.#queue = this.#queue.filter((other) => other !== item);
        reject(signal?.reason as Error);
      };
      const item: Outgoing = {
        type: kind === 'sync' ? TYPE.SYNC : TYPE.SYNC_ACK,
        payload,
        offset: 0,
        sent: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
        failed: (error) => {
          signal?.removeEventListener('abort', onAbort);
          reject(error as Error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#queue.push(item);
      if (this.ready) this.#wake(this);
    });
  }

  nextFrame(done: (() => void)[]): OutFrame {
    const item = this.#queue[0] as Outgoing;
    const size = Math.min(
      this.#maxFrameBytes,
      this.#credit - HEADER_BYTES,
      item.payload.length - item.offset,
    );
    const piece = item.payload.subarray(item.offset, item.offset + size);
    item.offset += size;
    this.#credit -= size + HEADER_BYTES;
    const last = item.offset === item.payload.length;
    if (last) {
      this.#queue.shift();
      done.push(item.sent);
    }
    return outFrame(item.type, 0, piece, last ? FLAG_FIN : 0);
  }

  fail(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const item of queue) item.failed(new StreamError(STREAM.SESSION_LOST));
  }
}

export class SyncReceiver implements CreditHolder {
  readonly id = 0;
  creditDue = 0;
  readonly #deliver: (kind: SyncKind, payload: Buffer) => Promise<void>;
  readonly #returnCredit: (holder: CreditHolder) => void;
  #credit: number;
  readonly #pieces = new Assembly();
  #type = 0;
  #cost = 0;
  #queue: { kind: SyncKind; payload: Buffer; cost: number }[] = [];
  #busy = false;
  #closed = false;

  constructor(
    credit: number,
    deliver: (kind: SyncKind, payload: Buffer) => Promise<void>,
    returnCredit: (holder: CreditHolder) => void,
  ) {
    this.#credit = credit;
    this.#deliver = deliver;
    this.#returnCredit = returnCredit;
  }

  /** One frame. Returns what the peer did wrong, if anything. */
  receive(type: number, flags: number, payload: Buffer): string | undefined {
    const cost = payload.length + HEADER_BYTES;
    this.#credit -= cost;
    if (this.#credit < 0) return 'SYNC beyond its credit';
    if (payload.length === 0) return 'empty SYNC';
    if (this.#pieces.length > 0 && type !== this.#type) return 'SYNC pieces of two kinds';
    if (this.#pieces.length + payload.length > MAX_SYNC_BYTES) return 'SYNC payload too long';
    this.#type = type;
    this.#cost += cost;
    this.#pieces.add(payload);
    if ((flags & FLAG_FIN) === 0) return undefined;
    const kind = type === TYPE.SYNC ? 'sync' : 'ack';
    this.#queue.push({ kind, payload: this.#pieces.take(), cost: this.#cost });
    this.#cost = 0;
    if (!this.#busy) void this.#work();
    return undefined;
  }

  /** What waits is not delivered any more. */
  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#pieces.clear();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    for (let item = this.#queue.shift(); item !== undefined; item = this.#queue.shift()) {
      await this.#deliver(item.kind, item.payload);
      if (this.#closed) break;
      this.#credit += item.cost;
      this.#owed += item.cost;
      if (this.#owed >= RETURN_BYTES) {
        this.creditDue += this.#owed;
        this.#owed = 0;
        this.#returnCredit(this);
      }
    }
    this.#busy = false;
  }

  #owed = 0;
}
