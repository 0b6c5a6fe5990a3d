/**
 * How much may be in flight. Queues behind us (kernel, proxies, modems) are invisible and first come first served;
 * the only way to keep control fast behind them is not to fill them. The cap follows delivery rate x the shortest
 * round trip, both measured by acknowledgements, with a little head room so that it finds a faster path.
 */

export const START_CAP_BYTES = 256 * 1024;
export const MIN_CAP_BYTES = 64 * 1024;
export const MAX_CAP_BYTES = 8 * 1024 * 1024;
/** Classes 0 and 1 may go this far over the cap. */
export const EXEMPT_BYTES = 64 * 1024;

const HEAD_ROOM = 1.25;
/** Until the pipe is full the cap doubles per round, as the head room alone would take seconds. */
const STARTUP_HEAD_ROOM = 2;
/** Three rounds without a quarter more: the pipe is full. */
const FULL_PIPE_ROUNDS = 3;
const FULL_PIPE_GROWTH = 1.25;
/** A busy event loop answers this late; on a path shorter than that the round trip says nothing. */
const TURN_ALLOWANCE_MS = 4;
/** The shortest trip is believed for this long, then measured again with little in flight. */
const MIN_RTT_MS = 10_000;
/**
 * While measuring again, this part of the product stays in flight. Both ends do it at a time: with bulk both ways
 * the other direction's queue is part of the round trip, and two ends that each believe it feed each other's cap.
 * Below a half, what the two leave in the queues cannot add up to more than was there before.
 */
const PROBE_SHARE = 0.25;
/** A trip shorter than this part of the one before: the other end's queue is still draining. */
const DRAINING_SHARE = 0.9;
/**
 * With bulk both ways each end's acknowledgements wait in the other's queue, so the end that has more in flight takes
 * the link: the other one measures a low rate, and holds itself to it. On an even path it may have as much in flight
 * as the other end has, up to this many times its own measure.
 */
const MATCH_LIMIT = 2;
/** The path is even when the best rate that came is at most this many times the best that went. */
const EVEN_RATES = 1.5;
/** From this share of the cap on, what is in flight says something about the path even if nothing waits. */
const NEARLY_LIMITED = 0.75;
/** Rates are remembered for this many rounds. */
const RATE_ROUNDS = 10;
/** Shortest stretch over which a rate is measured: below it the clock and the event loop are measured. */
const MIN_SAMPLE_MS = 1;
/** Shortest round, for paths shorter than an event loop's turn. */
const MIN_ROUND_MS = 5;
/** Smoothed round trip: weight of a new sample. */
const SRTT_WEIGHT = 1 / 8;

/**
 * What had been delivered at a moment. Frames remember the newest one when they leave; when they are acknowledged,
 * the bytes delivered since are a rate over at least a round trip. Shorter stretches would mistake acknowledgements
 * that arrive in bursts, behind bulk of the other direction, for a fast path.
 */
export interface Delivered {
  readonly bytes: number;
  readonly at: number;
}

/** What the frames of one flush remember: when they left (monotonic milliseconds), and what had been delivered. */
export interface Departure {
  readonly sentAt: number;
  readonly delivered: Delivered;
}

type Phase =
  | { readonly kind: 'startup'; readonly bestRate: number; readonly flatRounds: number }
  | { readonly kind: 'steady' }
  /** Frames sent from `since` on see a drained queue of ours; `shortest` of their trips. */
  | { readonly kind: 'probing'; readonly since: number; readonly shortest: number };

export class Governor {
  #phase: Phase = { kind: 'startup', bestRate: 0, flatRounds: 0 };
  #cap = START_CAP_BYTES;
  #minRtt = Number.POSITIVE_INFINITY;
  #minRttAt = 0;
  #srtt: number | undefined;
  /** Best rate of each of the last rounds, bytes per millisecond, newest last. */
  readonly #rates: number[] = [0];
  #roundEnd = 0;
  #delivered: Delivered = { bytes: 0, at: 0 };
  #limited = false;
  /** What had come from the peer when the round began, and what it had in flight in the last one. */
  #received: Delivered = { bytes: 0, at: 0 };
  #peerInFlight = 0;
  /** Best rates of this carrier, bytes per millisecond. */
  #bestRate = 0;
  #bestPeerRate = 0;
  readonly #askPeer: () => void;
  readonly #receivedBytes: () => number;

