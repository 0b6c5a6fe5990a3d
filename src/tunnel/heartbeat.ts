/**
 * One beat per second and per clock for all sessions of the process: five thousand sessions cost one timer.
 * The beat also measures how late the event loop runs and notices that the machine slept.
 */
import type { Clock } from '../base/clock.ts';

export const BEAT_MS = 1000;
/** Time between two beats, on either clock, from which on the machine must have slept. */
const SUSPEND_GAP_MS = 10_000;

/** Lag is reported for this long, so that a ping every 15 s sees it. */
const LAG_BEATS = 15;

export interface Beat {
  /** Monotonic milliseconds. */
  readonly now: number;
  /** How much later than planned the beat came: the event loop's lag. */
  readonly lagMs: number;
  /** The machine slept (or the wall clock was set forward): peers may have given up on us. */
  readonly suspended: boolean;
}

type Listener = (beat: Beat) => void;

class Heartbeat {
  readonly #clock: Clock;
  readonly #listeners = new Set<Listener>();
  #timer: Disposable | undefined;
  #lastMonotonic = 0;
  #lastWall = 0;
  /** Of the last beats, newest last. */
  #lags: number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The worst of the last beats. */
  get lagMs(): number {
    return Math.max(0, ...this.#lags);
  }

  subscribe(listener: Listener): Disposable {
    this.#listeners.add(listener);
    if (this.#timer === undefined) {
      this.#lastMonotonic = this.#clock.monotonic();
      this.#lastWall = this.#clock.now();
      this.#arm();
    }
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(listener);
        if (this.#listeners.size > 0) return;
        this.#timer?.[Symbol.dispose]();
        this.#timer = undefined;
      },
    };
  }

  #arm(): void {
    this.#timer = this.#clock.timer(BEAT_MS, () => {
      this.#arm();
      this.#beat();
    });
  }

  #beat(): void {
    const now = this.#clock.monotonic();
    const wall = this.#clock.now();
    const elapsed = now - this.#lastMonotonic;
    const lagMs = Math.max(0, elapsed - BEAT_MS);
    this.#lags.push(lagMs);
    if (this.#lags.length > LAG_BEATS) this.#lags.shift();
    // Linux stops the monotonic clock in suspend, other systems do not: either gap tells
    const suspended = elapsed > SUSPEND_GAP_MS || wall - this.#lastWall - elapsed > SUSPEND_GAP_MS;
    this.#lastMonotonic = now;
    this.#lastWall = wall;
    const beat: Beat = { now, lagMs, suspended };
    for (const listener of this.#listeners) listener(beat);
  }
}

const heartbeats = new WeakMap<Clock, Heartbeat>();

function heartbeatOf(clock: Clock): Heartbeat {
  let heartbeat = heartbeats.get(clock);
  if (heartbeat === undefined) {
    heartbeat = new Heartbeat(clock);
    heartbeats.set(clock, heartbeat);
  }
  return heartbeat;
}

/** Calls `listener` every second until disposed. */
export function onBeat(clock: Clock, listener: Listener): Disposable {
  return heartbeatOf(clock).subscribe(listener);
}

/** The worst lag of the event loop in the last 15 s, milliseconds. */
export function loopLagMs(clock: Clock): number {
  return heartbeatOf(clock).lagMs;
}
