/** What a client or a target may try with the reverse proxy: requests inside requests, and answers that are none. */
import { once } from 'node:events';
import http from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { createReverseProxy, type ReverseProxy } from '../../src/tunnel/reverse-proxy.ts';
import { isCarriedUpgrade } from '../../src/tunnel/upgrade-exchange.ts';
import { upstreamAgent } from '../../src/tunnel/upstream-agent.ts';
import { until } from '../support/tunnel-pair.ts';
import { type Listening, tcpServer } from '../support/wire.ts';

/** A target that says what the test wants at each piece of bytes, and keeps what it heard on each connection. */
let heard: string[] = [];
let reply = '';
let target: Listening;
let agent: http.Agent;
let proxied: ReverseProxy;
const server = http.createServer({ shouldUpgradeCallback: isCarriedUpgrade });

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

beforeAll(async () => {
  target = await tcpServer((socket) => {
    const at = heard.push('') - 1;
    socket.on('data', (bytes: Buffer) => {
      heard[at] += bytes.toString('latin1');
      socket.write(reply, 'latin1');
    });
  });
  agent = upstreamAgent({ url: new URL(`http://127.0.0.1:${target.port}`), clock: unhurriedClock });
  proxied = createReverseProxy({
    route: (request) => ({
      agent,
      host: 'target',
      path: request.url ?? '/',
      setHeaders: { 'Impersonate-User': 'ann' },
      drops: (name) => name.startsWith('impersonate-'),
    }),
    unreachable: (cause) => new PcgError('KUBE_UNREACHABLE', 'target down', { cause }),
    log: silentLog,
  });
  proxied.attach(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterAll(async () => {
  agent.destroy();
  server.closeAllConnections();
  server.close();
  await target[Symbol.asyncDispose]();
});

beforeEach(async () => {
  target.cut();
  // a connection that is kept for later, and gone, must not be taken for the next request
  await until(() => target.sockets.size === 0 && Object.keys(agent.freeSockets).length === 0);
  heard = [];
  reply = OK;
});

/** Sends bytes as a client and returns what came back by the time that `enough` says so, or the end. */
async function say(
  text: string,
  enough = /ok$|\r\n\r\n\{.*\}$|0\r\n\r\n$/s,
  to: http.Server = server,
): Promise<string> {
  const client: Socket = connect((to.address() as AddressInfo).port, '127.0.0.1');
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

  it('68: where a request ends and whom it is for is not said in its trailers either', async () => {
    await say(
      'POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nHost: evil\r\nExpect: 100-continue\r\nX-Sum: 1\r\n\r\n',
    );
    await until(() => heard.join('').endsWith('0\r\nX-Sum: 1\r\n\r\n'));
  });

  it('68: TRACE, whose answer would show what only the gateway says to the target, is refused', async () => {
    expect(await say('TRACE /x HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /);
    expect(heard).toEqual([]);
  });

  it.each(['h2c', 'websocket, h2c', 'TLS/1.0'])(
    '68: an upgrade to %s is a plain request: behind it anybody could speak with the rights of the gateway',
    async (protocol) => {
      reply = 'HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n';
      const ask = `GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`;
      expect(await say(ask)).toMatch(/^HTTP\/1.1 50\d /);
      expect(heard.join('')).not.toMatch(/upgrade|http2/i);
      reply = OK;
      expect(await say(ask)).toMatch(/^HTTP\/1.1 200/);
      // a server that hands over every upgrade is none that this proxy serves
      const strict = http.createServer();
      proxied.attach(strict);
      strict.listen(0, '127.0.0.1');
      await once(strict, 'listening');
      const before = heard.length;
      expect(await say(ask, /\}$/, strict)).toMatch(/^HTTP\/1.1 400 /);
      expect(heard).toHaveLength(before);
      strict.closeAllConnections();
      strict.close();
    },
  );

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

  const noTrailers = [
    ['GET', '1.1', 'Content-Length: 2\r\n\r\nok', /^HTTP\/1.1 200 [^]*ok$/],
    ['HEAD', '1.1', 'Content-Length: 2\r\n\r\n', /^HTTP\/1.1 200 [^]*\r\n\r\n$/],
    ['HEAD', '1.1', 'Transfer-Encoding: chunked\r\n\r\n', /^HTTP\/1.1 200 [^]*\r\n\r\n$/],
    [
      'GET',
      '1.0',
      'Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n',
      /^HTTP\/1.1 200 [^]*ok$/,
    ],
  ] as const;
  for (const [method, version, rest, wanted] of noTrailers)
    it(`68: trailers that are announced where none can follow do not end the process: ${method} of HTTP/${version}, ${rest.split(':', 1)[0]}`, async () => {
      reply = `HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n${rest}`;
      const got = await say(`${method} /x HTTP/${version}\r\nHost: x\r\nConnection: close\r\n\r\n`, wanted);
      expect(got).toMatch(wanted);
      expect(got).not.toMatch(/trailer|x-sum/i);
    });

  it('68: trailers that are announced for a body of known length are not announced to the target', async () => {
    const got = await say(
      'POST /x HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi',
    );
    expect(got).toMatch(/^HTTP\/1.1 200/);
    expect(heard.join('')).not.toMatch(/trailer/i);
  });

  it('a body behind a status that has none goes nowhere', async () => {
    reply = 'HTTP/1.1 204 No\r\nTrailer: X-Sum\r\n\r\n';
    expect(await say(ask, /\r\n\r\n$/)).toMatch(/^HTTP\/1.1 204 /);
  });

  it('68: 100 Continue without end, and unasked, is not kept for a client that reads nothing', async () => {
    reply = `${'HTTP/1.1 100 Continue\r\n\r\n'.repeat(1000)}${OK}`;
    expect(await say(ask)).toMatch(/^HTTP\/1.1 200/);
    const expecting =
      'POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';
    expect((await say(expecting)).match(/100 Continue/g)).toHaveLength(1);
  });

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

describe('a head that is not ASCII', () => {
  /** UTF-8, Latin-1, and bytes that are neither: here and in Node a character stands for a byte. */
  const VALUE = 'n\xc3\xa9e \xe9\xff\x80';
  const NAMED = `X-Name: ${VALUE}\r\n`;

  it.each([
    ['without a body', 'GET /x', '', ''],
    ['with a body', 'POST /x', 'Content-Length: 2\r\n', 'hi'],
    ['with a body in chunks', 'POST /x', 'Transfer-Encoding: chunked\r\n', '2\r\nhi\r\n0\r\n\r\n'],
    ['that expects 100-continue', 'POST /x', 'Expect: 100-continue\r\nContent-Length: 2\r\n', 'hi'],
    ['for an upgrade', 'POST /x', 'Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n', ''],
  ])('reaches the target byte for byte: a request %s', async (_what, start, more, body) => {
    await say(`${start} HTTP/1.1\r\nHost: x\r\n${more}${NAMED}\r\n${body}`);
    expect(heard.join('')).toContain(NAMED);
    expect(heard.join('')).toContain(`${start} HTTP/1.1\r\n`);
  });

  it.each([
    ['with a body', 'GET', '200 Gr\xfc\xdf', 'Content-Length: 2\r\n', 'ok', /ok$/],
    [
      'with a body in chunks',
      'GET',
      '200 OK',
      'Transfer-Encoding: chunked\r\n',
      '2\r\nok\r\n0\r\n\r\n',
      /0\r\n\r\n$/,
    ],
    ['with an empty body', 'GET', '200 OK', 'Content-Length: 0\r\n', '', /\r\n\r\n$/],
    ['to HEAD', 'HEAD', '200 OK', 'Content-Length: 2\r\n', '', /\r\n\r\n$/],
    ['that has no body', 'GET', '304 Same', '', '', /\r\n\r\n$/],
    ['to a request for an upgrade', 'UPGRADE', '403 N\xf6', 'Content-Length: 2\r\n', 'ok', /ok$/],
    ['that upgrades', 'UPGRADE', '101 J\xe4', 'Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n', 'ok', /ok$/],
  ])('reaches the client byte for byte: an answer %s', async (_what, method, status, more, body, enough) => {
    reply = `HTTP/1.1 ${status}\r\n${more}${NAMED}\r\n${body}`;
    const start =
      method === 'UPGRADE'
        ? 'GET /x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n'
        : `${method} /x HTTP/1.1\r\n`;
    const got = await say(`${start}Host: x\r\n\r\n`, enough);
    expect(got).toContain(NAMED);
    expect(got).toContain(`HTTP/1.1 ${status}\r\n`);
  });

  it('reaches both byte for byte: trailers', async () => {
    reply = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Name\r\n\r\n2\r\nok\r\n0\r\n${NAMED}\r\n`;
    const got = await say(
      `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Name\r\n\r\n2\r\nhi\r\n0\r\n${NAMED}\r\n`,
      /0\r\n.*\r\n\r\n$/s,
    );
    expect(got.endsWith(`0\r\n${NAMED}\r\n`)).toBe(true);
    await until(() => heard.join('').endsWith(`0\r\n${NAMED}\r\n`));
  });
});
