import { createHash } from 'node:crypto';
import { createServer as createHttps } from 'node:https';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { dial, type DialOptions, parseRetryAfter } from '../../src/tunnel/dial.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { describeWith } from '../support/needs.ts';
import { startSquid, startTinyproxy } from '../support/real-proxies.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { closedPort, connectProxy, httpServer, tcpServer, testCa } from '../support/wire.ts';

const attempt = (url: string, extra: Partial<DialOptions> = {}) =>
  dial({ url, software: 'pcg/test', clock: unhurriedClock, stageTimeoutMs: GIVE_UP_MS, ...extra });

/** A server that answers every upgrade with `answer` (`KEY` becomes the right accept key). */
async function answering(answer: string) {
  const server = await httpServer((_request, response) => void response.writeHead(200).end());
  server.server.on('upgrade', (request, socket: Duplex) => {
    const key = createHash('sha1')
      .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.end(answer.replace('KEY', key).replaceAll('\n', '\r\n'));
  });
  return { ...server, url: `ws://127.0.0.1:${server.port}/tunnel/v1` };
}

async function failureOf(url: string, extra?: Partial<DialOptions>) {
  const outcome = await attempt(url, extra);
  if (outcome.kind === 'connected') throw new Error('connected');
  return outcome;
}