  /**
   * `askPeer`: a measurement of the shortest trip begins; the peer should send little as well.
   * `receivedBytes`: all that came from the peer so far.
   */
  constructor(askPeer: () => void = () => {}, receivedBytes: () => number = () => 0) {
    this.#askPeer = askPeer;
    this.#receivedBytes = receivedBytes;
  }

  /** Reliable bytes that may be unacknowledged. */
  get capBytes(): number {
    return this.#cap;
  }

  /** Smoothed round trip, milliseconds. */
  get rttMs(): number | undefined {
    return this.#srtt;
  }

  get minRttMs(): number | undefined {
    return Number.isFinite(this.#minRtt) ? this.#minRtt : undefined;
  }

  /** Bytes per millisecond, the best of the last rounds. */
  get rate(): number {
    return Math.max(...this.#rates);
  }

  /** A new carrier is a new path. The smoothed round trip stays as a first guess for windows. */
  reset(now: number): void {
    this.#phase = { kind: 'startup', bestRate: 0, flatRounds: 0 };
    this.#cap = START_CAP_BYTES;
    this.#minRtt = Number.POSITIVE_INFINITY;
    this.#minRttAt = now;
    this.#rates.length = 1;
    this.#rates[0] = 0;
    this.#roundEnd = now;
    this.#delivered = { bytes: 0, at: now };
    this.#limited = false;
    this.#received = { bytes: this.#receivedBytes(), at: now };
    this.#peerInFlight = 0;
    this.#bestRate = 0;
    this.#bestPeerRate = 0;
  }

  /** For the frames that leave now. */
  get delivered(): Delivered {
    return this.#delivered;
  }

  /** Bulk waits because of the cap: only then does a low rate say something about the path. */
  limited(): void {
    this.#limited = true;
  }

  /**
   * Nothing waits with `inFlight` bytes under way. Streams whose windows are as large as the first cap never wait
   * for it; without this the start would go on for ever, with a queue of that size.
   */
  satisfied(inFlight: number): void {
    if (this.#phase.kind === 'startup' && inFlight >= NEARLY_LIMITED * this.#cap) this.#limited = true;
  }

  /** Nothing was in flight: a rate measured over the pause would be the application's, not the path's. */
  restarted(now: number): void {
    this.#delivered = { bytes: this.#delivered.bytes, at: now };
  }

  /**
   * `bytes` were acknowledged now. `newest`: of the newest frame among them, undefined when it says nothing
   * (replayed frames): its round trip with the peer's delay taken out, when it was sent, and what it remembers.
   */
  acknowledged(
    bytes: number,
    newest: (Departure & { readonly rttMs: number }) | undefined,
    now: number,
  ): void {
    this.#delivered = { bytes: this.#delivered.bytes + bytes, at: now };
    if (newest !== undefined) {
      this.#sampleRtt(Math.max(0, newest.rttMs), newest.sentAt, now);
      const since = newest.delivered;
      const rate = (this.#delivered.bytes - since.bytes) / Math.max(now - since.at, MIN_SAMPLE_MS);
      const last = this.#rates.length - 1;
      if (rate > (this.#rates[last] as number)) this.#rates[last] = rate;
      this.#bestRate = Math.max(rate, this.#bestRate);
    }
    if (now >= this.#roundEnd) this.#endRound(now);
    this.#setCap();
  }

  /** A PONG: a sample of the path, but not of a frame behind bulk. */
  ponged(rttMs: number, sentAt: number, now: number): void {
    this.#sampleRtt(Math.max(0, rttMs), sentAt, now);
    this.#setCap();
  }

  /** The peer measures: send little for a round trip, and measure as well. */
  peerProbes(now: number): void {
    if (this.#phase.kind !== 'steady') return;
    this.#startProbing(now + (this.#srtt ?? 0));
    this.#setCap();
  }

  #sampleRtt(rttMs: number, sentAt: number, now: number): void {
    this.#srtt = this.#srtt === undefined ? rttMs : this.#srtt + (rttMs - this.#srtt) * SRTT_WEIGHT;
    if (rttMs <= this.#minRtt) {
      this.#minRtt = rttMs;
      this.#minRttAt = now;
    }
    switch (this.#phase.kind) {
      case 'startup':
        break;
      case 'steady':
        if (now - this.#minRttAt > MIN_RTT_MS) {
          this.#startProbing(now + rttMs);
          this.#askPeer();
        }
        break;
      case 'probing':
        // our queue has drained when frames sent one trip later come back, the peer's when trips get no shorter
        if (sentAt >= this.#phase.since) {
          const { since, shortest } = this.#phase;
          if (rttMs < shortest * DRAINING_SHARE) {
            this.#phase = { kind: 'probing', since, shortest: rttMs };
            break;
          }
          this.#minRtt = Math.min(rttMs, shortest);
          this.#minRttAt = now;
          this.#phase = { kind: 'steady' };
        }
        break;
    }
  }

  #startProbing(since: number): void {
    this.#phase = { kind: 'probing', since, shortest: Number.POSITIVE_INFINITY };
  }

  #endRound(now: number): void {
    const trip = Math.max(this.#srtt ?? 0, MIN_ROUND_MS);
    this.#roundEnd = now + trip;
    this.#watchPeer(now, trip);
    const best = this.rate;
    if (this.#phase.kind === 'startup' && this.#limited) {
      const { bestRate, flatRounds } = this.#phase;
      if (best > bestRate * FULL_PIPE_GROWTH)
        this.#phase = { kind: 'startup', bestRate: best, flatRounds: 0 };
      else if (flatRounds + 1 >= FULL_PIPE_ROUNDS) this.#phase = { kind: 'steady' };
      else this.#phase = { kind: 'startup', bestRate, flatRounds: flatRounds + 1 };
    }
    // an idle application must not make a fast path look slow: only limited rounds push old rates out
    if (this.#limited) {
      this.#rates.push(0);
      if (this.#rates.length > RATE_ROUNDS) this.#rates.shift();
    }
    this.#limited = false;
  }

  #watchPeer(now: number, trip: number): void {
    const bytes = this.#receivedBytes();
    const rate = (bytes - this.#received.bytes) / Math.max(now - this.#received.at, MIN_SAMPLE_MS);
    this.#received = { bytes, at: now };
    this.#bestPeerRate = Math.max(rate, this.#bestPeerRate);
    // on an uneven path the slow direction would fill its queue, and starve the fast one by its acknowledgements
    const even = this.#bestPeerRate <= EVEN_RATES * this.#bestRate;
    this.#peerInFlight = even ? rate * trip : 0;
  }

  #setCap(): void {
    const rate = this.rate;
    if (rate === 0 || !Number.isFinite(this.#minRtt)) return;
    const probing = this.#phase.kind === 'probing';
    const gain = this.#phase.kind === 'startup' ? STARTUP_HEAD_ROOM : probing ? PROBE_SHARE : HEAD_ROOM;
    const allowance = probing ? 0 : TURN_ALLOWANCE_MS;
    const least = this.#phase.kind === 'startup' ? START_CAP_BYTES : MIN_CAP_BYTES;
    const own = Math.max(least, rate * (this.#minRtt * gain + allowance));
    const matched = this.#phase.kind === 'steady' ? Math.min(this.#peerInFlight, MATCH_LIMIT * own) : 0;
    this.#cap = Math.min(MAX_CAP_BYTES, Math.max(own, matched));
  }
}
