/** kubectl's path through the portal: bytes in, bytes out, as they come; nobody gets in with the wrong token. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { describe, expect, it } from 'vitest';
import { Agent, request as undiciRequest } from 'undici';
import { parse } from 'yaml';
import { openOf } from '../../src/tunnel/http.ts';
import { connectGateway, type FakeGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { liveBuffers } from '../support/live-memory.ts';
import { clusterSpec, testPortal, type TestPortal } from '../support/portal.ts';

interface Site extends AsyncDisposable {
  readonly portal: TestPortal;
  readonly gateway: FakeGateway;
  readonly id: string;
  readonly base: string;
}

async function site(): Promise<Site> {
  await using stack = new AsyncDisposableStack();
  const portal = stack.use(await testPortal());
  const { identity, paired } = await portal.pair('dc1');
  const gateway = stack.use(await connectGateway(identity, paired));
  await eventually(async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1);
  const { body } = await portal.call('POST', '/api/v1/clusters?preflight=skip', {
    spec: clusterSpec('ca-site1'),
  });
  const running = stack.move();
  return {
    portal,
    gateway,
    id: body.id,
    base: `${portal.url}/k8s/clusters/${body.id}`,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

const bearer = ({ portal }: Site) => ({ authorization: `Bearer ${portal.token}` });

describe('plain requests', () => {
  it('pass with method, query, body and headers; the caller stays what it is, its token stays here', async () => {
    await using s = await site();
    const seen: {
      headers: http.IncomingHttpHeaders;
      url: string | undefined;
      method: string | undefined;
      user: unknown;
    }[] = [];
    s.gateway.target(`kube:${s.id}`, (request, response) => {
      seen.push({
        headers: request.headers,
        url: request.url,
        method: request.method,
        user: openOf(request)?.principal,
      });
      const hash = createHash('sha256');
      request.on('data', (chunk) => hash.update(chunk));
      request.on('end', () => {
        response.writeHead(201, { 'content-type': 'application/json', 'audit-id': 'a1' });
        response.end(JSON.stringify({ sum: hash.digest('hex') }));
      });
    });
    const body = randomBytes(3_000_000);
    const answer = await fetch(`${s.base}/api/v1/namespaces/default/pods?fieldManager=kubectl&pretty=true`, {
      method: 'POST',
      headers: {
        ...bearer(s),
        'content-type': 'application/yaml',
        cookie: 'a=b',
        'x-remote-user': 'root',
        'kubectl-command': 'apply',
      },
      body,
    });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('audit-id')).toBe('a1');
    expect(await answer.json()).toEqual({ sum: createHash('sha256').update(body).digest('hex') });
    const [request] = seen;
    expect(request).toMatchObject({
      method: 'POST',
      url: '/api/v1/namespaces/default/pods?fieldManager=kubectl&pretty=true',
      headers: { 'content-type': 'application/yaml', 'kubectl-command': 'apply' },
      user: { user: 'admin@example.test', groups: ['pcg:tenant-admin', 'kubeadm:cluster-admins'] },
    });
    for (const name of ['authorization', 'cookie', 'x-remote-user'])
      expect(request?.headers[name]).toBeUndefined();
  });

  it('stream as they come, and the target learns when the caller leaves (watch, logs -f)', async () => {
    await using s = await site();
    let left = false;
    s.gateway.target(`kube:${s.id}`, (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.write('{"type":"ADDED"}\n');
      response.on('close', () => {
        left = true;
      });
    });
    const stop = new AbortController();
    const answer = await fetch(`${s.base}/api/v1/pods?watch=true`, {
      headers: bearer(s),
      signal: stop.signal,
    });
    const reader = answer.body?.getReader();
    const first = await reader?.read();
    expect(new TextDecoder().decode(first?.value)).toBe('{"type":"ADDED"}\n');
    expect(left).toBe(false);
    stop.abort();
    await eventually(() => left);
  });

  it('74: with Expect: 100-continue the target decides before a byte of the body is sent', async () => {
    await using s = await site();
    const target = s.gateway.target(`kube:${s.id}`, (_request, response) => response.writeHead(500).end());
    target.on('checkContinue', (request: http.IncomingMessage, response: http.ServerResponse) => {
      if (request.url === '/too-large') return void response.writeHead(413).end('no');
      response.writeContinue();
      request.pipe(response.writeHead(200));
    });
    const { port } = new URL(s.portal.url);
    const talk = async (path: string, token: string): Promise<string> => {
      const socket = net.connect(Number(port), '127.0.0.1');
      const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`;
      socket.write(head);
      let text = '';
      for await (const chunk of socket) {
        if (text === '' && String(chunk).startsWith('HTTP/1.1 100')) socket.write('bytes');
        text += String(chunk);
      }
      return text;
    };
    const cluster = `/k8s/clusters/${s.id}`;
    const accepted = await talk(`${cluster}/ok`, s.portal.token);
    expect(accepted).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/);
    expect(accepted).toContain('bytes');
    expect(await talk(`${cluster}/too-large`, s.portal.token)).toMatch(/^HTTP\/1.1 413/);
    expect(await talk(`${cluster}/ok`, 'nobody')).toMatch(/^HTTP\/1.1 401/);
    // the API's own requests are small: it asks for the body and judges it then
    expect(await talk('/api/v1/session', 'nobody')).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 4/);
  });

  it('74: a long upload waits for a target that does not read, in bounded memory, and then arrives whole', async () => {
    await using s = await site();
    const TOTAL = 256 * 1024 * 1024;
    const piece = randomBytes(65_536);
    const begin = Promise.withResolvers<void>();
    s.gateway.target(`kube:${s.id}`, (request, response) => {
      void begin.promise.then(() => {
        const hash = createHash('sha256');
        request.on('data', (chunk) => hash.update(chunk));
        request.on('end', () => response.end(hash.digest('hex')));
      });
    });
    const { port } = new URL(s.portal.url);
    const socket = net.connect(Number(port), '127.0.0.1');
    socket.write(
      `PUT /k8s/clusters/${s.id}/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${s.portal.token}\r\nContent-Length: ${TOTAL}\r\nConnection: close\r\n\r\n`,
    );
    const sent = createHash('sha256');
    const before = await liveBuffers();
    let written = 0;
    const writing = (async () => {
      for (; written < TOTAL; written += piece.length) {
        sent.update(piece);
        if (!socket.write(piece)) await once(socket, 'drain');
      }
    })();
    // until nothing moves any more
    for (let last = -1; last !== written; ) {
      last = written;
      await new Promise<void>((resolve) => void setTimeout(resolve, 1000));
    }
    // what the kernel's buffers, the in-flight cap and one stream's credit may hold together
    expect(written).toBeLessThan(48 * 1024 * 1024);
    expect((await liveBuffers()) - before).toBeLessThan(48 * 1024 * 1024);
    begin.resolve();
    let text = '';
    socket.on('data', (chunk) => (text += String(chunk)));
    await Promise.all([writing, once(socket, 'end')]);
    expect(text).toContain(sent.digest('hex'));
  });

  it('pass heads that are not ASCII byte for byte, through both ends of the tunnel', async () => {
    await using s = await site();
    const value = 'n\xc3\xa9e \xe9\xff';
    const seen: unknown[] = [];
    s.gateway.target(`kube:${s.id}`, (request, response) => {
      seen.push(request.headers['x-name']);
      response.writeHead(200, { 'content-disposition': `attachment; filename="${value}"` });
      response.end(Buffer.from('ok'));
    });
    const { port, pathname } = new URL(s.base);
    const socket = net.connect(Number(port), '127.0.0.1');
    socket.write(
      `GET ${pathname}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${s.portal.token}\r\nX-Name: ${value}\r\nConnection: close\r\n\r\n`,
      'latin1',
    );
    let text = '';
    for await (const chunk of socket.setEncoding('latin1')) text += String(chunk);
    expect(seen).toEqual([value]);
    expect(text).toContain(`\r\ncontent-disposition: attachment; filename="${value}"\r\n`);
  });

  it('break off for the caller when they break off at the target', async () => {
    await using s = await site();
    s.gateway.target(`kube:${s.id}`, (_request, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('half');
      setImmediate(() => response.destroy());
    });
    const answer = await fetch(`${s.base}/api`, { headers: bearer(s) });
    await expect(answer.text()).rejects.toThrow();
  });
});

describe('upgrades', () => {
  it.each(['websocket', 'SPDY/3.1'])(
    'carry %s as opaque bytes both ways, with half-close',
    async (protocol) => {
      await using s = await site();
      const server = s.gateway.target(`kube:${s.id}`, (_request, response) => response.writeHead(400).end());
      server.on('upgrade', (request, socket, head) => {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${request.headers.upgrade}\r\nConnection: Upgrade\r\nX-Stream: 1\r\n\r\n`,
        );
        const hash = createHash('sha256').update(head);
        socket.on('data', (chunk: Buffer) => hash.update(chunk));
        socket.on('end', () => socket.end(hash.digest()));
      });
      const url = new URL(s.base);
      const socket = net.connect({ host: url.hostname, port: Number(url.port), allowHalfOpen: true });
      socket.write(
        `POST ${url.pathname}/api/v1/namespaces/a/pods/b/exec?command=sh HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${s.portal.token}\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`,
      );
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      await eventually(() => Buffer.concat(chunks).includes('\r\n\r\n'));
      expect(Buffer.concat(chunks).toString('latin1')).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/);
      const payload = randomBytes(1_500_000);
      socket.end(payload);
      await new Promise((resolve) => socket.once('end', resolve));
      const all = Buffer.concat(chunks);
      const rest = all.subarray(all.indexOf('\r\n\r\n') + 4);
      expect(rest.equals(createHash('sha256').update(payload).digest())).toBe(true);
      socket.destroy();
    },
  );

  it('that the target refuses come back as its answer', async () => {
    await using s = await site();
    const server = s.gateway.target(`kube:${s.id}`, (_request, response) =>
      response.writeHead(403).end('no exec for you'),
    );
    server.on('upgrade', (_request, socket) => {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 15\r\n\r\nno exec for you');
    });
    const url = new URL(s.base);
    const socket = net.connect(Number(url.port), url.hostname);
    socket.write(
      `GET ${url.pathname}/exec HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${s.portal.token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk;
    });
    await new Promise((resolve) => socket.once('close', resolve));
    expect(text).toMatch(/^HTTP\/1\.1 403 Forbidden/);
    expect(text).toContain('no exec for you');
  });
});

describe('who may pass', () => {
  it('the token of a kubeconfig opens its own cluster and nothing else (X8)', async () => {
    await using s = await site();
    s.gateway.target(`kube:${s.id}`, (_request, response) => response.end('{}'));
    const text = (await s.portal.call('GET', `/api/v1/clusters/${s.id}/kubeconfig`)).body;
    const config = parse(text);
    // Plain HTTP: kubectl would not send the token, so its kubeconfig points to the TLS listener.
    const { server, 'certificate-authority-data': authority } = config.clusters[0].cluster;
    expect(server).toMatch(new RegExp(`^https://127\\.0\\.0\\.1:\\d+/k8s/clusters/${s.id}$`));
    const token = config.users[0].user.token as string;
    await using stack = new AsyncDisposableStack();
    const trusting = new Agent({ connect: { ca: Buffer.from(authority, 'base64').toString() } });
    stack.defer(() => trusting.destroy());
    const overTls = (path: string, authorization?: string) =>
      undiciRequest(`${server}${path}`, {
        dispatcher: trusting,
        headers: authorization === undefined ? {} : { authorization },
      }).then(async ({ statusCode, body }) => ({ statusCode, body: await body.text() }));
    expect((await overTls('/version', `Bearer ${token}`)).statusCode).toBe(200);
    expect((await overTls('/version')).statusCode).toBe(401);
    expect((await overTls('/../../../api/v1/health', `Bearer ${token}`)).statusCode).toBe(404);
    expect(text).not.toContain('client-key');
    const who = { authorization: `Bearer ${config.users[0].user.token}` };
    expect((await fetch(`${s.base}/version`, { headers: who })).status).toBe(200);
    expect((await s.portal.call('GET', '/api/v1/clusters', undefined, who)).status).toBe(403);
    const other = (
      await s.portal.call('POST', '/api/v1/clusters?preflight=skip', {
        spec: clusterSpec('ca-site1', { name: 'other' }),
      })
    ).body.id;
    expect((await fetch(`${s.portal.url}/k8s/clusters/${other}/version`, { headers: who })).status).toBe(403);
    expect(
      (await fetch(`${s.portal.url}/maas/accounts/ca-site1/api/2.0/version/`, { headers: who })).status,
    ).toBe(403);
  });

  it('nobody without a token, with a cookie only, or as somebody else', async () => {
    await using s = await site();
    let reached = 0;
    s.gateway.target(`kube:${s.id}`, (_request, response) => {
      reached += 1;
      response.end();
    });
    for (const [headers, status] of [
      [{}, 401],
      [{ authorization: 'Bearer pcgt_wrongwrongwrong' }, 401],
      [{ cookie: `pcg_session=${s.portal.token}` }, 401],
      [{ ...bearer(s), 'impersonate-user': 'system:admin' }, 403],
      [{ ...bearer(s), 'Impersonate-Group': 'system:masters' }, 403],
    ] as const) {
      const answer = await fetch(`${s.base}/api`, { headers });
      expect(answer.status).toBe(status);
      expect(await answer.json()).toMatchObject({ kind: 'Status', status: 'Failure', code: status });
    }
    expect(reached).toBe(0);
  });

  it('says in words of Kubernetes why a cluster cannot be reached', async () => {
    await using s = await site();
    const denied = await fetch(`${s.base}/api`, { headers: bearer(s) });
    expect(denied.status).toBe(403);
    expect(await denied.json()).toMatchObject({ kind: 'Status', problem: { code: 'SITE_POLICY_DENIED' } });
    await s.gateway.disconnect();
    await eventually(async () => {
      const { body } = await s.portal.call('GET', '/api/v1/gateways');
      return body.items[0].connection.state === 'disconnected';
    });
    const offline = await fetch(`${s.base}/api`, { headers: bearer(s) });
    expect(offline.status).toBe(503);
    expect(await offline.json()).toMatchObject({
      reason: 'ServiceUnavailable',
      problem: { code: 'GATEWAY_OFFLINE' },
    });
    expect((await fetch(`${s.portal.url}/k8s/clusters/cl-none/api`, { headers: bearer(s) })).status).toBe(
      404,
    );
  });

  it('carries MAAS tools to MAAS for tenant administrators', async () => {
    await using s = await site();
    s.gateway.target('maas:ca-site1', (request, response) => response.end(`at ${request.url}`));
    const answer = await fetch(`${s.portal.url}/maas/accounts/ca-site1/api/2.0/machines/?zone=a`, {
      headers: bearer(s),
    });
    expect(await answer.text()).toBe('at /api/2.0/machines/?zone=a');
  });
});
