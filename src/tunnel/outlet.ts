/**
 * The sending half of a session: decides what leaves next and how much may be under way. Everything written during
 * one turn of the event loop leaves in one flush at its end.
 *
 * Order: acknowledgements and pings, what a new carrier must replay, class 0, then the scheduler. Sequence numbers
 * are given at the moment a frame leaves, so the order on the wire is the order of the count.
 */
import type { Clock } from '../base/clock.ts';
import type { Carrier } from './carrier.ts';
import { frameBytes, type OutFrame } from './frame.ts';
import { type Departure, EXEMPT_BYTES, Governor } from './governor.ts';
import { Packer } from './pack.ts';
import type { Ack } from './payload.ts';
import { ReplayBuffer } from './replay.ts';
import { type Flow, Scheduler } from './scheduler.ts';
import type { TunnelMetrics } from './metrics.ts';
import { type CreditHolder, Urgent, type UrgentIo } from './urgent.ts';

/** Bulk waits while the carrier holds more than this: the rest would queue where priorities do not reach. */
const BULK_BUFFERED_BYTES = 64 * 1024;
/** Classes 1 and 2, and replay, wait above this. */
const URGENT_BUFFERED_BYTES = 256 * 1024;
/** Class 0 waits above this: only a peer that does not read gets us here. */
const CONTROL_BUFFERED_BYTES = 1024 * 1024;
/**
 * Passes per flush while the kernel takes everything at once; then other sockets get their turn. Each may take twice
 * what the one before did: fewer and longer writes to a path that takes them, and no queue in front of one that does not.
 */
const PASSES = 3;

/** Something that the scheduler can choose. */
export interface Source extends Flow {
  readonly ready: boolean;
  /** Monotonic time since which it waits, 0 when unknown. */
  queuedAt: number;
  /** The next frame; only when `ready`. Callbacks put into `done` run after the flush. */
  nextFrame(done: (() => void)[]): OutFrame;
}

/** What the session answers when a flush asks. */
export interface OutletIo extends UrgentIo {
  /** Wire bytes of reliable frames, so far. */
  receivedBytes(): number;
  /** A flush threw half-way: what it sent and what it only took nobody knows. */
  broke(error: unknown): void;
}

export class Outlet {
  readonly governor = new Governor(
    () => this.#probe(),
    () => this.#io.receivedBytes(),
  );
  readonly replay: ReplayBuffer;
  readonly #clock: Clock;
  readonly #io: OutletIo;
  readonly #metrics: TunnelMetrics | undefined;
  readonly #scheduler = new Scheduler();
  readonly #packer = new Packer();
  readonly #urgent: Urgent;
  #carrier: Carrier | undefined;
  #scheduled = false;
  /** When the turn began that the next flush ends. */
  #turnAt = 0;
  #flushing = false;
  /** Next sequence to send on this carrier; below `replay.next` while replaying. */
  #cursor: number;
  #done: (() => void)[] = [];
  #failed: (error: unknown) => void;

  /** `failed` hears exceptions of user callbacks, which must not end a flush. */
  constructor(init: {
    clock: Clock;
    io: OutletIo;
    firstSequence: number;
    metrics: TunnelMetrics | undefined;
    failed: (error: unknown) => void;
  }) {
    this.#clock = init.clock;
    this.#io = init.io;
    this.#metrics = init.metrics;
    this.#failed = init.failed;
    this.#urgent = new Urgent(init.io);
    this.replay = new ReplayBuffer(init.firstSequence);
    this.#cursor = init.firstSequence;
  }

