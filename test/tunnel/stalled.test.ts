/**
 * 9: what readers that stall cost the others, in simulated time: on a path of 100 Mbit/s every wait is the tunnel's,
 * and none the machine's. What they cost in memory and in processor time is in socket.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/simulator/random.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { defaultSettings, Session } from '../../src/tunnel/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { pacedLink } from '../support/paced-link.ts';

const PATH = { bytesPerMs: 100 * 125, oneWayMs: 10, bufferBytes: 10 * 1024 * 1024 };
/** Of each stalled reader; its writer keeps offering more. */
const OFFERED_BYTES = 512 * 1024;
const PROBES = 200;
const EVERY_MS = 23;

async function site() {
  const clock = new ManualClock();
  const link = pacedLink(clock, PATH);
  const stalled: TunnelStream[] = [];
  const commands: number[] = [];
  const make = (role: 'gateway' | 'portal'): Session =>
    new Session({
      id: 's',
      role,
      clock,
      random: seededRandom(1, role).next,
      graceMs: 120_000,
      local: defaultSettings(role),
      peer: defaultSettings(role === 'gateway' ? 'portal' : 'gateway'),
      handlers: {
        target: async (open) => (stream: TunnelStream) => {
          stream.on('error', () => {});
          if (open.target === 'stall') stalled.push(stream);
          else stream.on('data', (data: Buffer) => void stream.write(data));
        },
        sync: async () => void commands.push(clock.monotonic()),
      },
    });
  const gateway = make('gateway');
  const portal = make('portal');
  gateway.attach(link.a, 1, 0);
  portal.attach(link.b, 1, 0);
  await clock.advance(500);
  return {
    clock,
    portal,
    stalled,
    commands,
    [Symbol.asyncDispose]: async () => {
      await portal[Symbol.asyncDispose]();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

type Site = Awaited<ReturnType<typeof site>>;

/** A stream that echoes, and what is asked on it. */
async function prober({ clock, portal, commands }: Site) {
  const opening = portal.open({ target: 'agent', class: 2 });
  await clock.advance(1_000);
  const stream = await opening;
  const asked: number[] = [];
  const requests: number[] = [];
  stream.on('data', (data: Buffer) => {
    for (let n = 0; n < data.length; n += 1) requests.push(clock.monotonic() - (asked.shift() as number));
  });
  /** Milliseconds of the 99th of a hundred small requests, and of commands on their way to the gateway. */
  return async (): Promise<{ request: number; command: number }> => {
    requests.length = 0;
    commands.length = 0;
    const sent: number[] = [];
    for (let n = 0; n < PROBES; n += 1) {
      asked.push(clock.monotonic());
      stream.write('x');
      sent.push(clock.monotonic());
      void portal.sendSync('sync', Buffer.from(`command ${n}`));
      await clock.advance(EVERY_MS);
    }
    await clock.advance(1_000);
    expect([requests.length, commands.length]).toEqual([PROBES, PROBES]);
    const p99 = (times: number[]): number =>
      times.toSorted((a, b) => a - b)[Math.floor(PROBES * 0.99)] as number;
    return { request: p99(requests), command: p99(commands.map((time, n) => time - (sent[n] as number))) };
  };
}

/** Opens `count` streams whose readers never read. */
async function opened({ clock, portal, stalled }: Site, count: number): Promise<TunnelStream[]> {
  const writers: TunnelStream[] = [];
  while (writers.length < count) {
    // no more unanswered at a time than a session takes
    const opening = Array.from({ length: Math.min(100, count - writers.length) }, () =>
      portal.open({ target: 'stall', class: 3 }),
    );
    await clock.advance(200);
    writers.push(...(await Promise.all(opening)));
  }
  for (const writer of writers) writer.on('error', () => {});
  expect(stalled).toHaveLength(count);
  return writers;
}

/** Offers each more than it can have, and tells how much they took. */
function offer(writers: readonly TunnelStream[]): () => number {
  let taken = 0;
  const chunk = Buffer.alloc(65_536, 1);
  for (const writer of writers)
    for (let at = 0; at < OFFERED_BYTES; at += chunk.length)
      writer.write(chunk, () => (taken += chunk.length));
  return () => taken;
}

describe.each([1, 100, 1000])('%d readers that stall', (count) => {
  it('#9: leave the p99 of others and of commands below twice that of an idle session', async () => {
    await using idle = await site();
    const before = await (await prober(idle))();
    // the path alone
    expect(before.request).toBeGreaterThanOrEqual(2 * PATH.oneWayMs);
    await using busy = await site();
    const writers = await opened(busy, count);
    const p99 = await prober(busy);
    const taken = offer(writers);
    // what fits goes there as bulk does, which is judged in governor.test.ts
    await busy.clock.advance(10_000);
    // nothing moves any more
    const held = taken();
    expect(held).toBeGreaterThanOrEqual(count === 1 ? 256 * 1024 : 1024 * 1024);
    expect(held).toBeLessThan(count * OFFERED_BYTES);
    const after = await p99();
    expect(taken()).toBe(held);
    expect(after.request).toBeLessThan(2 * before.request);
    expect(after.command).toBeLessThan(2 * before.command);
  });
});
