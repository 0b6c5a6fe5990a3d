/**
 * Decides whether the peer is alive. Silence counts only while our own event loop runs on time; bytes of an
 * unfinished message are life; but bytes without any PONG are not, since a proxy can produce bytes.
 */
import type { Beat } from './heartbeat.ts';
import { BEAT_MS } from './heartbeat.ts';
import { readPong, writePing } from './payload.ts';

export const PING_EVERY_MS = 15_000;
/** Share of PING_EVERY_MS by which each ping may come earlier or later. */
const PING_JITTER = 0.1;
/** Nothing at all arrived for this long. */
export const SILENCE_MS = 35_000;
/** Bytes arrive, but no answer to our pings: our direction is broken or somebody else talks to us. */
export const UNANSWERED_MS = 60_000;
/** After the machine slept: the peer has this long to show any life. */
export const SUSPEND_DEADLINE_MS = 5_000;

/** More pings than UNANSWERED_MS has room for. */
const MAX_OUTSTANDING = 16;

export interface KeepaliveIo {
  /** Sends a PING with this payload as soon as the carrier takes it. */
  ping(payload: Buffer): void;
  /** Bytes that the carrier has received so far. */
  bytesReceived(): number;
  /** The peer is believed dead. Called once; the owner stops the keepalive. */
  dead(reason: string): void;
}

export class Keepalive {
  readonly #io: KeepaliveIo;
  readonly #random: () => number;
  #silentMs = 0;
  #unansweredMs = 0;
  #seenBytes: number;
  #nextPing: number;
  #opaque = 0;
  /** Opaque value of each ping that was not answered -> when it left. On a slow path several are under way. */
  readonly #outstanding = new Map<number, number>();
  /** What is left of the time in which the peer must show life after the machine slept, milliseconds. */
  #graceMs: number | undefined;

  constructor(io: KeepaliveIo, now: number, random: () => number = Math.random) {
    this.#io = io;
    this.#random = random;
    this.#seenBytes = io.bytesReceived();
    this.#nextPing = now; // the first round trip is worth knowing at once
  }

  /** Once a second. */
  beat(beat: Beat): void {
    const { now } = beat;
    const bytes = this.#io.bytesReceived();
    // a late beat counts as one on time: what arrived meanwhile has not been read yet
    const passed = BEAT_MS;
    if (bytes === this.#seenBytes) this.#silentMs += passed;
    else {
      this.#seenBytes = bytes;
      this.#silentMs = 0;
      this.#graceMs = undefined;
    }
    if (this.#graceMs !== undefined) this.#graceMs -= passed;
    if (this.#outstanding.size > 0) this.#unansweredMs += passed;
    if (beat.suspended) {
      this.#graceMs = SUSPEND_DEADLINE_MS;
      this.#ping(now);
      return;
    }
    if (this.#graceMs !== undefined && this.#graceMs <= 0) {
      this.#io.dead('no answer after the machine slept');
    } else if (this.#silentMs >= SILENCE_MS) {
      this.#io.dead(`nothing received for ${SILENCE_MS / 1000} s`);
    } else if (this.#unansweredMs >= UNANSWERED_MS) {
      this.#io.dead(`no PONG for ${UNANSWERED_MS / 1000} s`);
    } else if (now >= this.#nextPing) this.#ping(now);
  }

  /** A PONG's payload. Returns the round trip in milliseconds, undefined when it answers no ping of ours. */
  pong(payload: Buffer, now: number): { rttMs: number; sentAt: number; lagMs: number } | undefined {
    const pong = readPong(payload);
    const sentAt = pong && this.#outstanding.get(pong.opaque);
    if (pong === undefined || sentAt === undefined) return undefined;
    // those before it were passed over: only the newest of pings that wait is sent or answered
    for (const opaque of this.#outstanding.keys())
      if (opaque <= pong.opaque) this.#outstanding.delete(opaque);
    this.#unansweredMs = 0;
    this.#graceMs = undefined;
    return { rttMs: now - sentAt, sentAt, lagMs: pong.lagMs };
  }

  /** The PING that was asked for has left: its round trip begins now, not while it waited. */
  pingSent(now: number): void {
    if (this.#outstanding.has(this.#opaque)) this.#outstanding.set(this.#opaque, now);
  }

  #ping(now: number): void {
    this.#nextPing = now + PING_EVERY_MS * (1 + PING_JITTER * (2 * this.#random() - 1));
    this.#opaque += 1;
    this.#outstanding.set(this.#opaque, now);
    // a slept-through night of pings is no reason to keep them
    if (this.#outstanding.size > MAX_OUTSTANDING) this.#outstanding.delete(this.#opaque - MAX_OUTSTANDING);
    this.#io.ping(writePing({ opaque: this.#opaque, sentMs: now }));
  }
}
