/** What a client or a target may try with the reverse proxy: requests inside requests, and answers that are none. */
import { once } from 'node:events';
import http from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { createReverseProxy } from '../../src/tunnel/reverse-proxy.ts';
import { upstreamAgent } from '../../src/tunnel/upstream-agent.ts';
import { until } from '../support/tunnel-pair.ts';
import { type Listening, tcpServer } from '../support/wire.ts';

/** A target that says what the test wants at each piece of bytes, and keeps what it heard on each connection. */
let heard: string[] = [];
let reply = '';
let target: Listening;
let agent: http.Agent;
const server = http.createServer();

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

beforeAll(async () => {
  target = await tcpServer((socket) => {
    const at = heard.push('') - 1;
    socket.on('data', (bytes: Buffer) => {
      heard[at] += bytes.toString('latin1');
      socket.write(reply, 'latin1');
    });
  });
  agent = upstreamAgent({ url: new URL(`http://127.0.0.1:${target.port}`), clock: systemClock });
  createReverseProxy({
    route: (request) => ({
      agent,
      host: 'target',
      path: request.url ?? '/',
      setHeaders: { 'Impersonate-User': 'ann' },
      drops: (name) => name.startsWith('impersonate-'),
    }),
    unreachable: (cause) => new PcgError('KUBE_UNREACHABLE', 'target down', { cause }),
    log: silentLog,
  }).attach(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterAll(async () => {
  agent.destroy();
  server.closeAllConnections();
  server.close();
  await target[Symbol.asyncDispose]();
});

beforeEach(() => {
  target.cut();
  heard = [];
  reply = OK;
});

/** Sends bytes as a client and returns what came back by the time that `enough` says so, or the end. */
async function say(text: string, enough = /ok$|\r\n\r\n\{.*\}$|0\r\n\r\n$/s): Promise<string> {
  const client: Socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  let got = '';
  let over = false;
  client.on('data', (bytes: Buffer) => (got += bytes.toString('latin1')));
  client.on('error', () => {});
  client.on('close', () => (over = true));
  client.write(text, 'latin1');
  await until(() => over || enough.test(got));
  client.destroy();
  return got;
}

const SECRET = 'GET /secrets HTTP/1.1\r\nHost: target\r\n\r\n';

/** Requests as the target's own parser finds them in what it heard. */
async function requestsIn(bytes: string): Promise<string[]> {
  const seen: string[] = [];
  const parser = http.createServer((request, response) => {
    seen.push(`${request.method} ${request.url} as ${request.headers['impersonate-user'] ?? 'itself'}`);
    request.resume();
    response.end();
  });
  parser.listen(0, '127.0.0.1');
  await once(parser, 'listening');
  const client = connect((parser.address() as AddressInfo).port, '127.0.0.1');
  client.on('error', () => {});
  client.end(bytes, 'latin1');
  client.resume();
  await once(client, 'close');
  parser.close();
  return seen;
}

describe('a request that hides another one', () => {
  it.each(['GET', 'DELETE', 'OPTIONS', 'POST'])(
    '68: in the body of a %s whose Connection header names Content-Length it stays a body',
    async (method) => {
      const got = await say(
        `${method} /ok HTTP/1.1\r\nHost: x\r\nConnection: close, content-length\r\nContent-Length: ${SECRET.length}\r\n\r\n${SECRET}`,
      );
      expect(got).toMatch(/^HTTP\/1.1 200/);
      await until(() => heard.join('').includes('/secrets'));
      expect(await requestsIn(heard.join(''))).toEqual([`${method} /ok as ann`]);
    },
  );

  it.each([['Content-Length: 500'], ['Transfer-Encoding: chunked']])(
    '68: a request for an upgrade that announces a body (%s) is refused before the target hears of it',
    async (body) => {
      const upgrade = `POST /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n${body}\r\n\r\n`;
      expect(await say(upgrade)).toMatch(/^HTTP\/1.1 400 /);
      // the next one would have been taken for that body, and what is in its own body for a request
      expect(
        await say(`POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: ${SECRET.length}\r\n\r\n${SECRET}`),
      ).toMatch(/^HTTP\/1.1 200/);
      await until(() => heard.join('').includes('/secrets'));
      expect(await requestsIn(heard.join(''))).toEqual(['POST /next as ann']);
    },
  );

  it('68: a coding that our parser does not undo is refused', async () => {
    expect(
      await say('POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
    ).toMatch(/^HTTP\/1.1 400 /);
    expect(heard).toEqual([]);
  });

  it('68: what a client must not say in its headers it does not say in its trailers', async () => {
    await say(
      'POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Impersonate-User, X-Sum\r\n\r\n2\r\nhi\r\n0\r\nImpersonate-User: root\r\nX-Sum: 1\r\n\r\n',
    );
    await until(() => heard.join('').endsWith('0\r\nX-Sum: 1\r\n\r\n'));
    expect(heard.join('')).not.toContain('root');
  });

  it('an upgrade whose body is said to be empty passes', async () => {
    reply = 'HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nok';
    expect(
      await say(
        'POST /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n',
      ),
    ).toMatch(/^HTTP\/1.1 101 Go\r\n/);
    expect(heard.join('')).toContain('Content-Length: 0\r\n');
  });
});

describe('an answer that Node reads and does not write', () => {
  const ask = 'GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const askUpgrade = 'GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n';

  it.each([ask, askUpgrade])('68: control characters in its reason are taken out: %j', async (asked) => {
    reply = 'HTTP/1.1 200 b\x01a\x7fd\r\nContent-Length: 2\r\n\r\nok';
    expect(await say(asked)).toMatch(/^HTTP\/1.1 200 bad\r\n/);
  });

  it.each([ask, askUpgrade])(
    '68: a status that is none is a coded failure, not the end of the process: %j',
    async (asked) => {
      reply = 'HTTP/1.1 007 Bond\r\nContent-Length: 2\r\n\r\nok';
      const got = await say(asked);
      expect(got).toMatch(/^HTTP\/1.1 503 /);
      expect(got).toContain('"code":"TEMPORARY"');
      reply = OK;
      expect(await say(ask)).toMatch(/^HTTP\/1.1 200/);
    },
  );

  it('68: bytes that are no HTTP at all are a coded failure', async () => {
    for (const odd of [
      '\0\0\0\0',
      'SSH-2.0-x\r\n',
      'HTTP/1.1 200 x\r\nA\0: b\r\n\r\n',
      `HTTP/1.1 200 x\r\nA: ${'b'.repeat(100_000)}\r\n\r\n`,
    ]) {
      reply = odd;
      const got = await say(ask);
      expect(got).toMatch(/^HTTP\/1.1 50\d /);
      expect(got).toContain('"code":"KUBE_UNREACHABLE"');
    }
  });
});
