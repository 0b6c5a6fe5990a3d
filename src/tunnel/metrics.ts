/**
 * Metrics of the tunnel, `pcg_tunnel_*`. Label values come from fixed sets and live gauges are summed over the
 * sessions at scrape time, so that neither peers nor dead sessions can grow them.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ByteCounts } from './stream.ts';

/** Kinds of targets; whatever else a peer asks for is `other`. */
const TARGET_KINDS = ['agent', 'maas', 'kube', 'tcp', 'portal', 'other'] as const;
export type TargetKind = (typeof TARGET_KINDS)[number];

export function targetKind(target: string): TargetKind {
  const colon = target.indexOf(':');
  const kind = colon < 0 ? target : target.slice(0, colon);
  return (TARGET_KINDS as readonly string[]).includes(kind) ? (kind as TargetKind) : 'other';
}

/** One live session, asked at scrape time. */
export interface SessionGauges {
  state(): 'attached' | 'detached' | 'closed';
  inflightBytes(): number;
  inflightCapBytes(): number;
  replayBytes(): number;
  lagMs(): number;
  streamsStalled(): number;
  streamsOpen(): Map<TargetKind, number>;
}

export type OpenResult = 'ok' | 'refused' | 'denied' | 'busy' | 'timeout' | 'cancelled' | 'lost';
/**
 * Why a connection came to no session. `busy`: too many of its address or in all, or the portal stops; `full`: no room
 * for another gateway; `other`: it left, said nothing in time or nothing that can be read, or the look-up failed.
 */
