/**
 * One stream as Node knows it: a Duplex. Written chunks wait here until the scheduler takes them; received ones
 * wait here until the application reads, and only then is their credit returned.
 *
 * Invariants: at most one write callback is pending; bytes held never exceed the window; after `destroy` or a RESET
 * nothing more is sent. A stream that ends with an error nobody listens to does not end the process.
 */
import { Duplex } from 'node:stream';
import { STREAM, StreamError, streamCodeOf } from './codes.ts';
import type { ReceiveWindow } from './credit.ts';
import { MAX_CREDIT_BYTES } from './credit.ts';
import { EMPTY, FLAG_FIN, type OutFrame, outFrame, TYPE } from './frame.ts';
import type { Source } from './outlet.ts';
import type { StreamClass } from './ports.ts';
import { FlowLink } from './scheduler.ts';

/** Written and not yet sent; a paused peer costs this much per stream here. */
const WRITE_BUFFER_BYTES = 64 * 1024;
/**
 * Taken at once while the credit covers it: sources then are not paused after every chunk, and a turn's flush is
 * several socket reads long at the other end.
 */
const EAGER_BYTES = 256 * 1024;
/** Kept in Node's own buffer; the rest waits in the inbox, where it can be packed. */
const READ_BUFFER_BYTES = 16 * 1024;
/** Chunks below this size are packed together: on sending to save frames, on waiting to free the large
 *  socket buffers that small views would keep alive. */
const PACK_BELOW_BYTES = 4 * 1024;
const PACK_BYTES = 16 * 1024;
/** A full frame in what one read of a socket brings is kept as it is. */
const MAX_KEPT_SHARE = 4;

/** What a stream needs of its session. */
export interface StreamLink {
  /** The stream may have become ready to send. */
  wake(stream: SessionStream): void;
  /** The application consumed `bytes`. */
  consumed(stream: SessionStream, bytes: number): void;
  /** Ended locally: tell the peer. `code` undefined: both directions had ended already. */
  ended(stream: SessionStream, code: number | undefined, message: string): void;
  /** FIN was sent. */
  finished(stream: SessionStream): void;
  /** Nothing received is held any more and nothing more will come. */
  released(stream: SessionStream): void;
  stop(stream: SessionStream, code: number): void;
}

export interface StreamInit {
  readonly id: number;
  readonly target: string;
  readonly class: StreamClass;
  readonly shareKey: string;
  readonly maxFrameBytes: number;
  /** Bytes that may be sent at once. */
  readonly sendCredit: number;
  readonly window: ReceiveWindow;
  readonly now: number;
}

/** Bytes of one stream or target, for metrics. */
export interface ByteCounts {
  in: number;
  out: number;
}

export class SessionStream extends Duplex implements Source {
  readonly id: number;
  readonly target: string;
  readonly class: StreamClass;
  readonly shareKey: string;
  readonly link = new FlowLink();
  readonly window: ReceiveWindow;
  readonly openedAt: number;
  counts: ByteCounts = { in: 0, out: 0 };
  /** Waiting since this monotonic time, for the queueing metric; 0 when nothing waits. */
  queuedAt = 0;
  /** Credit to announce with the next flush. */
  creditDue = 0;

  readonly #session: StreamLink;
  readonly #maxFrameBytes: number;
  #sendCredit: number;
  /** OPEN or OPEN_OK has been sent: data may follow. */
  #mayTalk = false;
  #answered = false;

  #outbox: Buffer[] = [];
  #outboxAt = 0;
  #outboxOffset = 0;
  #outboxBytes = 0;
  #written: ((error?: Error) => void) | undefined;
  #finAsked: (() => void) | undefined;
  #finSent = false;
  #stopped = false;

  #inbox: Buffer[] = [];
  #inboxAt = 0;
  #inboxBytes = 0;
  /** Room behind the last inbox chunk, when it is one of ours. */
  #tailRoom = 0;
  #wanted = false;
  #finReceived = false;
  #pushedEnd = false;
  #delivered = 0;
  #accounted = 0;

