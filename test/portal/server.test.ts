/** The portal as a process: both stores end to end, TLS, hostile sockets, a stop that leaves nothing behind. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import { startPortal } from '../../src/portal/server.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { pairWithPortal } from '../../src/tunnel/pair-client.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { describeWith } from '../support/needs.ts';
import { ADMIN, clusterSpec, clusterStatus, testPortal } from '../support/portal.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';
import { issueServerCertificate } from '../../src/kube/pki.ts';
import { testPki } from '../support/tls-server.ts';

describeWith(['postgres'], 'on PostgreSQL', () => {
  let postgres: Postgres;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(() => postgres?.[Symbol.asyncDispose]());

  it('lives the whole life of a gateway and a cluster, over a restart of the portal', async () => {
    const store = { kind: 'postgres', url: postgres.database() } as const;
    await using stack = new AsyncDisposableStack();
    const first = await testPortal({ store });
    const { identity, paired } = await first.pair('dc1');
    const gateway = stack.use(await connectGateway(identity, paired));
    gateway.answer('POST /v1/accounts/ca-site1/explain', 200, { feasible: true, pools: [], problems: [] });
    await eventually(async () => (await first.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1);
    const spec = clusterSpec('ca-site1');
    const key = { 'idempotency-key': 'same' };
    const made = await Promise.all(
      [1, 2, 3].map(() => first.call('POST', '/api/v1/clusters', { spec }, key)),
    );
    expect(new Set(made.map(({ body }) => body.id)).size).toBe(1);
    const id = made[0]?.body.id;
    for (let n = 0; n < 25; n += 1) gateway.emit({ cluster: id });
    gateway.report('cluster', id, clusterStatus({ phase: 'Running' }));
    await eventually(async () => (await first.call('GET', `/api/v1/clusters/${id}`)).body.provisioned);
    await first[Symbol.asyncDispose]();

    const port = Number(new URL(first.url).port);
    const again = stack.use(await testPortal({ store, port }));
    expect((await again.call('POST', `/api/v1/clusters/${id}/delete`, { confirm: 'prod' })).status).toBe(202);
    await gateway.document('cluster', id, 2);
    gateway.report('cluster', id, clusterStatus({ phase: 'Deleted' }));
    await eventually(async () => (await again.call('GET', '/api/v1/clusters')).body.items.length === 0);
    await eventually(async () => {
      const { body } = await again.call('GET', `/api/v1/clusters/${id}/events?limit=1000`);
      return body.events.length === 25;
    });
    const first10 = (await again.call('GET', `/api/v1/clusters/${id}/events?after=0&limit=10`)).body;
    const rest = (await again.call('GET', `/api/v1/clusters/${id}/events?after=${first10.next}`)).body;
    const seqs = [...first10.events, ...rest.events].map(({ seq }: { seq: number }) => seq);
    expect(seqs).toEqual(Array.from({ length: 25 }, (_, n) => n + 1));
    const newest = (await again.call('GET', `/api/v1/clusters/${id}/events?limit=3`)).body;
    expect(newest.events.map(({ seq }: { seq: number }) => seq)).toEqual([23, 24, 25]);
    expect(newest.next).toBe(rest.next);
  });

  it('two portals with one store agree on one identity and one administrator', async () => {
    const store = { kind: 'postgres', url: postgres.database() } as const;
    const portals = await Promise.all([testPortal({ store }), testPortal({ store })]);
    const [one, two] = portals;
    const made = await one.call('POST', '/api/v1/pairing-codes', { gatewayName: 'dc1' });
    expect((await two.call('GET', `/api/v1/pairing-codes/${made.body.id}`)).status).toBe(200);
    for (const portal of portals) await portal[Symbol.asyncDispose]();
  });
});

describe('the listener', () => {
  it('speaks TLS itself, with secure cookies and a wss tunnel', async () => {
    await using stack = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), 'pcg-portal-tls-'));
    stack.defer(() => rm(directory, { recursive: true }));
    const file = (name: string, text: string) => {
      writeFileSync(join(directory, name), text);
      return join(directory, name);
    };
    const { ca } = await testPki();
    const pair = await issueServerCertificate(ca, {
      commonName: 'portal',
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
      nowMs: Date.now(),
      validityMs: 3_600_000,
    });
    await using portal = await startPortal({
      host: '127.0.0.1',
      port: 0,
      tls: { pair: { cert: file('cert.pem', pair.certPem), key: file('key.pem', pair.keyPem) } },
      store: { kind: 'sqlite', path: ':memory:' },
      admin: { email: ADMIN.email, password: new Secret(ADMIN.password) },
      clock: steadyClock,
      log: silentLog,
      page: false,
    });
    expect(portal.tunnelUrl).toMatch(/^wss:.*\/tunnel\/v1$/);
    const agent = new Agent({ connect: { ca: ca.certPem } });
    stack.defer(() => agent.destroy());
    const call = async (path: string, body: unknown, token = '') => {
      const answer = await request(`${portal.url}/api/v1${path}`, {
        method: 'POST',
        dispatcher: agent,
        headers: {
          'content-type': 'application/json',
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify(body),
      });
      return { headers: answer.headers, body: (await answer.body.json()) as Record<string, string> };
    };
    const signedIn = await call('/session', ADMIN);
    expect(String(signedIn.headers['set-cookie'])).toMatch(/; Secure$/);
    expect(signedIn.headers['strict-transport-security']).toBeDefined();
    const made = await call('/pairing-codes', { gatewayName: 'dc1' }, signedIn.body['token']);
    const identity = generateIdentity();
    const code = made.body['code'] ?? '';
    const paired = await pairWithPortal({
      portalUrl: portal.url,
      code,
      identity,
      caPem: ca.certPem,
      clock: steadyClock,
    });
    await using gateway = await connectGateway(identity, paired, { caPem: ca.certPem });
    await gateway.document('cloud-account', 'ca-site1');
  });

  it('survives sockets that reset in every phase, and garbage', async () => {
    await using portal = await testPortal();
    const { port, hostname } = new URL(portal.url);
    const heads = [
      '',
      'GET / HTTP/1.1\r\n',
      'garbage\r\n\r\n',
      'GET /nope HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
      'GET /tunnel/v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
      `GET /k8s/clusters/cl-x/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${portal.token}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n`,
      `POST /k8s/clusters/cl-x/api HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc`,
      'POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{',
      `GET /api/v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${portal.token}\r\n\r\n`,
      'GET /k8s/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /%2e%2e/%2e%2e/package.json HTTP/1.1\r\nHost: x\r\n\r\n',
    ];
    await Promise.all(
      [...heads, ...heads, ...heads].map(
        (head) =>
          new Promise<void>((resolve) => {
            const socket = net.connect(Number(port), hostname, () => {
              socket.write(head, () => socket.resetAndDestroy());
            });
            socket.on('error', () => {});
            socket.on('close', () => resolve());
          }),
      ),
    );
    expect((await portal.call('GET', '/readyz')).status).toBe(200);
  });

  it('makes a password at the first start only, and keeps it out of the log', async () => {
    await using portal = await testPortal();
    const lines: string[] = [];
    const { createLog } = await import('../../src/base/log.ts');
    const log = createLog({
      name: 'portal',
      level: 'trace',
      destination: { write: (line: string) => void lines.push(line) },
    });
    const start = () =>
      startPortal({
        host: '127.0.0.1',
        port: 0,
        store: { kind: 'sqlite', path: `${portal.directory}/other.db` },
        admin: { email: 'root@example.test' },
        clock: steadyClock,
        log,
        page: false,
      });
    const first = await start();
    const password = first.generatedPassword?.reveal() ?? '';
    expect(password.length).toBeGreaterThan(20);
    const answer = await fetch(`${first.url}/api/v1/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email: 'root@example.test', password }),
    });
    expect(answer.status).toBe(201);
    await first[Symbol.asyncDispose]();
    const again = await start();
    expect(again.generatedPassword).toBeUndefined();
    await again[Symbol.asyncDispose]();
    expect(lines.join('')).not.toContain(password);
  });

  it('says clearly when port or store cannot be had', async () => {
    await using portal = await testPortal();
    const options = {
      host: '127.0.0.1',
      port: Number(new URL(portal.url).port),
      admin: { email: ADMIN.email, password: new Secret(ADMIN.password) },
      clock: steadyClock,
      log: silentLog,
      page: false,
    };
    const sqlite = { kind: 'sqlite', path: ':memory:' } as const;
    await expect(startPortal({ ...options, store: sqlite })).rejects.toMatchObject({ code: 'BAD_CONFIG' });
    for (const store of [
      { kind: 'sqlite', path: '/nonexistent/directory/portal.db' },
      { kind: 'postgres', url: 'postgres://nobody@127.0.0.1:1/none' },
    ] as const)
      await expect(startPortal({ ...options, port: 0, store })).rejects.toMatchObject({
        code: 'STORAGE_FAILED',
      });
  });
});
