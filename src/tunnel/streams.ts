/**
 * All streams of a session: opening and answering, the limits on both, and what each frame of a stream does in
 * each state. Late frames for streams that have ended are normal (both ends act at once) and cost the peer only
 * patience; frames for streams that never were are protocol errors.
 */
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { AbuseGuard, TINY_CREDIT_BYTES } from './abuse.ts';
import { CLOSE, STREAM, StreamError, streamCodeOf } from './codes.ts';
import { CommandQueue } from './command-queue.ts';
import { type ReceiveBudget, ReceiveWindow } from './credit.ts';
import { FLAG_FIN, outFrame, TYPE } from './frame.ts';
import { join } from './join.ts';
import { type OpenResult, type TargetKind, type TunnelMetrics, targetKind } from './metrics.ts';
import type { Backlog } from './outbox.ts';
import type { Outlet } from './outlet.ts';
import {
  type OpenRequest,
  readCredit,
  readOpen,
  readReason,
  writeCredit,
  writeOpen,
  writeReason,
} from './payload.ts';
import type { OpenOptions, StreamClass, TargetHandler } from './ports.ts';
import type { Role, SessionSettings } from './session.ts';
import { SessionStream, type StreamLink } from './stream.ts';

/** Opens that wait for their target, per direction; more are BUSY. */
const MAX_UNANSWERED = 256;
/**
 * Answers to the peer's opens, and resets, that wait because it acknowledges nothing. Far more than an honest peer
 * can have asked for before it is believed dead.
 */
const MAX_WAITING_ANSWERS = 4096;
/** A target that does not answer within this time is CONN_TIMEOUT. */
export const DIAL_DEADLINE_MS = 10_000;
/** The opener waits longer than the dial, so that it hears the reason; long enough for a reconnect, short enough for a person. */
export const OPEN_DEADLINE_MS = 15_000;
const LAST_STREAM_ID = 0xffff_ffff;
const DEFAULT_CLASS: StreamClass = 2;

interface PendingOpen {
  readonly stream: SessionStream;
  readonly since: number;
  settle(result: OpenResult, error: StreamError | undefined): void;
}

export interface StreamsInit {
  readonly role: Role;
  readonly clock: Clock;
  readonly local: SessionSettings;
  readonly peer: SessionSettings;
  readonly budget: ReceiveBudget;
  readonly outlet: Outlet;
  readonly target: TargetHandler;
  readonly metrics: TunnelMetrics | undefined;
  readonly firstStreamId?: number;
  /** The peer broke the protocol: the session ends. */
  readonly violated: (closeCode: number, message: string) => void;
  /** All our stream ids are used: the session must be replaced. */
  readonly exhausted: () => void;
  /** The last stream is gone. */
  readonly idle: () => void;
}

export class Streams implements StreamLink {
  readonly #init: StreamsInit;
  readonly #guard = new AbuseGuard();
  readonly #commands = new CommandQueue();
  readonly #streams = new Map<number, SessionStream>();
  readonly #opening = new Map<number, PendingOpen>();
  readonly #dialling = new Map<number, AbortController>();
  /** Data of these is still held here, although the stream itself may be over. */
  readonly #holding = new Set<SessionStream>();
  readonly #backlog: Backlog = { bytes: 0 };
  readonly #monotonic = (): number => this.#init.clock.monotonic();
  #nextId: number;
  #lastPeerId = 0;
  #violations = 0;
  #draining = false;

  constructor(init: StreamsInit) {
    this.#init = init;
    this.#nextId = init.firstStreamId ?? (init.role === 'gateway' ? 1 : 2);
  }

  get size(): number {
    return this.#streams.size;
  }

  get lastPeerId(): number {
    return this.#lastPeerId;
  }