export type RefusedReason = 'unknown' | 'wrong-proof' | 'revoked' | 'too-old' | 'full' | 'busy' | 'other';
export type ResumeResult = 'ok' | 'unknown' | 'expired' | 'superseded' | 'gap' | 'moved' | 'rejected';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export class TunnelMetrics {
  readonly #sessions = new Set<SessionGauges>();
  readonly #bytes = new Map<TargetKind, ByteCounts>();
  readonly #reconnects: Counter<'reason'>;
  readonly #handshake: Histogram;
  readonly #refused: Counter<'reason'>;
  readonly #resumes: Counter<'result'>;
  readonly #queue: Histogram<'class'>;
  readonly #open: Histogram<'result'>;
  readonly #denied: Counter;
  readonly #lags = new Set<() => Promise<number>>();
  readonly #rtt: Histogram;
  readonly #streamBytes: Counter<'target' | 'direction'>;
  /** Of the present flush, milliseconds by class; below 0 when nothing of that class was sent. */
  readonly #longestWait = [-1, -1, -1, -1];

  constructor(registry: Registry) {
    const registers = [registry];
    const sessions = this.#sessions;
    const sum = (pick: (session: SessionGauges) => number): number => {
      let total = 0;
      for (const session of sessions) total += pick(session);
      return total;
    };
    const gauge = (
      name: string,
      help: string,
      collect: (gauge: Gauge) => void | Promise<void>,
      labelNames: string[] = [],
    ): Gauge =>
      new Gauge({
        name: `pcg_tunnel_${name}`,
        help,
        labelNames,
        registers,
        collect() {
          return collect(this);
        },
      });
    gauge(
      'state',
      'Sessions by state.',
      (it) => {
        for (const state of ['attached', 'detached'] as const)
          it.set(
            { state },
            sum((session) => (session.state() === state ? 1 : 0)),
          );
      },
      ['state'],
    );
    gauge('inflight_bytes', 'Reliable bytes sent and not acknowledged.', (it) =>
      it.set(sum((session) => session.inflightBytes())),
    );
    gauge('inflight_cap_bytes', 'What the governor allows in flight.', (it) =>
      it.set(sum((session) => session.inflightCapBytes())),
    );
    gauge('replay_bytes', 'Bytes kept for replay.', (it) => it.set(sum((session) => session.replayBytes())));
    gauge('event_loop_lag_seconds', 'How late the last heartbeat was.', (it) => {
      let worst = 0;
      for (const session of sessions) worst = Math.max(worst, session.lagMs());
      it.set(worst / 1000);
    });
    gauge('streams_stalled', 'Streams with data and no credit.', (it) =>
      it.set(sum((session) => session.streamsStalled())),
    );
    const lags = this.#lags;
    gauge('sync_lag_seconds', 'Age of the oldest event not acknowledged by the peer.', async (it) => {
      it.set(Math.max(0, ...(await Promise.all([...lags].map((read) => read())))));
    });
    gauge(
      'streams_open',
      'Open streams by kind of target.',
      (it) => {
        it.reset();
        for (const session of sessions)
          for (const [target, count] of session.streamsOpen()) it.inc({ target }, count);
      },
      ['target'],
    );
    const bytes = this.#bytes;
    this.#streamBytes = new Counter({
      name: 'pcg_tunnel_stream_bytes',
      help: 'Payload bytes of streams.',
      labelNames: ['target', 'direction'],
      registers,
      collect() {
        this.reset();
        for (const [target, counts] of bytes) {
          this.inc({ target, direction: 'in' }, counts.in);
          this.inc({ target, direction: 'out' }, counts.out);
        }
      },
    });
    this.#reconnects = new Counter({
      name: 'pcg_tunnel_reconnects',
      help: 'Carriers lost, by what ended them.',
      labelNames: ['reason'],
      registers,
    });
    this.#handshake = new Histogram({
      name: 'pcg_tunnel_handshake_seconds',
      help: 'From the open carrier to a session.',
      buckets: SECONDS,
      registers,
    });
    this.#rtt = new Histogram({
      name: 'pcg_tunnel_rtt_seconds',
      help: 'Round trips of keepalive pings.',
      buckets: SECONDS,
      registers,
    });
    this.#refused = new Counter({
      name: 'pcg_tunnel_refused',
      help: 'Connections that came to no session, at the portal.',
      labelNames: ['reason'],
      registers,
    });
    this.#resumes = new Counter({
      name: 'pcg_tunnel_resumes',
      help: 'Attempts to resume a session.',
      labelNames: ['result'],
      registers,
    });
    this.#queue = new Histogram({
      name: 'pcg_tunnel_send_queue_seconds',
      help: 'From becoming ready to being sent, by class: the longest of each flush.',
      labelNames: ['class'],
      buckets: SECONDS,
      registers,
    });
    this.#open = new Histogram({
      name: 'pcg_tunnel_stream_open_seconds',
      help: 'From OPEN to the answer.',
      labelNames: ['result'],
      buckets: SECONDS,
      registers,
    });
    this.#denied = new Counter({ name: 'pcg_tunnel_denied', help: 'Opens denied here.', registers });
  }

  /** Dispose when the session is over. */
  track(session: SessionGauges): Disposable {
    this.#sessions.add(session);
    return { [Symbol.dispose]: () => void this.#sessions.delete(session) };
  }

  /** `seconds` is asked at scrape time, connected or not. Dispose when nobody ships events any more. */
  lagOf(seconds: () => Promise<number>): Disposable {
    this.#lags.add(seconds);
    return { [Symbol.dispose]: () => void this.#lags.delete(seconds) };
  }

  /** Payload bytes so far, by kind of target and direction: what the counter will say. */
  async streamBytes(): Promise<{ value: number; labels: Record<string, string | number | undefined> }[]> {
    return (await this.#streamBytes.get()).values;
  }

  /** Plain numbers that frames add to; prom-client is asked to look only at scrape time. */
  bytesOf(kind: TargetKind): ByteCounts {
    let counts = this.#bytes.get(kind);
    if (counts === undefined) {
      counts = { in: 0, out: 0 };
      this.#bytes.set(kind, counts);
    }
    return counts;
  }

  /** A frame was sent that had waited. `flushed` tells prom-client, which takes longer than sending a small frame. */
  queued(cls: 1 | 2 | 3, ms: number): void {
    if (ms > (this.#longestWait[cls] as number)) this.#longestWait[cls] = ms;
  }
  flushed(): void {
    for (const cls of [1, 2, 3] as const) {
      const ms = this.#longestWait[cls] as number;
      if (ms < 0) continue;
      this.#longestWait[cls] = -1;
      this.#queue.observe({ class: cls }, ms / 1000);
    }
  }
  opened(result: OpenResult, ms: number): void {
    this.#open.observe({ result }, ms / 1000);
  }
  denied(): void {
    this.#denied.inc();
  }
  /** `reason` is a word of ours or a close code, never the peer's text. */
  reconnect(reason: string): void {
    this.#reconnects.inc({ reason });
  }
  handshake(ms: number): void {
    this.#handshake.observe(ms / 1000);
  }
  rtt(ms: number): void {
    this.#rtt.observe(ms / 1000);
  }
  refused(reason: RefusedReason): void {
    this.#refused.inc({ reason });
  }
  resumed(result: ResumeResult): void {
    this.#resumes.inc({ result });
  }
}

const perRegistry = new WeakMap<Registry, TunnelMetrics>();

/** The one TunnelMetrics of a registry, which takes each metric's name once; without one they go nowhere. */
export function tunnelMetrics(registry: Registry = new Registry()): TunnelMetrics {
  let metrics = perRegistry.get(registry);
  if (metrics === undefined) {
    metrics = new TunnelMetrics(registry);
    perRegistry.set(registry, metrics);
  }
  return metrics;
}