  constructor(session: StreamLink, init: StreamInit) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: READ_BUFFER_BYTES,
      writableHighWaterMark: WRITE_BUFFER_BYTES,
      decodeStrings: true,
    });
    this.#session = session;
    this.id = init.id;
    this.target = init.target;
    this.class = init.class;
    this.shareKey = init.shareKey;
    this.window = init.window;
    this.openedAt = init.now;
    this.#maxFrameBytes = init.maxFrameBytes;
    this.#sendCredit = init.sendCredit;
    // a lost stream that nobody watches is not a reason to end the process
    this.on('error', ignore);
  }

  // ---- what sockets have and http expects; time-outs belong to the users of streams

  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }

  // ---- sending

  /** The peer knows the stream: what waits may go. */
  talk(): void {
    this.#mayTalk = true;
    if (this.ready) this.#session.wake(this);
  }

  /** True once any byte or FIN was sent. */
  get hasAnswered(): boolean {
    return this.#answered;
  }

  /** Something could be sent now. */
  get ready(): boolean {
    if (!this.#mayTalk || this.#finSent || this.destroyed) return false;
    return this.#outboxBytes > 0 ? this.#sendCredit > 0 : this.#finAsked !== undefined;
  }

  get hasQueued(): boolean {
    return this.#outboxBytes > 0;
  }

  /** Waits for credit with data at hand: the peer's reader stalls. */
  get starved(): boolean {
    return this.#outboxBytes > 0 && this.#sendCredit === 0;
  }

  /** False when the credit is more than anybody can mean. */
  addCredit(bytes: number): boolean {
    this.#sendCredit += bytes;
    if (this.#sendCredit > MAX_CREDIT_BYTES) return false;
    if (this.ready) this.#session.wake(this);
    return true;
  }

  /** The next frame to send; only when `ready`. `done` collects callbacks to call after the flush. */
  nextFrame(done: (() => void)[]): OutFrame {
    const payload = this.#cutPayload(Math.min(this.#maxFrameBytes, this.#sendCredit));
    this.#answered = true;
    this.#sendCredit -= payload.length;
    this.#outboxBytes -= payload.length;
    this.counts.out += payload.length;
    if (this.#outboxBytes === 0) {
      this.#outbox = [];
      this.#outboxAt = 0;
    }
    if (this.#written !== undefined && this.#outboxBytes <= this.#eagerBytes) {
      done.push(this.#written);
      this.#written = undefined;
    }
    const fin = this.#outboxBytes === 0 && this.#finAsked !== undefined;
    if (fin) {
      this.#finSent = true;
      done.push(this.#finAsked as () => void, () => this.#session.finished(this));
      this.#finAsked = undefined;
    }
    if (payload.length === 0) return outFrame(TYPE.FIN, this.id);
    return outFrame(TYPE.DATA, this.id, payload, fin ? FLAG_FIN : 0);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error) => void): void {
    this.#queue(chunk);
    this.#sendLater(callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error) => void): void {
    for (const { chunk } of chunks) this.#queue(chunk);
    this.#sendLater(callback);
  }

  override _final(callback: () => void): void {
    if (this.#finSent || this.#stopped) {
      callback();
      return;
    }
    this.#finAsked = callback;
    if (this.ready) this.#session.wake(this);
  }

  /** STOP from the peer: what waits and what is still written goes nowhere; the end is sent at once. */
  stopSending(code: number): void {
    if (this.#stopped || this.#finSent || this.destroyed) return;
    this.#dropOutbox();
    this.emit('stop', code);
    this.end();
    this.#finAsked ??= ignore;
    if (this.ready) this.#session.wake(this);
  }

  /** The peer is gone from our direction for good: as STOP, but there is nobody to send the end to. */
  #closeSending(code: number): void {
    if (this.#finSent || this.destroyed) return;
    this.#finSent = true;
    const finished = this.#finAsked;
    this.#finAsked = undefined;
    this.#dropOutbox();
    this.emit('stop', code);
    this.end();
    finished?.();
  }

  #dropOutbox(): void {
    this.#stopped = true;
    this.#outbox = [];
    this.#outboxAt = 0;
    this.#outboxOffset = 0;
    this.#outboxBytes = 0;
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }

  /** Tells the peer that nothing more of its data is wanted; our direction goes on. */
  stopReading(code: number = STREAM.CANCELLED): void {
    if (!this.#finReceived && !this.destroyed) this.#session.stop(this, code);
  }

  #queue(chunk: Buffer): void {
    if (chunk.length === 0 || this.#stopped) return;
    this.#outbox.push(chunk);
    this.#outboxBytes += chunk.length;
  }

  #sendLater(callback: (error?: Error) => void): void {
    const eager = this.#outboxBytes <= this.#eagerBytes;
    if (!eager) this.#written = callback;
    if (this.ready) this.#session.wake(this);
    if (eager) callback();
  }

  get #eagerBytes(): number {
    return this.#mayTalk ? Math.min(EAGER_BYTES, this.#sendCredit) : 0;
  }

  /** Up to `max` bytes from the outbox: by reference when a chunk is large, else several packed into one. */
  #cutPayload(max: number): Buffer {
    if (this.#outboxBytes === 0) return EMPTY;
    const first = this.#outbox[this.#outboxAt] as Buffer;
    const left = first.length - this.#outboxOffset;
    if (left >= max || left >= PACK_BELOW_BYTES || left === this.#outboxBytes) {
      const size = Math.min(left, max);
      const payload =
        size === first.length ? first : first.subarray(this.#outboxOffset, this.#outboxOffset + size);
      this.#advance(size, left);
      return payload;
    }
    const packed = Buffer.allocUnsafe(Math.min(max, this.#outboxBytes));
    let filled = 0;
    while (filled < packed.length) {
      const chunk = this.#outbox[this.#outboxAt] as Buffer;
      const rest = chunk.length - this.#outboxOffset;
      const size = Math.min(rest, packed.length - filled);
      chunk.copy(packed, filled, this.#outboxOffset, this.#outboxOffset + size);
      this.#advance(size, rest);
      filled += size;
    }
    return packed;
  }

  #advance(size: number, left: number): void {
    if (size < left) {
      this.#outboxOffset += size;
      return;
    }
    this.#outbox[this.#outboxAt] = EMPTY;
    this.#outboxAt += 1;
    this.#outboxOffset = 0;
  }

  // ---- receiving

  /** DATA within the window. */
  receive(payload: Buffer): void {
    this.counts.in += payload.length;
    if (this.#wanted && this.#inboxBytes === 0) this.#deliver(payload);
    else this.#store(payload);
  }

  /** The peer's FIN: 'end' follows what is still held. */
  receiveEnd(): void {
    this.#finReceived = true;
    if (this.#inboxBytes === 0) this.#pushEnd();
  }

  get ended(): { readonly sent: boolean; readonly received: boolean } {
    return { sent: this.#finSent, received: this.#finReceived };
  }

  override _read(): void {
    this.#wanted = true;
    this.#account();
    while (this.#wanted && this.#inboxBytes > 0) {
      const chunk = this.#inbox[this.#inboxAt] as Buffer;
      this.#inbox[this.#inboxAt] = EMPTY;
      this.#inboxAt += 1;
      this.#inboxBytes -= chunk.length;
      if (this.#inboxBytes === 0) {
        this.#inbox = [];
        this.#inboxAt = 0;
        this.#tailRoom = 0;
      }
      this.#deliver(chunk);
    }
    if (this.#finReceived && this.#inboxBytes === 0) this.#pushEnd();
  }

  override read(size?: number): unknown {
    const chunk: unknown = super.read(size);
    this.#account();
    return chunk;
  }

  #deliver(chunk: Buffer): void {
    this.#delivered += chunk.length;
    this.#wanted = this.push(chunk);
    this.#account();
  }

  #pushEnd(): void {
    if (this.#pushedEnd) return;
    this.#pushedEnd = true;
    this.push(null);
    this.#account();
  }

  /** Consumed is what left Node's buffer as well. */
  #account(): void {
    const consumed = this.#delivered - this.readableLength;
    const bytes = consumed - this.#accounted;
    if (bytes > 0) {
      this.#accounted = consumed;
      this.#session.consumed(this, bytes);
    }
    if (this.#pushedEnd && this.readableLength === 0) this.#session.released(this);
  }

  #store(payload: Buffer): void {
    this.#inboxBytes += payload.length;
    if (payload.length >= PACK_BELOW_BYTES) {
      this.#inbox.push(kept(payload));
      this.#tailRoom = 0;
      return;
    }
    if (this.#tailRoom < payload.length) {
      // grows with what waits, so that a thousand streams with one byte each stay small
      const room = Math.min(PACK_BYTES, Math.max(2 * this.#inboxBytes, payload.length));
      this.#inbox.push(Buffer.allocUnsafeSlow(room).subarray(0, 0));
      this.#tailRoom = room;
    }
    const last = this.#inbox.length - 1;
    const tail = this.#inbox[last] as Buffer;
    const grown = Buffer.from(tail.buffer, tail.byteOffset, tail.length + payload.length);
    grown.set(payload, tail.length);
    this.#inbox[last] = grown;
    this.#tailRoom -= payload.length;
  }

  // ---- ending

  /** RESET from the peer. After its FIN it only stops our sending: what it sent before stays readable. */
  receiveReset(code: number, message: string): 'ended' | 'half' {
    if (this.#finReceived) {
      this.#closeSending(code);
      return 'half';
    }
    this.fail(new StreamError(code, message === '' ? undefined : message));
    return 'ended';
  }

  /** Ends without telling the peer: it knows, or is gone. */
  fail(error: StreamError): void {
    this.#silent = true;
    this.destroy(error);
  }

  #silent = false;

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#outbox = [];
    this.#outboxBytes = 0;
    this.#inbox = [];
    this.#inboxBytes = 0;
    const written = this.#written;
    this.#written = undefined;
    this.#finAsked = undefined;
    const over = this.#finSent && this.#finReceived;
    if (!this.#silent) {
      const code = over ? undefined : error === null ? STREAM.CANCELLED : streamCodeOf(error);
      this.#session.ended(this, code, error?.message ?? '');
    }
    this.#session.released(this);
    callback(error);
    written?.(error ?? new StreamError(STREAM.CANCELLED, 'stream destroyed'));
  }
}

/** A view that waits keeps all of its buffer: one of a buffer many times its size is copied. */
function kept(payload: Buffer): Buffer {
  if (payload.buffer.byteLength <= MAX_KEPT_SHARE * payload.length) return payload;
  const copy = Buffer.allocUnsafeSlow(payload.length);
  copy.set(payload);
  return copy;
}

function ignore(): void {}