  get stalled(): number {
    let count = 0;
    for (const stream of this.#streams.values()) if (stream.starved) count += 1;
    return count;
  }

  byTarget(): Map<TargetKind, number> {
    const counts = new Map<TargetKind, number>();
    for (const stream of this.#streams.values()) {
      const kind = targetKind(stream.target);
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    return counts;
  }

  /** From now on opens of both sides are answered DRAINING. */
  startDraining(): void {
    this.#draining = true;
  }

  /** The peer sent DRAIN: it would refuse opens, so we do not send them. */
  peerDrains(): void {
    this.#draining = true;
  }

  /** A frame without progress came. */
  countIdleFrame(now: number): void {
    if (this.#guard.idleFrame(now)) this.#init.violated(CLOSE.TOO_MANY, 'too many control frames');
  }

  // ---- opening from here

  open(options: OpenOptions, signal: AbortSignal | undefined): Promise<SessionStream> {
    const { clock, local, peer, metrics } = this.#init;
    const refuse = (code: number, why: string): Promise<never> => Promise.reject(new StreamError(code, why));
    if (signal?.aborted)
      return Promise.reject(new StreamError(STREAM.CANCELLED, 'open cancelled', { cause: signal.reason }));
    if (this.#draining) return refuse(STREAM.DRAINING, 'the session is draining');
    if (
      this.#streams.size >= Math.min(local.maxStreams, peer.maxStreams) ||
      this.#opening.size >= MAX_UNANSWERED
    )
      return refuse(STREAM.BUSY, 'too many streams on this session');
    if (this.#nextId > LAST_STREAM_ID) {
      this.#init.exhausted();
      return refuse(STREAM.SESSION_LOST, 'stream ids are used up');
    }
    const id = this.#nextId;
    this.#nextId += 2;
    const cls = options.class ?? DEFAULT_CLASS;
    const stream = this.#make(id, options.target, cls, options.shareKey, peer.openCredit);
    const credit = local.openCredit + stream.window.widen(clock.monotonic());
    const frame = outFrame(TYPE.OPEN, id, writeOpen({ ...options, class: cls, credit }));
    if (frame.payload.length > peer.maxFrameBytes) {
      stream.fail(new StreamError(STREAM.INTERNAL, 'the OPEN does not fit a frame'));
      this.#streams.delete(id);
      return refuse(STREAM.INTERNAL, 'the OPEN does not fit a frame');
    }
    const since = clock.monotonic();
    const takeBack = this.#commands.add(frame, () => stream.talk());
    this.#init.outlet.activate(this.#commands);
    return new Promise((resolve, reject) => {
      const settle = (result: OpenResult, error: StreamError | undefined): void => {
        timer[Symbol.dispose]();
        signal?.removeEventListener('abort', onAbort);
        this.#opening.delete(id);
        metrics?.opened(result, clock.monotonic() - since);
        if (error === undefined) resolve(stream);
        else reject(error);
      };
      const giveUp = (result: OpenResult, error: StreamError): void => {
        settle(result, error);
        // an OPEN that never left needs no RESET
        if (takeBack()) this.#remove(stream);
        else this.#reset(id, error.streamCode, '');
        this.#remove(stream);
        stream.fail(error);
      };
      const onAbort = (): void =>
        giveUp('cancelled', new StreamError(STREAM.CANCELLED, 'open cancelled', { cause: signal?.reason }));
      const timer = clock.timer(options.deadlineMs ?? OPEN_DEADLINE_MS, () =>
        giveUp('timeout', new StreamError(STREAM.DEADLINE, 'the peer did not answer in time')),
      );
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#opening.set(id, { stream, since, settle });
    });
  }

  #make(
    id: number,
    target: string,
    cls: StreamClass,
    shareKey: string | undefined,
    sendCredit: number,
  ): SessionStream {
    const { budget, local, peer, clock, metrics } = this.#init;
    const stream = new SessionStream(this, {
      id,
      target,
      class: cls,
      shareKey: shareKey ?? target,
      maxFrameBytes: peer.maxFrameBytes,
      sendCredit,
      window: new ReceiveWindow(budget, local.openCredit, cls),
      backlog: this.#backlog,
      now: clock.monotonic(),
    });
    if (metrics !== undefined) stream.counts = metrics.bytesOf(targetKind(target));
    this.#streams.set(id, stream);
    this.#holding.add(stream);
    return stream;
  }

  // ---- opening from there

  onOpen(id: number, payload: Buffer): void {
    const { role, peer, local, violated } = this.#init;
    const parity = role === 'gateway' ? 0 : 1;
    if (id === 0 || id % 2 !== parity) return violated(CLOSE.PROTOCOL, 'OPEN with an id of the wrong side');
    if (id <= this.#lastPeerId) return violated(CLOSE.PROTOCOL, 'OPEN with an id that was used before');
    this.#lastPeerId = id;
    if (this.#commands.size + this.#init.outlet.controlWaiting > MAX_WAITING_ANSWERS)
      return violated(CLOSE.TOO_MANY, 'opens without end, and their answers are not taken');
    const request = readOpen(payload);
    if (request === undefined) return this.#refuse(id, STREAM.PROTOCOL, 'unreadable OPEN');
    if (this.#draining) return this.#refuse(id, STREAM.DRAINING, 'draining');
    if (
      this.#streams.size >= Math.min(local.maxStreams, peer.maxStreams) ||
      this.#dialling.size >= MAX_UNANSWERED
    )
      return this.#refuse(id, STREAM.BUSY, 'too many streams');
    const stream = this.#make(id, request.target, request.class, request.shareKey, request.credit);
    this.#dial(stream, request);
  }

  #dial(stream: SessionStream, request: OpenRequest): void {
    const { clock, target, metrics } = this.#init;
    const { credit: _credit, ...open } = request;
    const controller = new AbortController();
    const since = clock.monotonic();
    this.#dialling.set(stream.id, controller);
    let settled = false;
    const settle = (result: OpenResult): void => {
      settled = true;
      deadline[Symbol.dispose]();
      this.#dialling.delete(stream.id);
      metrics?.opened(result, clock.monotonic() - since);
    };
    const refuse = (error: unknown): void => {
      const code = streamCodeOf(error);
      settle(code === STREAM.DENIED ? 'denied' : code === STREAM.CONN_TIMEOUT ? 'timeout' : 'refused');
      if (code === STREAM.DENIED) metrics?.denied();
      if (!this.#streams.has(stream.id)) return; // reset meanwhile: nobody waits for the answer
      const message = error instanceof StreamError ? error.message : '';
      this.#remove(stream);
      stream.fail(new StreamError(code, message));
      this.#refuse(stream.id, code, message);
    };
    const limitMs = Math.min(DIAL_DEADLINE_MS, request.deadlineMs ?? DIAL_DEADLINE_MS);
    const deadline = clock.timer(limitMs, () => {
      // answer now, even if the handler does not listen to its signal
      const error = new StreamError(STREAM.CONN_TIMEOUT, 'the target did not answer in time');
      refuse(error);
      controller.abort(error);
    });
    const answered = (end: Duplex | ((stream: SessionStream) => void)): void => {
      if (settled || stream.destroyed) {
        if (!settled) settle('cancelled');
        if (typeof end !== 'function') end.on('error', ignore).destroy();
        return;
      }
      settle('ok');
      const credit = stream.window.widen(clock.monotonic());
      this.#commands.add(outFrame(TYPE.OPEN_OK, stream.id, writeCredit(credit)), () => stream.talk());
      this.#init.outlet.activate(this.#commands);
      if (typeof end === 'function') end(stream);
      else join(stream, end);
    };
    // a handler may throw before it returns a promise
    Promise.resolve()
      .then(() => target(open, controller.signal))
      .then(answered)
      .catch((error: unknown) => {
        if (!settled) refuse(controller.signal.aborted ? controller.signal.reason : error);
      });
  }

  #refuse(id: number, code: number, message: string): void {
    this.#commands.add(outFrame(TYPE.OPEN_ERR, id, writeReason(code, message)), ignore);
    this.#init.outlet.activate(this.#commands);
  }

  // ---- frames of the peer

  /** Every frame with a stream id but OPEN. */
  onFrame(type: number, flags: number, id: number, payload: Buffer, now: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      if (id > this.#highest(id))
        return this.#init.violated(CLOSE.PROTOCOL, 'frame for a stream never opened');
      if (type !== TYPE.DATA || payload.length === 0) this.countIdleFrame(now);
      return;
    }
    switch (type) {
      case TYPE.DATA:
        return this.#onData(stream, flags, payload, now);
      case TYPE.CREDIT:
        return this.#onCredit(stream, payload, now);
      case TYPE.FIN:
        if (stream.ended.received) this.countIdleFrame(now);
        else this.#onFin(stream);
        return;
      case TYPE.OPEN_OK:
        return this.#onOpenOk(stream, payload);
      case TYPE.OPEN_ERR:
      case TYPE.RESET:
        return this.#onEnd(type, stream, payload, now);
      case TYPE.STOP: {
        const reason = readReason(payload);
        if (reason === undefined) return this.#init.violated(CLOSE.PROTOCOL, 'unreadable STOP');
        this.countIdleFrame(now);
        return stream.stopSending(reason.code);
      }
      default:
        return this.#init.violated(CLOSE.PROTOCOL, 'unexpected frame type on a stream');
    }
  }

  #highest(id: number): number {
    const ours = id % 2 === (this.#init.role === 'gateway' ? 1 : 0);
    return ours ? this.#nextId - 2 : this.#lastPeerId;
  }

  #onData(stream: SessionStream, flags: number, payload: Buffer, now: number): void {
    const fin = (flags & FLAG_FIN) !== 0;
    if (stream.ended.received) {
      this.countIdleFrame(now);
      return this.#abort(stream, STREAM.PROTOCOL, 'data after the end');
    }
    if (payload.length === 0 && !fin) return this.countIdleFrame(now);
    if (!stream.window.receive(payload.length)) {
      this.#violations += 1;
      if (this.#violations > 1) return this.#init.violated(CLOSE.PROTOCOL, 'flow control ignored');
      return this.#abort(stream, STREAM.FLOW_CONTROL, 'more data than credit');
    }
    if (payload.length > 0) stream.receive(payload);
    if (fin && !stream.destroyed) this.#onFin(stream);
  }

  #onFin(stream: SessionStream): void {
    stream.receiveEnd();
    if (stream.ended.sent) this.#remove(stream);
  }

  #onCredit(stream: SessionStream, payload: Buffer, now: number): void {
    const bytes = readCredit(payload);
    if (bytes === undefined) return this.#init.violated(CLOSE.PROTOCOL, 'unreadable CREDIT');
    if (bytes < TINY_CREDIT_BYTES) this.countIdleFrame(now);
    if (!stream.addCredit(bytes)) this.#init.violated(CLOSE.PROTOCOL, 'credit overflow');
  }

  #onOpenOk(stream: SessionStream, payload: Buffer): void {
    const credit = readCredit(payload);
    const pending = this.#opening.get(stream.id);
    if (credit === undefined || pending === undefined)
      return this.#init.violated(CLOSE.PROTOCOL, 'OPEN_OK for what was not asked');
    if (!stream.addCredit(credit)) return this.#init.violated(CLOSE.PROTOCOL, 'credit overflow');
    pending.settle('ok', undefined);
  }

  #onEnd(type: number, stream: SessionStream, payload: Buffer, now: number): void {
    const reason = readReason(payload);
    const pending = this.#opening.get(stream.id);
    if (reason === undefined || (type === TYPE.OPEN_ERR && pending === undefined))
      return this.#init.violated(CLOSE.PROTOCOL, 'an end that cannot be');
    const byPeer = stream.id % 2 === (this.#init.role === 'gateway' ? 0 : 1);
    if (type === TYPE.RESET && byPeer && !stream.hasAnswered && this.#guard.rapidReset(stream.openedAt, now))
      return this.#init.violated(CLOSE.TOO_MANY, 'streams are opened and reset too fast');
    this.countIdleFrame(now);
    this.#dialling.get(stream.id)?.abort(new StreamError(reason.code));
    if (pending !== undefined) {
      const error = new StreamError(reason.code, reason.message === '' ? undefined : reason.message);
      pending.settle(reason.code === STREAM.BUSY ? 'busy' : 'refused', error);
    }
    // after a FIN the peer's RESET only stops our half; what it sent before stays readable
    this.#remove(stream);
    stream.receiveReset(reason.code, reason.message);
  }

  // ---- StreamLink: what streams tell

  wake(stream: SessionStream): void {
    this.#init.outlet.activate(stream);
  }

  consumed(stream: SessionStream, bytes: number): void {
    const { outlet } = this.#init;
    const due = stream.window.consume(bytes, this.#monotonic, outlet.governor.rttMs ?? 0);
    if (due === 0 || stream.ended.received || !this.#streams.has(stream.id)) return;
    stream.creditDue += due;
    outlet.credit(stream);
  }

  finished(stream: SessionStream): void {
    if (stream.ended.received) this.#remove(stream);
  }

  released(stream: SessionStream): void {
    if (!this.#holding.delete(stream)) return;
    stream.window.release();
  }

  stop(stream: SessionStream, code: number): void {
    if (this.#streams.has(stream.id))
      this.#init.outlet.control(outFrame(TYPE.STOP, stream.id, writeReason(code)));
  }

  ended(stream: SessionStream, code: number | undefined, message: string): void {
    if (!this.#streams.has(stream.id)) return;
    this.#dialling.get(stream.id)?.abort(new StreamError(STREAM.CANCELLED));
    if (code !== undefined) this.#reset(stream.id, code, message);
    this.#remove(stream);
  }

  // ---- ending

  /** The session is over. */
  closeAll(code: number, message: string): void {
    this.#draining = true;
    const error = (): StreamError => new StreamError(code, message);
    this.#commands.clear();
    for (const pending of this.#opening.values()) pending.settle('lost', error());
    for (const controller of this.#dialling.values()) controller.abort(error());
    for (const stream of this.#streams.values()) {
      this.#remove(stream);
      stream.fail(error());
    }
  }

  #abort(stream: SessionStream, code: number, message: string): void {
    this.#reset(stream.id, code, message);
    this.#remove(stream);
    stream.fail(new StreamError(code, message));
  }

  #reset(id: number, code: number, message: string): void {
    this.#init.outlet.control(outFrame(TYPE.RESET, id, writeReason(code, message)));
  }

  #remove(stream: SessionStream): void {
    this.#init.outlet.forget(stream);
    if (this.#streams.delete(stream.id) && this.#streams.size === 0) this.#init.idle();
  }
}

function ignore(): void {}
