/** Servers that never listen still bound a head, and end what they carry. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { STREAM } from '../../src/tunnel/codes.ts';
import { createTargetServer, httpTarget } from '../../src/tunnel/http.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startGateway, startPortal } from '../support/tunnel-pair.ts';

const OPEN = { target: 'maas:x', class: 2 } as const;

async function answerOf(stream: Duplex): Promise<string> {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  if (!stream.closed) await once(stream, 'close');
  return text;
}

describe('a server of a target', () => {
  it('refuses a head that never ends, each time that its connections had all gone', async () => {
    const server = createTargetServer((_request, response) => response.end('hello'), 100);
    for (let round = 0; round < 2; round += 1) {
      const quick = httpTarget(server, OPEN, systemClock);
      quick.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      expect(await answerOf(quick)).toContain('hello');
      const slow = httpTarget(server, OPEN, systemClock);
      slow.write('GET / HTTP/1.1\r\nHost:');
      expect(await answerOf(slow)).toMatch(/^HTTP\/1\.1 408 /);
    }
  });

  const errorOf = async (stream: Duplex): Promise<unknown> => (await once(stream.resume(), 'error'))[0];
  const IDLE = { streamCode: STREAM.IDLE_TIMEOUT, code: 'ERR_TUNNEL_IDLE_TIMEOUT' };

  it('ends a connection on which nothing is asked with IDLE_TIMEOUT: from the start, and after an answer', async () => {
    const clock = new ManualClock();
    const server = createTargetServer((_request, response) => response.end('hello'));
    const mute = httpTarget(server, OPEN, clock);
    const used = httpTarget(server, OPEN, clock);
    const [muteEnds, usedEnds] = [errorOf(mute), errorOf(used)];
    await clock.advance(4 * 60_000);
    used.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(used, 'data');
    await clock.advance(2 * 60_000);
    expect(await muteEnds).toMatchObject(IDLE);
    expect(used.destroyed).toBe(false);
    await clock.advance(4 * 60_000);
    expect(await usedEnds).toMatchObject(IDLE);
    expect(clock.pending).toBe(0);
  });

  it('leaves a request that takes hours, and an upgraded connection that is silent, alone', async () => {
    const clock = new ManualClock();
    let finish = (): void => {};
    const server = createTargetServer((_request, response) => {
      response.write('begun');
      finish = () => response.end(' over');
    });
    server.on('upgrade', (_request, socket) => {
      socket.write('HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      socket.pipe(socket);
    });
    const long = httpTarget(server, OPEN, clock);
    const upgraded = httpTarget(server, OPEN, clock);
    long.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    upgraded.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    await Promise.all([once(long, 'data'), once(upgraded, 'data')]);
    await clock.advance(3 * 3_600_000);
    upgraded.write('still here');
    expect(String((await once(upgraded, 'data'))[0])).toBe('still here');
    const rest = answerOf(long);
    finish();
    expect(await rest).toContain('over');
    upgraded.destroy();
    await once(upgraded, 'close');
    expect(clock.pending).toBe(0);
  });

  it('leaves a request alone that came behind another one, before that was answered', async () => {
    const clock = new ManualClock();
    const answers: (() => void)[] = [];
    const server = createTargetServer((request, response) => {
      answers.push(() => response.end(`answer to ${request.url}`));
    });
    const stream = httpTarget(server, OPEN, clock);
    let said = '';
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
    stream.write('GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n');
    while (answers.length < 2) await clock.settle();
    answers[0]?.();
    await clock.advance(3_600_000);
    expect(stream.destroyed).toBe(false);
    answers[1]?.();
    await clock.advance(4 * 60_000);
    expect(stream.destroyed).toBe(false);
    const ended = errorOf(stream);
    await clock.advance(2 * 60_000);
    expect(await ended).toMatchObject(IDLE);
    expect(said).toMatch(/answer to \/1[^]*answer to \/2/);
    expect(clock.pending).toBe(0);
  });

  it('IDLE_TIMEOUT is what the portal hears', async () => {
    const server = createTargetServer((_request, response) => response.end('hello'));
    const clock = new ManualClock();
    await using portal = await startPortal();
    await using gateway = startGateway(portal, {
      targets: async (open) => httpTarget(server, open, clock),
    });
    await gateway.connected();
    const stream = await portal.server.roster.tunnel('gw-1').open(OPEN);
    const ended = errorOf(stream);
    await clock.advance(6 * 60_000);
    expect(await ended).toMatchObject(IDLE);
    expect(portal.server.roster.get('gw-1')?.attached).toBe(true);
  });

  it('lets an answer last as long as it takes', async () => {
    const server = createTargetServer((_request, response) => {
      response.write('first ');
      setTimeout(() => response.end('last'), 400);
    }, 100);
    const stream = httpTarget(server, OPEN, systemClock);
    stream.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await answerOf(stream)).toMatch(/first [\s\S]*last/);
  });

  it('ends all of its connections when told', async () => {
    const server = createTargetServer((_request, response) => void response.write('begun'));
    const stream = httpTarget(server, OPEN, systemClock);
    stream.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(stream, 'data');
    const closed = once(stream, 'close');
    server.closeAllConnections();
    await closed;
    expect(stream.destroyed).toBe(true);
  });
});