describe('one attempt (53)', () => {
  it.each([
    ['HTTP/1.1 401 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 401],
    ['HTTP/1.1 403 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 403],
    ['HTTP/1.1 404 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 404],
    ['HTTP/1.1 407 No\nContent-Length: 0\n\n', 'proxy-auth', 'PROXY_AUTH_REQUIRED', 407],
    ['HTTP/1.1 426 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 426],
    ['HTTP/1.1 429 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 429],
    ['HTTP/1.1 502 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 502],
    ['HTTP/1.1 503 No\nContent-Length: 0\n\n', 'rejected', 'PORTAL_UNREACHABLE', 503],
    [
      'HTTP/1.1 301 No\nLocation: https://login.test/\nContent-Length: 0\n\n',
      'redirected',
      'PORTAL_UNREACHABLE',
      301,
    ],
    [
      'HTTP/1.1 302 No\nLocation: https://login.test/\nContent-Length: 0\n\n',
      'redirected',
      'PORTAL_UNREACHABLE',
      302,
    ],
    [
      'HTTP/1.1 200 OK\nContent-Type: text/html\n\n<html>please sign in</html>',
      'not-a-portal',
      'PORTAL_UNREACHABLE',
      200,
    ],
    [
      'HTTP/1.1 101 OK\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Protocol: pcg.tunnel.v1\nSec-WebSocket-Accept: wrong\n\n',
      'bad-upgrade',
      'PORTAL_UNREACHABLE',
      undefined,
    ],
    [
      'HTTP/1.1 101 OK\nUpgrade: h2c\nConnection: Upgrade\nSec-WebSocket-Protocol: pcg.tunnel.v1\n\n',
      'bad-upgrade',
      'PORTAL_UNREACHABLE',
      undefined,
    ],
    [
      'HTTP/1.1 101 OK\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: KEY\n\n',
      'no-subprotocol',
      'PORTAL_UNREACHABLE',
      undefined,
    ],
    ['SSH-2.0-OpenSSH_9.2\n', 'upgrade-cut', 'PORTAL_UNREACHABLE', undefined],
  ])('%j is %s', async (answer, reason, code, status) => {
    await using server = await answering(answer);
    const outcome = await failureOf(server.url);
    expect([outcome.reason, outcome.error.code, outcome.status]).toEqual([reason, code, status]);
    expect(outcome.error.fix).not.toBe('');
    await until(() => server.sockets.size === 0);
  });

  it('reads Retry-After in seconds and as a date, and ignores nonsense', async () => {
    await using server = await answering('HTTP/1.1 503 Wait\nRetry-After: 7\nContent-Length: 0\n\n');
    expect(await failureOf(server.url)).toMatchObject({ status: 503, retryAfterMs: 7000 });
    const now = Date.parse('2026-11-21T10:00:00Z');
    expect(parseRetryAfter('Sat, 21 Nov 2026 10:00:30 GMT', now)).toBe(30_000);
    expect(parseRetryAfter('Sat, 21 Nov 2026 09:00:00 GMT', now)).toBe(0);
    expect(parseRetryAfter('999999999', now)).toBe(3_600_000);
    for (const text of [undefined, '', 'soon', '-5', '1.5e'])
      expect(parseRetryAfter(text, now)).toBeUndefined();
  });

  it('names DNS, a closed port, a cut, silence, and a URL that is none', async () => {
    expect(await failureOf('wss://portal.invalid/x')).toMatchObject({ reason: 'dns' });
    expect(await failureOf(`ws://127.0.0.1:${await closedPort()}`)).toMatchObject({ reason: 'tcp-refused' });
    await using cutting = await tcpServer((socket) => void socket.once('data', () => socket.destroy()));
    expect(await failureOf(`ws://127.0.0.1:${cutting.port}`)).toMatchObject({ reason: 'upgrade-cut' });
    const clock = new ManualClock();
    const asked = Promise.withResolvers<void>();
    await using silent = await tcpServer((socket) => void socket.on('data', () => asked.resolve()));
    const silence = failureOf(`ws://127.0.0.1:${silent.port}`, { clock });
    await asked.promise;
    await clock.advance(GIVE_UP_MS);
    expect(await silence).toMatchObject({
      reason: 'upgrade-timeout',
      error: { code: 'PORTAL_UNREACHABLE' },
    });
    await until(() => silent.sockets.size === 0);
    for (const url of ['', 'portal', 'https://portal.test', 'file:///etc/passwd']) {
      expect(await failureOf(url)).toMatchObject({ reason: 'bad-url', error: { code: 'BAD_CONFIG' } });
    }
  });

  it('59: a proxy that opens the way and then is silent is told from a silent portal', async () => {
    const clock = new ManualClock();
    const asked = Promise.withResolvers<void>();
    await using proxy = await connectProxy(
      (_asked, client) =>
        void client
          .on('end', () => client.end())
          .on('data', () => asked.resolve())
          .write('HTTP/1.1 200 OK\r\n\r\n'),
    );
    const silence = failureOf('ws://portal.test/x', { proxy: { httpProxy: proxy.url }, clock });
    await asked.promise;
    await clock.advance(GIVE_UP_MS);
    expect(await silence).toMatchObject({ reason: 'proxy-silent', error: { code: 'PROXY_TIMEOUT' } });
    await until(() => proxy.sockets.size === 0);
  });

  it('stops at once with the signal, at every stage', async () => {
    await using silent = await tcpServer((socket) => void socket.resume());
    for (const url of [`ws://127.0.0.1:${silent.port}`, `wss://127.0.0.1:${silent.port}`]) {
      const stop = new AbortController();
      const dialling = attempt(url, { signal: stop.signal });
      await until(() => silent.sockets.size === 1);
      stop.abort(new Error('enough'));
      await expect(dialling).rejects.toThrow('enough');
      await until(() => silent.sockets.size === 0);
    }
  });
});

describe('a portal behind TLS', () => {
  async function tlsPortal() {
    const ca = await testCa();
    const pair = await ca.issue({ dns: ['localhost'] });
    const http = createHttps({ key: pair.keyPem, cert: pair.certPem }) as unknown as Server;
    const portal = await startPortal({ http });
    return { ca, portal, url: `wss://localhost:${portal.port}/tunnel/v1` };
  }

  it('is reached with its CA, and says that the CA is an extra one', async () => {
    const { ca, portal, url } = await tlsPortal();
    await using _portal = portal;
    const outcome = await attempt(url, { caPem: ca.pem });
    expect(outcome).toMatchObject({ kind: 'connected', via: 'direct', extraCa: true });
    if (outcome.kind === 'connected') outcome.webSocket.terminate();
    expect(await failureOf(url)).toMatchObject({ reason: 'tls-failed' });
    await using gateway = startGateway(portal, { url, caPem: async () => ca.pem });
    await gateway.connected();
  });

  describeWith(['squid', 'openssl'], 'behind the real squid', () => {
    it('59, 60: with credentials and with TLS inspection, the tunnel works and is the same tunnel', async () => {
      const { ca, portal, url } = await tlsPortal();
      await using _portal = portal;
      const credentials = { user: 'rack', password: 'p@ss:w/rd%' };
      await using plain = await startSquid({ credentials });
      const corporate = await testCa();
      await using inspecting = await startSquid({
        inspect: { caPem: corporate.pem, caKeyPem: corporate.keyPem, upstreamCaPem: ca.pem },
      });
      {
        const httpsProxy = plain.url.replace('://', '://rack:p%40ss%3Aw%2Frd%25@');
        await using gateway = startGateway(portal, { url, caPem: ca.pem, proxy: { httpsProxy } });
        await gateway.connected();
      }
      {
        await using gateway = startGateway(portal, {
          url,
          caPem: corporate.pem,
          proxy: { httpsProxy: inspecting.url },
        });
        await gateway.connected();
        gateway.store.addEvents(3);
        await until(() => portal.storeOf('gw-1').events.length === 3);
      }
      // whoever inspects TLS can still not pretend to be the portal
      await using impostor = startGateway(portal, {
        url,
        caPem: corporate.pem,
        proxy: { httpsProxy: inspecting.url },
        portalKey: generateIdentity().publicKey,
      });
      expect(await impostor.stateIs('waiting')).toMatchObject({ cause: { code: 'PORTAL_UNTRUSTED' } });
    });
  });

  describeWith(['tinyproxy'], 'behind the real tinyproxy', () => {
    it('59: connects, and says what is missing when the proxy is gone', async () => {
      const { ca, portal, url } = await tlsPortal();
      await using _portal = portal;
      await using proxy = await startTinyproxy();
      await using gateway = startGateway(portal, { url, caPem: ca.pem, proxy: { httpsProxy: proxy.url } });
      await gateway.connected();
      await proxy[Symbol.asyncDispose]();
      expect(await gateway.stateIs('waiting')).toMatchObject({
        cause: { code: expect.stringMatching(/PORTAL_UNREACHABLE|PROXY_UNREACHABLE/) },
      });
    });
  });
});

describe('middle boxes (59)', () => {
  it('a proxy that strips the subprotocol costs one attempt', async () => {
    await using portal = await startPortal();
    await using box = await tcpServer((client) => {
      client.once('data', (head: Buffer) => {
        const request = head.toString('latin1').replace(/^sec-websocket-protocol:.*\r\n/im, '');
        const upstream = connect(portal.port, '127.0.0.1');
        upstream.write(request, 'latin1');
        client.pipe(upstream).pipe(client);
        client.on('close', () => upstream.destroy());
      });
    });
    await using gateway = startGateway(portal, {
      url: `ws://127.0.0.1:${box.port}/tunnel/v1`,
      random: () => 0,
    });
    await gateway.connected();
    const causes = gateway.states.flatMap((state) =>
      state.state === 'waiting' ? [state.cause.message] : [],
    );
    expect(causes).toHaveLength(1);
  });

  describe('one that holds back the first kilobyte of each way', () => {
    const KB = { holdBytes: 1024 };

    it('59: until it is whole does not hold up a tunnel over TLS, nor its resumption', async () => {
      const ca = await testCa();
      const pair = await ca.issue({ dns: ['localhost'] });
      await using portal = await startPortal({
        http: createHttps({ key: pair.keyPem, cert: pair.certPem }) as unknown as Server,
      });
      await using box = await FaultProxy.to(portal.port, { up: KB, down: KB });
      await using gateway = startGateway(portal, {
        url: `wss://localhost:${box.port}/tunnel/v1`,
        caPem: ca.pem,
        random: () => 0,
      });
      await gateway.connected();
      for (let epoch = 1; epoch <= 3; epoch += 1) {
        await until(() => portal.server.roster.get('gw-1')?.epoch === epoch);
        const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
        stream.end('x');
        expect((await readAll(stream)).toString()).toBe('x');
        box.cut();
      }
    });

    it('59: or for some time costs that time, in the open too', async () => {
      const held = { ...KB, holdMs: 300 };
      await using portal = await startPortal();
      await using box = await FaultProxy.to(portal.port, { up: held, down: held });
      await using gateway = startGateway(portal, { url: `ws://127.0.0.1:${box.port}/tunnel/v1` });
      await gateway.connected();
      expect(gateway.states.filter(({ state }) => state === 'waiting')).toEqual([]);
    });

    it('59: for ever, in the open, is an upgrade that nobody answers', async () => {
      await using portal = await startPortal();
      await using box = await FaultProxy.to(portal.port, { up: KB, down: KB });
      const url = `ws://127.0.0.1:${box.port}/tunnel/v1`;
      const clock = new ManualClock();
      const upgrading = failureOf(url, { clock });
      await until(() => box.waiting('up') > 0);
      await clock.advance(GIVE_UP_MS);
      expect(await upgrading).toMatchObject({
        reason: 'upgrade-timeout',
        error: { code: 'PORTAL_UNREACHABLE' },
      });
      // and the same way works once it lets go
      box.set('up', { holdBytes: undefined });
      box.set('down', { holdBytes: undefined });
      await using gateway = startGateway(portal, { url });
      await gateway.connected();
    });
  });

  it('one that cuts idle connections is noticed and the session goes on', async () => {
    await using portal = await startPortal();
    await using proxy = await connectProxy();
    await using gateway = startGateway(portal, { proxy: { httpProxy: proxy.url }, random: () => 0 });
    await gateway.connected();
    for (let round = 2; round <= 4; round += 1) {
      proxy.cut();
      await until(() => portal.server.roster.get('gw-1')?.epoch === round);
    }
    expect(portal.server.roster.list()).toHaveLength(1);
  });
});
