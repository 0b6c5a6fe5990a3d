/**
 * What leaves before everything else: answers to pings, pings and acknowledgements, which are not counted; then
 * class 0, which is: resets, stops, the notice of a drain, and credit for what was read.
 */
import { FLAG_PROBE, type OutFrame, outFrame, TYPE } from './frame.ts';
import { type Ack, writeAck, writeCredit, writePing } from './payload.ts';

/** Opaque value of pings that ask for a probe; keepalive counts from 1, so the answer is nobody's. */
const PROBE_OPAQUE = 0;

/** A stream that has credit to announce. */
export interface CreditHolder {
  readonly id: number;
  creditDue: number;
}

/** What the session answers when a flush asks. */
export interface UrgentIo {
  /** The acknowledgement that is due now, if any; not `asked`: something else leaves, and it may go along. */
  ack(now: number, asked: boolean): Ack | undefined;
  /** PING left. */
  pingSent(now: number): void;
}

export class Urgent {
  readonly #io: UrgentIo;
  #control: OutFrame[] = [];
  readonly #credits = new Set<CreditHolder>();
  #ping: Buffer | undefined;
  #pong: Buffer | undefined;
  #probing = false;
  #ackAsked = false;

  constructor(io: UrgentIo) {
    this.#io = io;
  }

  /** Frames of class 0 that wait for room, credit not counted. */
  get waiting(): number {
    return this.#control.length;
  }

  /** Something of class 0 waits. */
  get waits(): boolean {
    return this.#control.length > 0 || this.#credits.size > 0;
  }

  /** Leaves in the order in which it came. */
  control(frame: OutFrame): void {
    this.#control.push(frame);
  }

  credit(holder: CreditHolder): void {
    this.#credits.add(holder);
  }

  forget(holder: CreditHolder): void {
    this.#credits.delete(holder);
  }

  /** Only the newest PING and PONG wait: a peer that pings faster than it reads gets fewer answers. */
  ping(payload: Buffer): void {
    this.#ping = payload;
  }

  pong(payload: Buffer): void {
    this.#pong = payload;
  }

  probe(): void {
    this.#probing = true;
  }

  acknowledge(): void {
    this.#ackAsked = true;
  }

  /** The carrier is gone: its pings mean nothing to the next one. */
  detach(): void {
    this.#ping = undefined;
    this.#pong = undefined;
    this.#probing = false;
  }

  clear(): void {
    this.detach();
    this.#control = [];
    this.#credits.clear();
  }

  /** Gives what is not counted. `riding`: something else leaves now as well. True when there was anything. */
  takeUncounted(now: number, riding: boolean, send: (frame: OutFrame) => void): boolean {
    let sent = false;
    const say = (type: number, payload: Buffer, flags = 0): void => {
      send(outFrame(type, 0, payload, flags));
      sent = true;
    };
    if (this.#pong !== undefined) {
      say(TYPE.PONG, this.#pong);
      this.#pong = undefined;
    }
    if (this.#probing) {
      say(TYPE.PING, writePing({ opaque: PROBE_OPAQUE, sentMs: now }), FLAG_PROBE);
      this.#probing = false;
    }
    if (this.#ping !== undefined) {
      say(TYPE.PING, this.#ping);
      this.#ping = undefined;
      this.#io.pingSent(now);
    }
    const ack = this.#ackAsked || riding ? this.#io.ack(now, this.#ackAsked) : undefined;
    this.#ackAsked = false;
    if (ack !== undefined) say(TYPE.ACK, writeAck(ack));
    return sent;
  }

  /** Gives class 0 for as long as there is room. True when there was anything. */
  take(hasRoom: () => boolean, send: (frame: OutFrame) => void): boolean {
    let count = 0;
    for (const frame of this.#control) {
      if (!hasRoom()) break;
      send(frame);
      count += 1;
    }
    if (count > 0) this.#control = count === this.#control.length ? [] : this.#control.slice(count);
    let sent = count > 0;
    for (const holder of this.#credits) {
      if (!hasRoom()) break;
      this.#credits.delete(holder);
      const due = holder.creditDue;
      holder.creditDue = 0;
      send(outFrame(TYPE.CREDIT, holder.id, writeCredit(due)));
      sent = true;
    }
    return sent;
  }
}
