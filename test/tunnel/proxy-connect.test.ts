import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer as createTlsServer } from 'node:tls';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { describeError, PcgError, toProblem } from '../../src/base/errors.ts';
import { connectOrigin } from '../../src/tunnel/connect-origin.ts';
import { connectThroughProxy } from '../../src/tunnel/proxy-connect.ts';
import { parseProxyUrl } from '../../src/tunnel/proxy-env.ts';
import { eventually, GIVE_UP_MS } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { describeWith } from '../support/needs.ts';
import { startSquid, startTinyproxy } from '../support/real-proxies.ts';
import {
  closedPort,
  connectProxy,
  httpServer,
  httpsServer,
  listen,
  tcpServer,
  testCa,
} from '../support/wire.ts';

const clock = unhurriedClock;
const DRIP_MS = 10;
/** Less than any deadline. */
const STEP_MS = 5_000;

function through(
  proxyUrl: string,
  port: number,
  extra: { timeoutMs?: number; caPem?: string; signal?: AbortSignal; host?: string; clock?: Clock } = {},
) {
  return connectThroughProxy({ proxy: parseProxyUrl(proxyUrl), host: '127.0.0.1', port, clock, ...extra });
}

/** A server that hears what is said to it and answers nothing, or what `serve` says. */
async function silentServer(serve: (socket: Socket) => void = () => {}) {
  const asked = Promise.withResolvers<void>();
  const server = await tcpServer((socket) => {
    socket.once('data', () => asked.resolve()).resume();
    serve(socket);
  });
  return {
    server,
    /**
     * Runs `attempt` on a clock that stands still until its first words have come, and then passes every deadline: in steps,
     * between which the server says more.
     */
    async outlasting<T>(attempt: (still: Clock) => Promise<T>): Promise<T> {
      const still = new ManualClock();
      const outcome = attempt(still);
      let ended = false;
      const end = (): void => void (ended = true);
      outcome.then(end, end);
      await asked.promise;
      for (let passed = 0; passed < GIVE_UP_MS; passed += STEP_MS) {
        await still.advance(STEP_MS);
        await systemClock.sleep(2 * DRIP_MS);
      }
      await eventually(() => ended);
      return await outcome;
    },
  };
}

const echo = () => tcpServer((socket) => void socket.pipe(socket));

