/** What adds up over days, and what the machine around the tunnel runs out of. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import type { Readable } from 'node:stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { collect } from '../support/collect.ts';
import { liveMemory } from '../support/live-memory.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';

/** Each is 200 streams and a reconnect; what 24 h bring at a stream a second is `PCG_SOAK_ROUNDS=432`. */
const SOAK_ROUNDS = Number(process.env['PCG_SOAK_ROUNDS'] ?? 4);

/** Looks at the processor time of an idle tunnel. What it costs it costs in each; what else comes and goes does not. */
const LOOKS = 10;

/** Which share of the next `ms` this thread computes, in the calmest of some such times; stops at one below `enough`. */
async function busyShare(ms: number, enough: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < LOOKS && least >= enough; look += 1) least = Math.min(least, await shareOf(ms));
  return least;
}

async function shareOf(ms: number): Promise<number> {
  const began = performance.now();
  const before = process.threadCpuUsage();
  await systemClock.sleep(ms);
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000 / (performance.now() - began);
}

const tcpHandles = (): string[] =>
  process
    .getActiveResourcesInfo()
    .filter((kind) => kind.startsWith('TCP'))
    .toSorted();

describe('a long life, in short', () => {
  it('75: streams that come and go and reconnects leave no memory behind', {
    timeout: 225_000 * SOAK_ROUNDS,
  }, async () => {
    await using portal = await startPortal();
    // what it would wait between attempts is judged in reconnect.test.ts
    await using gateway = startGateway(portal, { random: () => 0 });
    await gateway.connected();
    const life = async (): Promise<void> => {
      for (let n = 0; n < 200; n += 1) {
        const stream = await portal.server.roster.tunnel(gateway.id).open({ target: 'agent' });
        stream.end('once');
        expect((await readAll(stream)).toString()).toBe('once');
      }
      portal.listening.cut();
      const stream = await portal.server.roster.tunnel(gateway.id).open({ target: 'agent' });
      stream.end();
      await readAll(stream);
    };
    await life();
    await life();
    const sizes: number[] = [];
    const offHeap: number[] = [];
    const handles: string[] = [];
    for (let n = 0; n < SOAK_ROUNDS; n += 1) {
      await life();
      sizes.push(await liveMemory());
      const { external, arrayBuffers } = process.memoryUsage();
      offHeap.push(external + arrayBuffers);
      // the listener, and both ends of the connection; those of the one before are on their way out
      await until(() => portal.listening.sockets.size === 1);
      await expect.poll(() => tcpHandles().length).toBeLessThanOrEqual(3);
      handles.push(tcpHandles().join());
    }
    // 200 leaked streams of 4 KB would be 800 KB a round.
    const slope = ((sizes.at(-1) as number) - (sizes[0] as number)) / (SOAK_ROUNDS - 1);
    expect(slope).toBeLessThan(SOAK_ROUNDS < 100 ? 200_000 : 10_000);
    // heap snapshots would miss these
    expect(((offHeap.at(-1) as number) - (offHeap[0] as number)) / (SOAK_ROUNDS - 1)).toBeLessThan(100_000);
    expect(new Set(handles).size).toBe(1);
    expect([gateway.store.listeners, portal.storeOf('gw-1').listeners]).toEqual([1, 1]);
    await until(() => portal.server.roster.get(gateway.id)?.streams === 0);
  });

  it('76: a thousand idle streams cost little, and nothing is left when they end', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal);
    await gateway.connected();
    const before = await liveMemory();
    const tunnel = portal.server.roster.tunnel(gateway.id);
    const streams = [];
    for (let n = 0; n < 1000; n += 1) streams.push(await tunnel.open({ target: 'agent' }));
    // both ends and the echo behind them live in this process
    const each = ((await liveMemory()) - before) / streams.length;
    expect(each).toBeLessThan(24 * 1024);
    expect(portal.server.roster.get(gateway.id)?.streams).toBe(1000);
    // what they cost while nobody says anything: the beat of one session
    expect(await busyShare(3_000, 0.05)).toBeLessThan(0.05);
    for (const stream of streams) stream.end();
    await Promise.all(streams.map((stream) => collect(stream)));
    await until(() => portal.server.roster.get(gateway.id)?.streams === 0);
  });

  it('76: an idle stream costs each end 4 KB or less', async () => {
    const kept: TunnelStream[] = [];
    await using portal = await startPortal();
    await using gateway = startGateway(portal, {
      targets: async () => (stream) => void kept.push(stream),
    });
    await gateway.connected();
    const tunnel = portal.server.roster.tunnel(gateway.id);
    (await tunnel.open({ target: 'agent' })).destroy();
    const before = await liveMemory();
    const streams = [];
    for (let n = 0; n < 1000; n += 1) streams.push(await tunnel.open({ target: 'agent' }));
    // both ends live in this process
    expect(((await liveMemory()) - before) / (2 * streams.length)).toBeLessThan(4 * 1024);
    for (const stream of [...streams, ...kept]) stream.destroy();
  });

  it('76: 500 idle gateways cost one portal next to nothing', async () => {
    await using portal = await startPortal({ server: { limits: { unprovenPerAddress: 1000 } } });
    const gateways = Array.from({ length: 500 }, (_, n) => startGateway(portal, { id: `gw-${n}` }));
    await Promise.all(gateways.map((gateway) => gateway.connected()));
    await until(() => portal.server.roster.list().length === 500);
    await systemClock.sleep(2_000); // first pings and syncs
    // both ends of all of them are in this process
    expect(await busyShare(5_000, 0.2)).toBeLessThan(0.2);
    expect(portal.server.roster.list().every(({ attached, epoch }) => attached && epoch === 1)).toBe(true);
    await Promise.all(gateways.map((gateway) => gateway.stop()));
    await until(() => portal.server.roster.size === 0);
  });
});

