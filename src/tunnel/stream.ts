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
import { FLAG_FIN, type OutFrame, outFrame, TYPE } from './frame.ts';
import { Inbox } from './inbox.ts';
import { type Backlog, Outbox } from './outbox.ts';
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
/**
 * All streams of a session together take this much so, and each at least its part: the longer the buffers of sockets
 * wait here, the more of them grow old, and collecting old ones costs more than all the rest of sending.
 */
const EAGER_ALL_BYTES = 512 * 1024;
const EAGER_LEAST_BYTES = 32 * 1024;
/** Kept in Node's own buffer; the rest waits in the inbox, where it can be packed. */
const READ_BUFFER_BYTES = 16 * 1024;

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
  /** Of the session. */
  readonly backlog: Backlog;
  readonly now: number;
}

/** Where a stream is poured into, see `pourInto`. */
export interface Sink {
  /** False: enough until `pull`. */
  take(chunk: Buffer): boolean;
  /** Bytes that it has not passed on: they keep their credit. */
  readonly held: number;
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

  readonly #outbox: Outbox;
  readonly #backlog: Backlog;
  #written: ((error?: Error) => void) | undefined;
  #finAsked: (() => void) | undefined;
  #finSent = false;
  #stopped = false;

  readonly #inbox = new Inbox();
  #wanted = false;
  #sink: Sink | undefined;
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
    this.#backlog = init.backlog;
    this.#outbox = new Outbox(init.backlog);
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
    return this.#outbox.bytes > 0 ? this.#sendCredit > 0 : this.#finAsked !== undefined;
  }

  get hasQueued(): boolean {
    return this.#outbox.bytes > 0;
  }

  /** Waits for credit with data at hand: the peer's reader stalls. */
  get starved(): boolean {
    return this.#outbox.bytes > 0 && this.#sendCredit === 0;
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
    const payload = this.#outbox.cut(Math.min(this.#maxFrameBytes, this.#sendCredit));
    this.#answered = true;
    this.#sendCredit -= payload.length;
    this.counts.out += payload.length;
    if (this.#written !== undefined && this.#outbox.bytes <= this.#eagerBytes) {
      done.push(this.#written);
      this.#written = undefined;
    }
    const fin = this.#outbox.bytes === 0 && this.#finAsked !== undefined;
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
    this.#outbox.clear();
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
  }

  /**
   * `write` for who joins this stream with a socket: without Node's buffer and its bookkeeping. False: enough waits,
   * `drain` follows. Not to be mixed with `write`.
   */
  send(chunk: Buffer): boolean {
    if (this.#finAsked !== undefined || this.#finSent || this.destroyed) return true;
    this.#queue(chunk);
    if (this.ready) this.#session.wake(this);
    if (this.#outbox.bytes < this.#eagerBytes + WRITE_BUFFER_BYTES) return true;
    this.#written ??= this.#tellDrain;
    return false;
  }

  readonly #tellDrain = (error?: Error): void => {
    if (error === undefined) this.emit('drain');
  };

  #sendLater(callback: (error?: Error) => void): void {
    const eager = this.#outbox.bytes <= this.#eagerBytes;
    if (!eager) this.#written = callback;
    if (this.ready) this.#session.wake(this);
    if (eager) callback();
  }

  get #eagerBytes(): number {
    if (!this.#mayTalk) return 0;
    const left = EAGER_ALL_BYTES - (this.#backlog.bytes - this.#outbox.bytes);
    return Math.min(EAGER_BYTES, this.#sendCredit, Math.max(EAGER_LEAST_BYTES, left));
  }

  // ---- receiving

  /** DATA within the window. */
  receive(payload: Buffer): void {
    this.counts.in += payload.length;
    if (this.#wanted && this.#inbox.bytes === 0) this.#deliver(payload);
    else this.#inbox.push(payload);
  }

  /** The peer's FIN: 'end' follows what is still held. */
  receiveEnd(): void {
    this.#finReceived = true;
    if (this.#inbox.bytes === 0) this.#pushEnd();
  }

  get ended(): { readonly sent: boolean; readonly received: boolean } {
    return { sent: this.#finSent, received: this.#finReceived };
  }

  /**
   * Reads for who joins this stream with a socket: `sink` gets every chunk as it comes, without Node's buffer
   * between, and calls `settle` when it has passed something on. The end is told by `end` as ever.
   */
  pourInto(sink: Sink): void {
    this.#sink = sink;
    this.resume();
    this.pull();
  }

  /** The sink holds less than before. */
  settle(): void {
    this.#account();
  }

  /** The sink wants no more for now. */
  hold(): void {
    this.#wanted = false;
  }

  /** The sink has room again. */
  pull(): void {
    this.#wanted = true;
    this.#drainInbox();
  }

  override _read(): void {
    if (this.#sink !== undefined) return;
    this.#wanted = true;
    this.#account();
    this.#drainInbox();
  }

  #drainInbox(): void {
    while (this.#wanted && this.#inbox.bytes > 0) {
      this.#deliver(this.#inbox.shift());
    }
    if (this.#finReceived && this.#inbox.bytes === 0) this.#pushEnd();
  }

  override read(size?: number): unknown {
    const chunk: unknown = super.read(size);
    this.#account();
    return chunk;
  }

  #deliver(chunk: Buffer): void {
    this.#delivered += chunk.length;
    if (this.#sink !== undefined) {
      this.#wanted = this.#sink.take(chunk);
      return;
    }
    this.#wanted = this.push(chunk);
    this.#account();
  }

  #pushEnd(): void {
    if (this.#pushedEnd) return;
    this.#pushedEnd = true;
    this.push(null);
    this.#account();
  }

  /** Consumed is what left Node's buffer, or the sink, as well. */
  #account(): void {
    const held = this.#sink?.held ?? this.readableLength;
    const consumed = this.#delivered - held;
    const bytes = consumed - this.#accounted;
    if (bytes > 0) {
      this.#accounted = consumed;
      this.#session.consumed(this, bytes);
    }
    if (this.#pushedEnd && held === 0) this.#session.released(this);
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
    this.#outbox.clear();
    this.#inbox.clear();
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

function ignore(): void {}
