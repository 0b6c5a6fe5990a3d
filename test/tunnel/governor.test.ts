/** What the in-flight governor is for: full links with short queues, whatever buffers the path has. */
import { describe, expect, it } from 'vitest';
import { Governor, MAX_CAP_BYTES, MIN_CAP_BYTES, START_CAP_BYTES } from '../../src/tunnel/governor.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { defaultSettings, Session } from '../../src/tunnel/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type PathOptions, pacedLink } from '../support/paced-link.ts';

const MBIT = 125; // bytes per millisecond

interface Load {
  /** From the gateway to the portal. */
  readonly path: PathOptions;
  /** The other direction, when it is another one. */
  readonly back?: PathOptions;
  readonly seconds: number;
  readonly bulkStreams?: number;
  /** Bulk in the other direction as well. */
  readonly bothWays?: boolean;
  /** Of the moments at which the ends ping each other. */
  readonly seed?: number;
}

interface Result {
  /** Share of the link that bulk payload used after the first two seconds. */
  readonly share: number;
  /** The same of the other direction. */
  readonly backShare: number;
  readonly p50: number;
  readonly p99: number;
  readonly backlog: number;
  readonly gateway: Session;
  readonly portal: Session;
}

/** Bulk from the gateway to the portal, and a 64-byte request from the portal every 50 ms. */
async function measure(load: Load): Promise<Result> {
  const clock = new ManualClock();
  const link = pacedLink(clock, load.path, load.back);
  const chunk = Buffer.alloc(65_536);
  const blast = (stream: TunnelStream): void => {
    const more = (): void => {
      while (!stream.destroyed && stream.write(chunk));
    };
    stream.on('drain', more);
    stream.resume();
    more();
  };
  let received = 0;
  let receivedBack = 0;
  const make = (role: 'gateway' | 'portal'): Session =>
    new Session({
      id: 's',
      role,
      clock,
      random: seededRandom(load.seed ?? 1, role).next,
      graceMs: 120_000,
      local: defaultSettings(role),
      peer: defaultSettings(role === 'gateway' ? 'portal' : 'gateway'),
      handlers: {
        target: async (open) => (stream: TunnelStream) => {
          if (open.target === 'bulk') {
            stream.on('data', (data: Buffer) => {
              receivedBack += data.length;
            });
            blast(stream);
          } else stream.on('data', (data: Buffer) => void stream.write(data));
        },
        sync: async () => {},
      },
    });
  await using gateway = make('gateway');
  await using portal = make('portal');
  gateway.attach(link.a, 1, 0);
  portal.attach(link.b, 1, 0);
  await clock.advance(500);
  for (let index = 0; index < (load.bulkStreams ?? 1); index += 1)
    void portal.open({ target: 'bulk', class: 3 }).then((stream) => {
      stream.on('data', (data: Buffer) => {
        received += data.length;
      });
      if (load.bothWays) blast(stream);
    });
  let small: TunnelStream | undefined;
  void portal.open({ target: 'echo', class: 2 }).then((stream) => {
    small = stream;
  });
  await clock.advance(2000);
  const times: number[] = [];
  const asked: number[] = [];
  let answered = 0;
  small?.on('data', (data: Buffer) => {
    for (answered += data.length; answered >= 64; answered -= 64)
      times.push(clock.monotonic() - (asked.shift() as number));
  });
  const before = received;
  const backBefore = receivedBack;
  const from = clock.monotonic();
  for (let tick = 0; tick < load.seconds * 20; tick += 1) {
    asked.push(clock.monotonic());
    small?.write(Buffer.alloc(64));
    await clock.advance(50);
  }
  const tookMs = clock.monotonic() - from;
  const share = (received - before) / (tookMs * load.path.bytesPerMs);
  const backShare = (receivedBack - backBefore) / (tookMs * (load.back ?? load.path).bytesPerMs);
  times.sort((a, b) => a - b);
  const at = (quantile: number): number =>
    times[Math.floor(times.length * quantile)] ?? Number.POSITIVE_INFINITY;
  expect(times.length).toBeGreaterThan(load.seconds * 15);
  expect(gateway.state.kind).toBe('attached');
  expect(portal.state.kind).toBe('attached');
  return { share, backShare, p50: at(0.5), p99: at(0.99), backlog: link.a.largestBacklog, gateway, portal };
}

const MIB = 1024 * 1024;