describe('CONNECT through scripted proxies', () => {
  it('opens a byte pipe both ways, with half-close', async () => {
    await using target = await echo();
    await using proxy = await connectProxy();
    const socket = await through(proxy.url, target.port);
    socket.end('hello');
    expect(await text(socket)).toBe('hello');
    expect(proxy.seen).toEqual([{ target: `127.0.0.1:${target.port}`, authorization: undefined }]);
  });

  it('59: keeps the bytes that come in one segment with the 200', async () => {
    await using target = await echo();
    await using proxy = await connectProxy((_asked, _client, pipe) => pipe('early '));
    const socket = await through(proxy.url, target.port);
    socket.end('bird');
    expect(await text(socket)).toBe('early bird');
  });

  it('59: a TLS proxy is verified against the extra CA, and refused without it', async () => {
    const ca = await testCa();
    await using target = await echo();
    await using proxy = await connectProxy(undefined, await ca.issue({}));
    const socket = await through(proxy.url.replace('://', '://u:p@'), target.port, { caPem: ca.pem });
    expect(await echoed(socket, 'over tls')).toBe('over tls');
    await expect(through(proxy.url, target.port)).rejects.toMatchObject({
      code: 'TLS_FAILED',
      details: { peer: 'proxy' },
    });
    expect(proxy.seen).toHaveLength(1);
  });

  it.each([
    [407, 'PROXY_AUTH_REQUIRED'],
    [403, 'PROXY_REFUSED'],
    [502, 'PROXY_REFUSED'],
    [503, 'PROXY_REFUSED'],
    [504, 'PROXY_REFUSED'],
    [302, 'PROXY_REFUSED'],
    [500, 'PROXY_REFUSED'],
  ])('53: status %d is %s and names the status', async (status, code) => {
    await using proxy = await connectProxy((_asked, client) => {
      client.end(
        `HTTP/1.1 ${status} No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 3\r\n\r\nno!`,
      );
    });
    await expect(through(proxy.url, 443)).rejects.toMatchObject({
      code,
      details: { status, target: '127.0.0.1:443' },
    });
  });

  it('53: says so when a proxy offers no scheme that we speak', async () => {
    await using proxy = await connectProxy((_asked, client) => {
      client.end('HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n');
    });
    await expect(through(proxy.url, 443)).rejects.toMatchObject({
      code: 'PROXY_AUTH_REQUIRED',
      fix: expect.stringContaining('negotiate, ntlm'),
    });
  });

  it('53: unreachable, silent, dripping, cutting and babbling proxies have their own codes', async () => {
    await expect(through(`http://127.0.0.1:${await closedPort()}`, 443)).rejects.toMatchObject({
      code: 'PROXY_UNREACHABLE',
    });
    await expect(through('http://proxy.invalid:3128', 443)).rejects.toMatchObject({
      code: 'PROXY_UNREACHABLE',
    });
    const silent = await silentServer();
    await using _silent = silent.server;
    await expect(
      silent.outlasting((still) => through(`http://127.0.0.1:${silent.server.port}`, 443, { clock: still })),
    ).rejects.toMatchObject({
      code: 'PROXY_TIMEOUT',
      details: { stage: 'answer' },
    });
    const dripping = await silentServer((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nX: ');
      const drip = setInterval(() => socket.write('x'), DRIP_MS);
      socket.on('close', () => clearInterval(drip));
    });
    await using _dripping = dripping.server;
    await expect(
      dripping.outlasting((still) =>
        through(`http://127.0.0.1:${dripping.server.port}`, 443, { clock: still }),
      ),
    ).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    await using endless = await tcpServer((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${'X-Y: 1234567890\r\n'.repeat(5000)}`);
    });
    await expect(through(`http://127.0.0.1:${endless.port}`, 443)).rejects.toMatchObject({
      code: 'PROXY_REFUSED',
    });
    await using cutting = await tcpServer((socket) => void socket.once('data', () => socket.destroy()));
    await expect(through(`http://127.0.0.1:${cutting.port}`, 443)).rejects.toMatchObject({
      code: 'PROXY_REFUSED',
    });
    await using babbling = await tcpServer((socket) => void socket.end('SSH-2.0-OpenSSH\r\n'));
    await expect(through(`http://127.0.0.1:${babbling.port}`, 443)).rejects.toMatchObject({
      code: 'PROXY_REFUSED',
    });
    for (const { server } of [silent, dripping]) await allClosed(server.sockets);
  });

  it("stops at once with the signal's reason, leaving no socket", async () => {
    await using silent = await tcpServer((socket) => void socket.resume());
    const stop = new AbortController();
    const attempt = through(`http://127.0.0.1:${silent.port}`, 443, { signal: stop.signal });
    await once(silent.server, 'connection');
    stop.abort(new Error('shutting down'));
    await expect(attempt).rejects.toThrow('shutting down');
    await expect(through(`http://127.0.0.1:${silent.port}`, 443, { signal: stop.signal })).rejects.toThrow(
      'shutting down',
    );
    await allClosed(silent.sockets);
  });

  it('70: no failure shows the password, in whatever form it is printed', async () => {
    const secret = 'hunter2:@/%';
    const userinfo = `user:${encodeURIComponent(secret)}`;
    const encoded = Buffer.from(`user:${secret}`).toString('base64');
    await using login = await connectProxy((_asked, client) => void client.end('HTTP/1.1 407 No\r\n\r\n'));
    await using silent = await tcpServer((socket) => void socket.resume());
    await using cutting = await tcpServer((socket) => void socket.once('data', () => socket.destroy()));
    for (const port of [login.port, silent.port, cutting.port, await closedPort()]) {
      const error = await through(`http://${userinfo}@127.0.0.1:${port}`, 443, { timeoutMs: 100 }).catch(
        (e: unknown) => e,
      );
      expect(error).toBeInstanceOf(PcgError);
      const printed = [
        inspect(error, { depth: 20, showHidden: true }),
        describeError(error),
        JSON.stringify(toProblem(error)),
      ].join();
      for (const form of [secret, encodeURIComponent(secret), encoded]) expect(printed).not.toContain(form);
    }
  });

  it('68: never lets a host name inject into the request', async () => {
    await using proxy = await connectProxy();
    for (const host of ['a\r\nX: y', 'a b', 'a:1', '', 'a/b', 'x'.repeat(300)]) {
      await expect(through(proxy.url, 443, { host })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    }
    for (const port of [0, -1, 65_536, 1.5, Number.NaN]) {
      await expect(through(proxy.url, port)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    }
    expect(proxy.seen).toEqual([]);
  });
});

describe('the way to the origin, stage by stage (53)', () => {
  const open = (url: string, extra: Partial<Parameters<typeof connectOrigin>[0]> = {}) =>
    connectOrigin({ url: new URL(url), clock, ...extra });
  const reasonOf = async (...args: Parameters<typeof open>) => {
    const outcome = await open(...args);
    if (outcome.kind === 'connected') throw new Error('connected');
    return `${outcome.reason} ${outcome.error.code}`;
  };

  it('names DNS, refused port, black hole, cut and silent TLS, unknown CA, wrong name, expired certificate', async () => {
    const ca = await testCa();
    const other = await testCa();
    expect(await reasonOf('wss://portal.invalid')).toBe('dns PORTAL_UNREACHABLE');
    expect(await reasonOf(`wss://127.0.0.1:${await closedPort()}`)).toBe('tcp-refused PORTAL_UNREACHABLE');
    const silent = await silentServer();
    await using _silent = silent.server;
    expect(
      await silent.outlasting((still) => reasonOf(`wss://127.0.0.1:${silent.server.port}`, { clock: still })),
    ).toBe('tls-timeout PORTAL_UNREACHABLE');
    await using cutting = await tcpServer((socket) => void socket.once('data', () => socket.destroy()));
    expect(await reasonOf(`wss://127.0.0.1:${cutting.port}`)).toBe('tls-cut PORTAL_UNREACHABLE');
    await using plain = await tcpServer((socket) => void socket.end('HTTP/1.1 400 Bad\r\n\r\n'));
    expect(await reasonOf(`wss://127.0.0.1:${plain.port}`)).toBe('tls-failed TLS_FAILED');
    await using good = await httpsServer(await ca.issue({}), (_request, response) => void response.end());
    expect(await reasonOf(`wss://127.0.0.1:${good.port}`)).toBe('tls-failed TLS_FAILED');
    expect(await reasonOf(`wss://127.0.0.1:${good.port}`, { caPem: other.pem })).toBe(
      'tls-failed TLS_FAILED',
    );
    await using misnamed = await httpsServer(
      await ca.issue({ dns: ['else.test'], ip: [] }),
      (_request, response) => void response.end(),
    );
    expect(await reasonOf(`wss://127.0.0.1:${misnamed.port}`, { caPem: ca.pem })).toBe(
      'tls-failed TLS_FAILED',
    );
    const old = await ca.issue({ nowMs: Date.now() - 10 * 86_400_000 });
    await using expired = await httpsServer(old, (_request, response) => void response.end());
    expect(await open(`wss://127.0.0.1:${expired.port}`, { caPem: ca.pem })).toMatchObject({
      reason: 'tls-failed',
      error: { details: { reason: 'CERT_HAS_EXPIRED' }, fix: expect.stringContaining('clock') },
    });
    const outcome = await open(`wss://127.0.0.1:${good.port}`, { caPem: ca.pem });
    expect(outcome).toMatchObject({ kind: 'connected', via: 'direct', secure: true });
    if (outcome.kind === 'connected') outcome.socket.destroy();
  });

  it('60: a middle box that speaks TLS 1.2 only is good enough, one that speaks 1.1 is not', async () => {
    const ca = await testCa();
    const pair = await ca.issue({});
    for (const [version, wanted] of [
      ['TLSv1.2', 'connected'],
      ['TLSv1.1', 'failed'],
    ] as const) {
      const options = {
        key: pair.keyPem,
        cert: pair.certPem,
        minVersion: 'TLSv1' as const,
        maxVersion: version,
      };
      await using server = await listen(
        createTlsServer({ ...options, ciphers: 'DEFAULT@SECLEVEL=0' }) as never,
      );
      const outcome = await open(`wss://127.0.0.1:${server.port}`, { caPem: ca.pem });
      expect(outcome.kind).toBe(wanted);
      if (outcome.kind === 'connected') outcome.socket.destroy();
      else expect(outcome.reason).toBe('tls-failed');
    }
  });

  it('60: a rotated CA file is used at the next attempt', async () => {
    const [before, after] = [await testCa(), await testCa()];
    await using server = await httpsServer(
      await after.issue({}),
      (_request, response) => void response.end(),
    );
    const url = `wss://127.0.0.1:${server.port}`;
    expect(await reasonOf(url, { caPem: before.pem })).toBe('tls-failed TLS_FAILED');
    const outcome = await open(url, { caPem: after.pem });
    expect(outcome.kind).toBe('connected');
    if (outcome.kind === 'connected') outcome.socket.destroy();
  });

  it("59: a proxy that says 200 and then nothing is not the portal's fault", async () => {
    const still = new ManualClock();
    const asked = Promise.withResolvers<void>();
    await using proxy = await connectProxy((_asked, client) => {
      client.once('data', () => asked.resolve());
      client.write('HTTP/1.1 200 OK\r\n\r\n');
    });
    const silence = reasonOf('wss://portal.test', { proxy: { httpsProxy: proxy.url }, clock: still });
    await asked.promise;
    await still.advance(GIVE_UP_MS);
    expect(await silence).toBe('proxy-silent PROXY_TIMEOUT');
  });

  it('names each failure of the proxy', async () => {
    const proxied = (script: string) =>
      connectProxy((_asked, client) => void client.end(`HTTP/1.1 ${script}\r\n\r\n`));
    await using login = await proxied('407 No');
    await using rules = await proxied('403 No');
    expect(await reasonOf('wss://portal.test', { proxy: { httpsProxy: login.url } })).toBe(
      'proxy-auth PROXY_AUTH_REQUIRED',
    );
    expect(await reasonOf('wss://portal.test', { proxy: { httpsProxy: rules.url } })).toBe(
      'proxy-refused PROXY_REFUSED',
    );
    const closed = `http://127.0.0.1:${await closedPort()}`;
    expect(await reasonOf('wss://portal.test', { proxy: { httpsProxy: closed } })).toBe(
      'proxy-unreachable PROXY_UNREACHABLE',
    );
    expect(await reasonOf('wss://portal.test', { proxy: { httpsProxy: 'socks4://x' } })).toBe(
      'bad-url BAD_CONFIG',
    );
  });
});

const DIFFICULT = { user: 'rack-west', password: 'p@s:s/w%rd #1' };
const userinfo = `${DIFFICULT.user}:${encodeURIComponent(DIFFICULT.password)}`;

describeWith(['squid', 'openssl'], 'the real squid', () => {
  it('59: lets us through with difficult credentials and asks for them otherwise', async () => {
    await using target = await echo();
    await using squid = await startSquid({ credentials: DIFFICULT });
    const socket = await through(squid.url.replace('://', `://${userinfo}@`), target.port);
    expect(await echoed(socket, 'through squid')).toBe('through squid');
    await expect(through(squid.url, target.port)).rejects.toMatchObject({
      code: 'PROXY_AUTH_REQUIRED',
      details: { status: 407, schemes: ['basic'] },
    });
    await expect(through(squid.url.replace('://', '://rack-west:wrong@'), target.port)).rejects.toMatchObject(
      {
        code: 'PROXY_AUTH_REQUIRED',
      },
    );
  });

  it('53: its rules are 403 and an unreachable portal is 503, both PROXY_REFUSED', async () => {
    await using squid = await startSquid({ extra: ['acl bad dst 127.0.0.9', 'http_access deny bad'] });
    await expect(through(squid.url, 443, { host: '127.0.0.9' })).rejects.toMatchObject({
      code: 'PROXY_REFUSED',
      details: { status: 403 },
    });
    await expect(through(squid.url, await closedPort())).rejects.toMatchObject({
      code: 'PROXY_REFUSED',
      details: { status: 503 },
      fix: expect.stringContaining('route of the proxy'),
    });
  });

  it('60: inspecting TLS works with its CA as extra CA, and is refused without', async () => {
    const [corporate, portalCa] = [await testCa(), await testCa()];
    // squid writes an address as a DNS name into the certificates that it makes: use a name
    await using origin = await httpsServer(
      await portalCa.issue({ dns: ['localhost'] }),
      (request, response) => {
        response.end(`seen ${request.url}`);
      },
    );
    await using squid = await startSquid({
      inspect: { caPem: corporate.pem, caKeyPem: corporate.keyPem, upstreamCaPem: portalCa.pem },
    });
    const url = new URL(`https://localhost:${origin.port}/`);
    const proxy = { httpsProxy: squid.url };
    const untrusted = await connectOrigin({ url, proxy, caPem: portalCa.pem, clock });
    expect(untrusted).toMatchObject({ kind: 'failed', reason: 'tls-failed', error: { code: 'TLS_FAILED' } });
    const trusted = await connectOrigin({ url, proxy, caPem: corporate.pem, clock });
    if (trusted.kind !== 'connected') throw trusted.error;
    trusted.socket.write(`GET /inspected HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`);
    expect(await text(trusted.socket)).toContain('seen /inspected');
  });
});

describeWith(['tinyproxy'], 'the real tinyproxy', () => {
  it('59: lets us through, with credentials, and refuses other ports', async () => {
    await using target = await echo();
    const credentials = { user: 'rack', password: 'p-s_w.rd' };
    await using proxy = await startTinyproxy({ credentials, connectPorts: [target.port] });
    const socket = await through(proxy.url.replace('://', '://rack:p-s_w.rd@'), target.port);
    expect(await echoed(socket, 'through tinyproxy')).toBe('through tinyproxy');
    await expect(through(proxy.url, target.port)).rejects.toMatchObject({ code: 'PROXY_AUTH_REQUIRED' });
    await expect(through(proxy.url.replace('://', '://rack:p-s_w.rd@'), 444)).rejects.toMatchObject({
      code: 'PROXY_REFUSED',
      details: { status: 403 },
    });
  });

  it('carries a plain HTTP exchange to the origin', async () => {
    await using origin = await httpServer((request, response) => void response.end(`seen ${request.url}`));
    await using proxy = await startTinyproxy();
    const url = new URL(`ws://127.0.0.1:${origin.port}`);
    const outcome = await connectOrigin({ url, proxy: { httpProxy: proxy.url }, clock });
    if (outcome.kind !== 'connected') throw outcome.error;
    outcome.socket.write('GET /x HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n');
    expect(await text(outcome.socket)).toContain('seen /x');
    expect(outcome.via).toBe('proxy');
  });
});

/** For pipes on which a half-close ends both directions, as real proxies have it. */
async function echoed(socket: Duplex, message: string): Promise<string> {
  socket.write(message);
  let got = '';
  while (got.length < message.length) got += ((await once(socket, 'data')) as [Buffer])[0].toString();
  socket.destroy();
  return got;
}

async function allClosed(sockets: ReadonlySet<Socket>): Promise<void> {
  for (const socket of sockets) if (!socket.closed) await once(socket, 'close');
  expect(sockets.size).toBe(0);
}

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