describe('a machine that runs out', () => {
  it('78: no file descriptor or no memory for a dial refuses that stream; the session lives and recovers', async () => {
    const codes = ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'];
    await using portal = await startPortal();
    await using gateway = startGateway(portal, {
      targets: async () => {
        const code = codes.shift();
        if (code !== undefined) throw Object.assign(new Error(`${code}: cannot`), { code });
        return (stream) => void stream.pipe(stream);
      },
    });
    await gateway.connected();
    const tunnel = portal.server.roster.tunnel(gateway.id);
    for (let n = 0; n < 4; n += 1) {
      const error = await tunnel.open({ target: 'agent' }).catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(StreamError);
      expect((error as StreamError).streamCode).not.toBe(STREAM.NONE);
    }
    const stream = await tunnel.open({ target: 'agent' });
    stream.end('recovered');
    expect((await readAll(stream)).toString()).toBe('recovered');
    expect(gateway.states.filter(({ state }) => state === 'connected')).toHaveLength(1);
  });

  it('77: a log that nobody reads holds up nothing and is kept within bounds, on stdout and on stderr', async () => {
    // a shell's pipe whose reader sleeps, as a stuck journal; the child reports on the other stream
    const child = (log: 'stdout' | 'stderr', report: 'stdout' | 'stderr'): string => `
      import { startGateway, startPortal, readAll } from '${new URL('../support/tunnel-pair.ts', import.meta.url)}';
      import { liveMemory } from '${new URL('../support/live-memory.ts', import.meta.url)}';
      import { createLog } from '${new URL('../../src/base/log.ts', import.meta.url)}';
      const log = createLog({ name: 'portal', level: 'debug', destination: process.${log} });
      const portal = await startPortal({ log });
      const gateway = startGateway(portal, { log });
      await gateway.connected();
      const before = await liveMemory();
      for (let batch = 0; batch < 20; batch += 1) {
        for (let n = 0; n < 2500; n += 1) log.info({ n, filler: 'x'.repeat(500) }, 'noise');
        const stream = await portal.server.roster.tunnel(gateway.id).open({ target: 'agent' });
        stream.end('x');
        if (String(await readAll(stream)) !== 'x') throw new Error('no answer');
      }
      const grown = (await liveMemory()) - before;
      process.${report}.write(JSON.stringify({ answered: 20, grown }), () => process.exit(0));`;
    for (const [log, report, plumbing] of [
      ['stdout', 'stderr', '"$0" "$@" | sleep 900'],
      ['stderr', 'stdout', '"$0" "$@" 2>&1 >&3 | sleep 900'],
    ] as const) {
      const script = child(log, report);
      const running = spawn(
        'sh',
        ['-c', plumbing, process.execPath, '--no-warnings', '--input-type=module', '-e', script],
        { stdio: ['ignore', 'ignore', 'pipe', 'pipe'], detached: true },
      );
      onTestFinished(() => endGroup(running));
      const reports = running.stdio[report === 'stderr' ? 2 : 3] as Readable;
      const said = JSON.parse(String((await once(reports, 'data'))[0])) as {
        answered: number;
        grown: number;
      };
      endGroup(running);
      expect(said.answered).toBe(20);
      // 29 MB of lines were written
      expect(said.grown).toBeLessThan(12 * 1024 * 1024);
    }
  });
});

function endGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL');
}