describe('governor', () => {
  it('#17: 50 Mbit/s behind a 10 MB buffer: small requests p50 <= 25 ms, p99 <= 60 ms, link >= 95 % full', async () => {
    const result = await measure({
      path: { bytesPerMs: 50 * MBIT, oneWayMs: 0.2, bufferBytes: 10 * MIB },
      seconds: 25,
    });
    expect(result.p50).toBeLessThanOrEqual(25);
    expect(result.p99).toBeLessThanOrEqual(60);
    expect(result.share).toBeGreaterThanOrEqual(0.95);
  });

  it('#17: the same with sixteen bulk streams', async () => {
    const result = await measure({
      path: { bytesPerMs: 50 * MBIT, oneWayMs: 0.2, bufferBytes: 10 * MIB },
      seconds: 12,
      bulkStreams: 16,
    });
    expect(result.p50).toBeLessThanOrEqual(25);
    expect(result.p99).toBeLessThanOrEqual(60);
    expect(result.share).toBeGreaterThanOrEqual(0.95);
  });

  it('#17: 5 Mbit/s: the queue is the smallest that keeps the link full', async () => {
    const result = await measure({
      path: { bytesPerMs: 5 * MBIT, oneWayMs: 5, bufferBytes: 10 * MIB },
      seconds: 30,
    });
    // 64 KiB, the smallest cap, take 105 ms on such a link
    expect(result.p50).toBeLessThanOrEqual(125);
    expect(result.p99).toBeLessThanOrEqual(200);
    expect(result.share).toBeGreaterThanOrEqual(0.95);
  });

  it('#21: 100 Mbit/s at 100 ms round trip: one stream fills >= 80 % of the link', async () => {
    const result = await measure({
      path: { bytesPerMs: 100 * MBIT, oneWayMs: 50, bufferBytes: 4 * MIB },
      seconds: 25,
    });
    expect(result.share).toBeGreaterThanOrEqual(0.9);
    expect(result.p50).toBeLessThanOrEqual(160);
  });

  it('#3: a link full in both directions for 120 s is not a dead one', async () => {
    const result = await measure({
      path: { bytesPerMs: 5 * MBIT, oneWayMs: 20, bufferBytes: 10 * MIB },
      seconds: 120,
      bothWays: true,
    });
    // the acknowledgements of each direction queue behind the bulk of the other
    expect(result.share).toBeGreaterThanOrEqual(0.9);
    expect(result.gateway.epoch).toBe(1);
    // neither end may take the other's queue for the length of the path
    expect(result.p50).toBeLessThanOrEqual(1_000);
  });

  it('#17: 50 Mbit/s between neighbours, full in both directions: neither end takes it from the other', async () => {
    // long enough for three measurements of the shortest trip
    const result = await measure({
      path: { bytesPerMs: 50 * MBIT, oneWayMs: 0.2, bufferBytes: 10 * MIB },
      seconds: 30,
      bothWays: true,
    });
    expect(result.share).toBeGreaterThanOrEqual(0.9);
    expect(result.backShare).toBeGreaterThanOrEqual(0.9);
    expect(result.p50).toBeLessThanOrEqual(45);
    expect(result.p99).toBeLessThanOrEqual(100);
  });

  it('#17: 50 Mbit/s one way and 10 the other, both full: the slow one does not starve the fast one', async () => {
    const result = await measure({
      path: { bytesPerMs: 50 * MBIT, oneWayMs: 0.2, bufferBytes: 10 * MIB },
      back: { bytesPerMs: 10 * MBIT, oneWayMs: 0.2, bufferBytes: 10 * MIB },
      seconds: 60,
      bothWays: true,
    });
    expect(result.share).toBeGreaterThanOrEqual(0.5);
    expect(result.backShare).toBeGreaterThanOrEqual(0.8);
    expect(result.p50).toBeLessThanOrEqual(120);
  });

  // Which second a ping falls into changes how much of the link the acknowledgements of the other direction take.
  for (const seed of [1, 2, 3])
    it(`#17: 50 Mbit/s full in both directions: requests stay quick (pings of seed ${seed})`, async () => {
      const { p50, p99, share, backShare } = await measure({
        path: { bytesPerMs: 50 * MBIT, oneWayMs: 5, bufferBytes: 10 * MIB },
        seconds: 60,
        bothWays: true,
        seed,
      });
      expect(p50).toBeLessThanOrEqual(120);
      expect(p99).toBeLessThanOrEqual(250);
      expect(share).toBeGreaterThanOrEqual(0.8);
      expect(backShare).toBeGreaterThanOrEqual(0.8);
    });

  it('starts at 256 KiB and stays within its bounds whatever it is told', () => {
    const governor = new Governor();
    governor.reset(0);
    expect(governor.capBytes).toBe(START_CAP_BYTES);
    let now = 0;
    for (let step = 0; step < 2000; step += 1) {
      now += (step * 7919) % 50;
      if (step % 3 === 0) governor.limited();
      const { delivered } = governor;
      governor.acknowledged(
        (step * 104_729) % 5_000_000,
        step % 5 === 0 ? undefined : { rttMs: (step * 31) % 400, sentAt: now - 5, delivered },
        now,
      );
      expect(governor.capBytes).toBeGreaterThanOrEqual(MIN_CAP_BYTES);
      expect(governor.capBytes).toBeLessThanOrEqual(MAX_CAP_BYTES);
    }
    governor.reset(now);
    expect(governor.capBytes).toBe(START_CAP_BYTES);
  });
});
