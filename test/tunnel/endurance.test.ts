/** What adds up over days, and what the machine around the tunnel runs out of. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import { collect } from '../support/collect.ts';
import { liveMemory } from '../support/live-memory.ts';
import { readAll, startGateway, startPortal } from '../support/tunnel-pair.ts';

const exec = promisify(execFile);

describe('a long life, in short', () => {
  it('75: streams that come and go and reconnects leave no memory behind', { timeout: 60_000 }, async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal);
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
    for (let n = 0; n < 4; n += 1) {
      await life();
      sizes.push(await liveMemory());
    }
    // 200 leaked streams of 4 KB would be 800 KB a round.
    const slope = ((sizes.at(-1) as number) - (sizes[0] as number)) / 3;
    expect(slope).toBeLessThan(200_000);
    expect(portal.server.roster.get(gateway.id)?.streams).toBe(0);
  });

  it('76: a thousand idle streams cost little, and nothing is left when they end', {
    timeout: 60_000,
  }, async () => {
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
    for (const stream of streams) stream.end();
    await Promise.all(streams.map((stream) => collect(stream)));
    expect(portal.server.roster.get(gateway.id)?.streams).toBe(0);
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

  it('77: a log that nobody reads holds up nothing', { timeout: 30_000 }, async () => {
    // stdout is a pipe that is never read; the child says on stderr how many round trips it made
    const script = `
      import { startGateway, startPortal, readAll } from '${new URL('../support/tunnel-pair.ts', import.meta.url)}';
      import { createLog } from '${new URL('../../src/base/log.ts', import.meta.url)}';
      const log = createLog({ name: 'portal', level: 'debug' });
      const portal = await startPortal({ log });
      const gateway = startGateway(portal, { log });
      await gateway.connected();
      for (let n = 0; n < 4000; n += 1) log.info({ n, filler: 'x'.repeat(200) }, 'noise');
      for (let n = 0; n < 20; n += 1) {
        const stream = await portal.server.roster.tunnel(gateway.id).open({ target: 'agent' });
        stream.end('x');
        await readAll(stream);
      }
      process.stderr.write('20 round trips', () => process.exit(0));`;
    const child = exec(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], {
      timeout: 20_000,
    });
    child.child.stdout?.pause();
    child.child.stdout?.removeAllListeners('data');
    const said = await new Promise<string>((resolve) => {
      child.child.stderr?.once('data', (text) => resolve(String(text)));
      child.catch(() => resolve('hung'));
    });
    expect(said).toContain('20 round trips');
    child.child.kill('SIGKILL');
    await child.catch(() => {});
  });
});