  /** Sends from here on: first whatever the peer has not acknowledged. */
  attach(carrier: Carrier): void {
    this.#carrier = carrier;
    this.#cursor = this.replay.base;
    this.#packer.reset();
    this.governor.reset(this.#clock.monotonic());
    this.schedule();
  }

  detach(): void {
    this.#carrier = undefined;
    this.#urgent.detach();
    this.#packer.reset();
  }

  /** Over for good: frees everything that waits. */
  clear(): void {
    this.detach();
    this.replay.clear();
    this.#cursor = this.replay.next;
    this.#urgent.clear();
    this.#done = [];
  }

  /** Class 0: leaves before everything else, in order. */
  control(frame: OutFrame): void {
    this.#urgent.control(frame);
    this.schedule();
  }

  /** Frames of class 0 that wait for room. */
  get controlWaiting(): number {
    return this.#urgent.waiting;
  }

  credit(holder: CreditHolder): void {
    this.#urgent.credit(holder);
    this.schedule();
  }

  forget(source: Source & CreditHolder): void {
    this.#scheduler.deactivate(source);
    this.#urgent.forget(source);
  }

  activate(source: Source): void {
    // one look at the clock is enough for all that a turn brings
    if (!this.#scheduled) this.#turnAt = this.#clock.monotonic();
    if (source.queuedAt === 0) source.queuedAt = this.#turnAt;
    this.#scheduler.activate(source, this.#turnAt);
    this.schedule();
  }

  deactivate(source: Source): void {
    this.#scheduler.deactivate(source);
  }

  ping(payload: Buffer): void {
    this.#urgent.ping(payload);
    this.schedule();
  }

  pong(payload: Buffer): void {
    this.#urgent.pong(payload);
    this.schedule();
  }

  #probe(): void {
    this.#urgent.probe();
    this.schedule();
  }

  acknowledge(): void {
    this.#urgent.acknowledge();
    this.schedule();
  }

  schedule(): void {
    if (this.#scheduled || this.#carrier === undefined) return;
    this.#scheduled = true;
    setImmediate(this.#onTurn);
  }

  readonly #onTurn = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  /** Sends what may leave now. Called at the end of a turn and when the carrier has drained. */
  flush(): void {
    if (this.#flushing) {
      this.schedule();
      return;
    }
    this.#flushing = true;
    try {
      for (let pass = 0; pass < PASSES; pass += 1) {
        const carrier = this.#carrier;
        if (carrier === undefined) return;
        carrier.cork();
        const sent = this.#fill(carrier, BULK_BUFFERED_BYTES << pass);
        this.#packer.flush(carrier);
        carrier.uncork();
        this.#runDone();
        if (!sent || !this.#waits) return;
        if (this.#carrier?.bufferedAmount !== 0) return; // `drained` goes on
      }
      this.schedule();
    } catch (error) {
      this.#io.broke(error);
    } finally {
      this.#flushing = false;
    }
  }

  #runDone(): void {
    if (this.#done.length === 0) return;
    const done = this.#done;
    this.#done = [];
    for (const callback of done) {
      try {
        callback();
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  /** One pass. True when anything was sent. */
  #fill(carrier: Carrier, bulkBytes: number): boolean {
    const now = this.#clock.monotonic();
    let sent = this.#urgent.takeUncounted(now, this.#waits, (frame) => this.#packer.add(carrier, frame, 0));
    while (this.#cursor < this.replay.next) {
      if (this.#buffered(carrier) > URGENT_BUFFERED_BYTES) return sent;
      const frame = this.replay.at(this.#cursor);
      frame.left = undefined; // an acknowledgement may mean the first copy: no sample
      this.#packer.add(carrier, frame, this.#cursor);
      this.#cursor += 1;
      sent = true;
    }
    if (this.replay.bytes === 0) this.governor.restarted(now);
    const left: Departure = { sentAt: now, delivered: this.governor.delivered };
    const hardCap = this.governor.capBytes + EXEMPT_BYTES;
    if (this.#urgent.waits) {
      const hasRoom = (): boolean =>
        this.replay.bytes < hardCap && this.#buffered(carrier) <= CONTROL_BUFFERED_BYTES;
      sent = this.#urgent.take(hasRoom, (frame) => this.#emit(carrier, frame, left)) || sent;
    }
    sent = this.#scheduledFrames(carrier, left, bulkBytes) || sent;
    this.#metrics?.flushed();
    return sent;
  }

  #scheduledFrames(carrier: Carrier, left: Departure, bulkBytes: number): boolean {
    const now = left.sentAt;
    const scheduler = this.#scheduler;
    const cap = this.governor.capBytes;
    let sent = false;
    for (;;) {
      const buffered = this.#buffered(carrier);
      if (buffered > URGENT_BUFFERED_BYTES) return sent;
      const inFlight = this.replay.bytes;
      if (inFlight >= cap && scheduler.waiting !== 'none') {
        this.governor.limited();
        if (inFlight >= cap + EXEMPT_BYTES) return sent;
      }
      const source = scheduler.pick(inFlight >= cap ? 1 : buffered > bulkBytes ? 2 : 3) as Source | undefined;
      if (source === undefined) {
        if (scheduler.waiting === 'none') this.governor.satisfied(inFlight);
        return sent;
      }
      if (!source.ready) {
        // what it had was taken back
        source.queuedAt = 0;
        scheduler.deactivate(source);
        continue;
      }
      const frame = source.nextFrame(this.#done);
      if (source.queuedAt > 0) {
        this.#metrics?.queued(source.class, now - source.queuedAt);
        source.queuedAt = 0;
      }
      this.#emit(carrier, frame, left);
      scheduler.sent(source, frameBytes(frame), now);
      // its next frame waits from now on
      if (source.ready) source.queuedAt = now;
      else scheduler.deactivate(source);
      sent = true;
    }
  }

  get #waits(): boolean {
    return this.#urgent.waits || this.#scheduler.waiting !== 'none' || this.#cursor < this.replay.next;
  }

  #emit(carrier: Carrier, frame: OutFrame, left: Departure): void {
    frame.left = left;
    this.#packer.add(carrier, frame, this.#cursor);
    this.replay.push(frame);
    this.#cursor += 1;
  }

  #buffered(carrier: Carrier): number {
    return carrier.bufferedAmount + this.#packer.pending;
  }

  /** Once a second: gives back what an idle session does not need. */
  rest(): void {
    this.#packer.rest();
  }

  /** Sends one unreliable last frame at once, behind whatever was given to the carrier before. */
  farewell(frame: OutFrame): void {
    const carrier = this.#carrier;
    if (carrier === undefined) return;
    this.#packer.add(carrier, frame, 0);
    this.#packer.flush(carrier);
  }

  /** The peer acknowledged. False when its claim cannot be true. */
  acknowledged(ack: Ack, now: number): boolean {
    const result = this.replay.acknowledge(ack.sequence);
    if (result === undefined) return false;
    const { bytes, newest } = result;
    if (newest === undefined) return true;
    const { left } = newest;
    const sample = left && { ...left, rttMs: now - left.sentAt - ack.delayUs / 1000 };
    this.governor.acknowledged(bytes, sample, now);
    this.schedule();
    return true;
  }

  /** What the peer has when a carrier is attached. False when its claim cannot be true. */
  resumeFrom(sequence: number): boolean {
    return this.replay.acknowledge(sequence) !== undefined;
  }
}
