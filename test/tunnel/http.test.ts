import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Dispatcher, request } from 'undici';
import { WebSocket, WebSocketServer } from 'ws';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import { createTargetServer, httpTarget, openOf } from '../../src/tunnel/http.ts';
import type { OpenOptions, Tunnel } from '../../src/tunnel/ports.ts';
import { createReverseProxy } from '../../src/tunnel/reverse-proxy.ts';
import { upstreamAgent } from '../../src/tunnel/upstream-agent.ts';
import { tunnelDispatcher } from '../support/tunnel-dispatcher.ts';
import {
  startGateway,
  startPortal,
  type TestGateway,
  type TestPortal,
  until,
} from '../support/tunnel-pair.ts';
import { closedPort, httpServer, type Listening } from '../support/wire.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** What the target saw of each request. */
interface Seen {
  readonly method: string;
  readonly url: string;
  readonly raw: string[];
  body: string;
  trailers: string[];
  aborted: boolean;
}

describe('HTTP through the tunnel and the reverse proxy to a real server', () => {
  const seen: Seen[] = [];
  let origin: Listening<http.Server>;
  let portal: TestPortal;
  let gateway: TestGateway;
  let tunnel: Tunnel;
  let opened = 0;
  let bulkServer: http.Server | undefined;
  let dispatcher: Dispatcher;
  let agent: http.Agent;
  const streams = new Set<Duplex>();

  beforeAll(async () => {
    origin = await httpServer(handle);
    origin.server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
      if (req.url === '/too-large') return void res.writeHead(413).end('no');
      res.writeContinue();
      handle(req, res);
    });
    origin.server.on('upgrade', upgrade);
    const url = new URL(`http://127.0.0.1:${origin.port}`);
    agent = upstreamAgent({ url, clock: unhurriedClock });
    const proxy = createReverseProxy({
      route: (incoming) => ({
        agent,
        host: url.host,
        path: incoming.url ?? '/',
        setHeaders: { 'X-User': openOf(incoming)?.principal?.user ?? 'nobody', 'X-Many': ['a', 'b'] },
        drops: (name) => name === 'authorization' || name === 'x-user',
      }),
      unreachable: (cause) => new PcgError('MAAS_UNREACHABLE', 'target down', { cause }),
      log: silentLog,
    });
    const server = createTargetServer();
    proxy.attach(server);
    portal = await startPortal();
    gateway = startGateway(portal, {
      targets: async (open) => {
        opened += 1;
        if (open.target === 'maas:denied') throw new StreamError(STREAM.DENIED);
        const stream = httpTarget(open.target === 'kube:bulk' ? bulkServer! : server, open, unhurriedClock);
        streams.add(stream);
        stream.once('close', () => streams.delete(stream));
        return stream;
      },
    });
    await gateway.connected();
    tunnel = portal.server.roster.tunnel('gw-1');
    dispatcher = tunnelDispatcher(tunnel, { target: 'maas:one', principal: { user: 'ann', groups: [] } });
  });

  afterAll(async () => {
    await dispatcher.close();
    await gateway.stop();
    await portal[Symbol.asyncDispose]();
    agent.destroy();
    await origin[Symbol.asyncDispose]();
    await until(() => streams.size === 0);
  });

  function handle(req: IncomingMessage, res: ServerResponse): void {
    const entry: Seen = {
      method: req.method ?? '',
      url: req.url ?? '',
      raw: req.rawHeaders,
      body: '',
      trailers: [],
      aborted: false,
    };
    seen.push(entry);
    req.on('data', (chunk: Buffer) => (entry.body += chunk.toString()));
    req.on('error', () => {});
    req.on('close', () => (entry.aborted = !req.complete));
    const path = entry.url.split('?')[0];
    if (path === '/sse') {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.flushHeaders();
      let n = 0;
      const timer = setInterval(() => res.write(`data: ${n++}\n\n`), 100);
      return void res.on('close', () => clearInterval(timer));
    }
    if (path === '/silent') return;
    if (path === '/break') {
      res.writeHead(200, { 'content-length': '100' });
      res.write('only this');
      return void setImmediate(() => res.destroy());
    }
    if (path === '/cut') return void req.socket.destroy();
    req.on('end', () => {
      entry.trailers = req.rawTrailers;
      if (path === '/status') {
        const status = Number(new URL(entry.url, 'http://x').searchParams.get('code'));
        res.writeHead(status, 'As It Is', [
          'X-Two',
          'one',
          'X-Two',
          'two',
          'Set-Cookie',
          'a=1',
          'Set-Cookie',
          'b=2',
          'Content-Length',
          status === 204 || status === 304 ? '0' : '4',
        ]);
        return void res.end(status === 204 || status === 304 ? undefined : 'body');
      }
      if (path === '/trailers') {
        res.writeHead(200, { trailer: 'X-Sum' });
        res.write('chunk');
        res.addTrailers({ 'X-Sum': 'abc' });
        return void res.end();
      }
      res.end(entry.body || 'hello');
    });
  }

  function upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {});
    if (req.url === '/ws') {
      const server = new WebSocketServer({ noServer: true });
      server.handleUpgrade(req, socket, head, (webSocket) => {
        webSocket.on('message', (data, binary) => webSocket.send(data, { binary }));
        webSocket.send('first words');
        webSocket.on('close', (code) => (closedWith = code));
      });
      return;
    }
    if (req.url === '/refused') {
      return void socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nX-Why: rules\r\n\r\nnope');
    }
    // SPDY/3.1 as kubectl asks for it: from here on opaque bytes
    const early = `from the server in one segment;`;
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n${early}`,
    );
    if (head.length > 0) socket.write(head);
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end('the end'));
  }
  let closedWith = 0;

  const ask = (path: string, options: Partial<Dispatcher.RequestOptions> = {}) =>
    request(`http://maas${path}`, { dispatcher, method: 'GET', ...options } as never);

  it('passes method, path, repeated headers and body as they are, and the gateway speaks for the user', async () => {
    const answer = await ask('/a%2Fb?x=1&x=%20', {
      method: 'PUT',
      headers: [
        'X-Case',
        'Kept',
        'X-Twice',
        '1',
        'X-Twice',
        '2',
        'Authorization',
        'Bearer stolen',
        'X-User',
        'root',
      ],
      body: 'payload',
    });
    expect([answer.statusCode, await answer.body.text()]).toEqual([200, 'payload']);
    const got = seen.at(-1)!;
    expect([got.method, got.url, got.body]).toEqual(['PUT', '/a%2Fb?x=1&x=%20', 'payload']);
    const of = (name: string) =>
      got.raw.filter((_value, at) => got.raw[at - 1]?.toLowerCase() === name && at % 2 === 1);
    expect(of('x-twice')).toEqual(['1', '2']);
    expect(of('x-user')).toEqual(['ann']);
    expect(of('x-many')).toEqual(['a', 'b']);
    expect(of('authorization')).toEqual([]);
    expect(of('host')).toEqual([`127.0.0.1:${origin.port}`]);
    expect(got.raw).toContain('X-Case');
  });

  it('74: keep-alive reuses streams', async () => {
    const before = opened;
    for (let n = 0; n < 20; n += 1) await (await ask('/again')).body.dump();
    expect(opened - before).toBeLessThanOrEqual(1);
  });

  it.each([200, 204, 206, 304, 404, 409, 500, 503])(
    '74: status %d passes with its text, headers and body',
    async (code) => {
      const answer = await ask(`/status?code=${code}`);
      expect(answer.statusCode).toBe(code);
      expect(answer.headers['x-two']).toEqual(['one', 'two']);
      expect(answer.headers['set-cookie']).toEqual(['a=1', 'b=2']);
      expect(await answer.body.text()).toBe(code === 204 || code === 304 ? '' : 'body');
      const head = await ask(`/status?code=${code}`, { method: 'HEAD' });
      expect(head.statusCode).toBe(code);
      expect(await head.body.text()).toBe('');
    },
  );

  it('74: chunked trailers pass in both directions', async () => {
    const answer = await ask('/trailers');
    expect(await answer.body.text()).toBe('chunk');
    expect(answer.trailers).toEqual({ 'x-sum': 'abc' });
    const stream = await tunnel.open({ target: 'maas:one' });
    stream.write(
      'POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Check: 42\r\n\r\n',
    );
    expect(await textOf(stream)).toContain('hello');
    expect(seen.at(-1)).toMatchObject({ body: 'hello', trailers: ['X-Check', '42'] });
  });

  it('74: Expect: 100-continue is answered by the target, not by us', async () => {
    const talk = async (path: string): Promise<string> => {
      const stream = await tunnel.open({ target: 'maas:one' });
      stream.write(
        `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`,
      );
      const [first] = (await once(stream, 'data')) as [Buffer];
      if (first.toString().startsWith('HTTP/1.1 100')) stream.write('bytes');
      return first.toString() + (await textOf(stream));
    };
    const accepted = await talk('/up');
    expect(accepted).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/);
    expect(accepted).toContain('bytes');
    expect(await talk('/too-large')).toMatch(/^HTTP\/1.1 413/);
  });

  it('74: an aborted upload is an abort for the target, an aborted download too', async () => {
    const stream = await tunnel.open({ target: 'maas:one' });
    stream.write('POST /aborted HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome');
    await until(() => seen.at(-1)?.url === '/aborted' && seen.at(-1)?.body === 'some');
    stream.destroy(new StreamError(STREAM.CANCELLED));
    await until(() => seen.at(-1)?.aborted === true);
    const stop = new AbortController();
    const answer = await ask('/sse?aborted', { signal: stop.signal });
    const entry = seen.at(-1)!;
    expect(entry.url).toBe('/sse?aborted');
    const reading = answer.body.text();
    stop.abort();
    await expect(reading).rejects.toThrow();
    await until(() => entry.aborted || origin.sockets.size <= 8);
  });

  it('74: an answer that breaks off breaks off for the client, never looks complete', async () => {
    const answer = await ask('/break');
    expect(answer.statusCode).toBe(200);
    await expect(answer.body.text()).rejects.toThrow();
    const cut = await ask('/cut', { method: 'POST', body: 'x' });
    expect(cut.statusCode).toBe(502);
    expect(await cut.body.json()).toMatchObject({ code: 'MAAS_UNREACHABLE' });
  });

  it('74: server-sent events arrive at once: each before the next is sent, and no timer of ours between', async () => {
    const clock = new ManualClock();
    let send = (_text: string): void => {};
    await using source = await httpServer((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.flushHeaders();
      send = (text) => void res.write(text);
    });
    const url = new URL(`http://127.0.0.1:${source.port}`);
    const upstream = upstreamAgent({ url, clock });
    const proxy = createReverseProxy({
      route: () => ({ agent: upstream, host: url.host, path: '/', setHeaders: {}, drops: () => false }),
      unreachable: (cause) => new PcgError('TEMPORARY', 'down', { cause }),
      log: silentLog,
    });
    const server = createTargetServer();
    proxy.attach(server);
    await using still = await startPortal({ clock });
    await using other = startGateway(still, {
      clock,
      targets: async (open) => httpTarget(server, open, clock),
    });
    await other.connected();
    const events = tunnelDispatcher(still.server.roster.tunnel(other.id), { target: 'maas:x' });
    const answer = await request('http://x/', { dispatcher: events });
    const began = clock.monotonic();
    const arriving = answer.body[Symbol.asyncIterator]();
    for (let n = 0; n < 20; n += 1) {
      send(`data: ${n}\n\n`);
      expect(String((await arriving.next()).value)).toBe(`data: ${n}\n\n`);
    }
    expect(clock.monotonic()).toBe(began);
    answer.body.on('error', () => {}).destroy();
    await events.destroy();
    upstream.destroy();
  });

  it('74: a read on a kept-alive connection that the target closed is repeated once, a write never', async () => {
    await (await ask('/warm')).body.dump();
    for (const socket of origin.sockets) socket.destroy();
    expect((await ask('/read')).statusCode).toBe(200);
    const writes = () => seen.filter(({ method, url }) => method === 'POST' && url === '/cut').length;
    const before = writes();
    await (await ask('/cut', { method: 'POST', body: 'x' })).body.dump();
    expect(writes() - before).toBe(1);
  });

  it('73: a WebSocket passes with its first bytes and its close code', async () => {
    const stream = await tunnel.open({ target: 'maas:one' });
    const client = new WebSocket('ws://maas/ws', { createConnection: (() => socketish(stream)) as never });
    const [first] = await once(client, 'message');
    expect(String(first)).toBe('first words');
    client.send(Buffer.alloc(300_000, 7));
    const [echoed] = (await once(client, 'message')) as [Buffer];
    expect(echoed.length).toBe(300_000);
    client.close(4321, 'done');
    await once(client, 'close');
    await until(() => closedWith === 4321);
  });

  it('72, 73: SPDY passes as opaque bytes, with head bytes on both sides and half-close', async () => {
    const stream = await tunnel.open({ target: 'kube:one' });
    stream.write(
      'POST /api/v1/namespaces/x/pods/y/exec?command=sh HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n\x80\x03early client bytes',
    );
    let got = '';
    for await (const chunk of stream) {
      got += String(chunk);
      if (got.endsWith('early client bytes')) stream.end('\x80\x03last');
    }
    expect(got).toMatch(/^HTTP\/1.1 101 Switching Protocols\r\n/);
    expect(got).toContain('X-Stream-Protocol-Version: v4.channel.k8s.io');
    expect(got).toContain('\r\n\r\nfrom the server in one segment;');
    expect(got.endsWith('the end')).toBe(true);
    expect(got).toContain('last');
  });

  it('73: a refused upgrade passes with status, headers and body', async () => {
    const stream = await tunnel.open({ target: 'kube:one' });
    stream.write('GET /refused HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    const answer = await textOf(stream);
    expect(answer).toMatch(/^HTTP\/1.1 403 Forbidden\r\n/);
    expect(answer).toContain('X-Why: rules');
    expect(answer.endsWith('\r\n\r\nnope')).toBe(true);
  });

  it('68: absolute targets, smuggled lengths and split headers do not pass', async () => {
    const talk = async (head: string): Promise<string> => {
      const stream = await tunnel.open({ target: 'maas:one' });
      stream.on('error', () => {});
      stream.write(`${head}\r\n\r\n`);
      return await textOf(stream);
    };
    const before = seen.length;
    expect(await talk('GET http://evil.test/ HTTP/1.1\r\nHost: evil.test')).toMatch(/^HTTP\/1.1 400/);
    expect(await talk('OPTIONS * HTTP/1.1\r\nHost: x')).toMatch(/^HTTP\/1.1 400/);
    expect(
      await talk('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked'),
    ).toMatch(/^HTTP\/1.1 400/);
    expect(await talk('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6')).toMatch(
      /^HTTP\/1.1 400/,
    );
    expect(await talk(`GET / HTTP/1.1\r\nHost: x\r\n${'X-A: b\r\n'.repeat(5000)}X: y`)).toMatch(
      /^HTTP\/1.1 431/,
    );
    expect(seen.length).toBe(before);
  });

  it("an open that is refused rejects the request with the tunnel's code", async () => {
    const denied = tunnelDispatcher(tunnel, { target: 'maas:denied' });
    await expect(request('http://maas/', { dispatcher: denied })).rejects.toMatchObject({
      code: 'ERR_TUNNEL_DENIED',
    });
    await denied.close();
    const offline = tunnelDispatcher(portal.server.roster.tunnel('gw-none'), {
      target: 'agent',
      deadlineMs: 50,
    });
    await expect(request('http://agent/', { dispatcher: offline })).rejects.toMatchObject({
      code: 'GATEWAY_OFFLINE',
    });
    await offline.close();
  });

  it('9: a client that stops reading a large answer holds up nobody else', async () => {
    const full = new Set<ServerResponse>();
    const large = await httpServer((_req, res) => {
      const chunk = Buffer.alloc(65_536, 1);
      const more = (): void => {
        full.delete(res);
        while (res.write(chunk));
        full.add(res);
      };
      res.on('drain', more);
      more();
    });
    await using _large = large;
    const url = new URL(`http://127.0.0.1:${large.port}`);
    const bulkAgent = upstreamAgent({ url, clock: unhurriedClock });
    const bulk = createReverseProxy({
      route: () => ({ agent: bulkAgent, host: url.host, path: '/', setHeaders: {}, drops: () => false }),
      unreachable: (cause) => new PcgError('TEMPORARY', 'down', { cause }),
      log: silentLog,
    });
    const server = createTargetServer();
    bulk.attach(server);
    await using other = startGateway(portal, {
      id: 'gw-bulk',
      targets: async (open: OpenOptions) => httpTarget(server, open, unhurriedClock),
    });
    await other.connected();
    const bulkTunnel = portal.server.roster.tunnel('gw-bulk');
    const stalled = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const stream = await bulkTunnel.open({ target: 'maas:x', class: 3 });
        stream.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
        return stream; // never read
      }),
    );
    await until(() => full.size === stalled.length);
    await unhurriedClock.sleep(200);
    const answer = tunnelDispatcher(bulkTunnel, { target: 'maas:x' });
    const quick = await request('http://x/', { dispatcher: answer });
    expect(quick.statusCode).toBe(200);
    quick.body.on('error', () => {});
    quick.body.destroy();
    for (const stream of stalled) stream.destroy();
    await answer.destroy();
    bulkAgent.destroy();
  });

  it('72: 1 GB of upload arrives byte-exact while 50 event streams stay alive', {
    timeout: 1_800_000,
  }, async () => {
    const stop = new AbortController();
    const counts = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const answer = await ask('/sse', { signal: stop.signal });
        const state = { events: 0 };
        answer.body.on('data', () => (state.events += 1)).on('error', () => {});
        return state;
      }),
    );
    const hash = createHash('sha256');
    await using sink = await httpServer((req, res) => {
      const arrived = createHash('sha256');
      req
        .on('data', (chunk: Buffer) => arrived.update(chunk))
        .on('end', () => res.end(arrived.digest('hex')));
    });
    const url = new URL(`http://127.0.0.1:${sink.port}`);
    const sinkAgent = upstreamAgent({ url, clock: unhurriedClock });
    const copy = createReverseProxy({
      route: () => ({ agent: sinkAgent, host: url.host, path: '/', setHeaders: {}, drops: () => false }),
      unreachable: (cause) => new PcgError('TEMPORARY', 'down', { cause }),
      log: silentLog,
    });
    const server = createTargetServer();
    copy.attach(server);
    bulkServer = server;
    const bulk = tunnelDispatcher(tunnel, { target: 'kube:bulk', class: 3 });
    const before = counts.map(({ events }) => events);
    const answer = await request('http://x/', {
      dispatcher: bulk,
      method: 'POST',
      body: Readable.from(
        (function* () {
          const random = randomBytes(65_536);
          for (let n = 0; n < 16_384; n += 1) {
            const chunk = Buffer.from(random);
            chunk.writeUInt32BE(n); // no piece is like another: order and loss show in the hash
            hash.update(chunk);
            yield chunk;
          }
        })(),
      ),
    });
    expect(await answer.body.text()).toBe(hash.digest('hex'));
    for (const [at, { events }] of counts.entries()) expect(events).toBeGreaterThan(before[at]!);
    stop.abort();
    await bulk.close();
    sinkAgent.destroy();
  });

  it('a target that is down is a clear answer, and one that comes back is used', async () => {
    const url = new URL(`http://127.0.0.1:${await closedPort()}`);
    const downAgent = upstreamAgent({ url, clock: unhurriedClock });
    const down = createReverseProxy({
      route: () => ({ agent: downAgent, host: url.host, path: '/', setHeaders: {}, drops: () => false }),
      unreachable: (cause) => new PcgError('KUBE_UNREACHABLE', 'down', { cause }),
      log: silentLog,
    });
    await using front = await httpServer(down.request);
    const answer = await request(`http://127.0.0.1:${front.port}/`);
    expect(answer.statusCode).toBe(502);
    expect(await answer.body.json()).toMatchObject({ code: 'KUBE_UNREACHABLE', fix: expect.any(String) });
    front.server.on('upgrade', down.upgrade);
    const socket = connectTcp(front.port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    expect(await textOf(socket)).toMatch(/^HTTP\/1.1 502 [\s\S]*KUBE_UNREACHABLE/);
  });
});

function socketish(stream: Duplex): Duplex {
  return Object.assign(stream, {
    setTimeout: () => stream,
    setNoDelay: () => stream,
    setKeepAlive: () => stream,
  });
}

async function textOf(stream: Duplex): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}
