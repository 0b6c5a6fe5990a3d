import type { IncomingMessage } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { request } from 'undici';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { createClusterPki, issueClientCertificate, issueServerCertificate } from '../../src/kube/pki.ts';
import { httpTarget } from '../../src/tunnel/http.ts';
import type { OpenOptions, Principal } from '../../src/tunnel/ports.ts';
import { createKubeProxy, createMaasProxy, type TargetProxy } from '../../src/tunnel/target-proxies.ts';
import { tunnelDispatcher } from '../support/tunnel-dispatcher.ts';
import { readAll, startGateway, startPortal } from '../support/tunnel-pair.ts';
import { closedPort, connectProxy, httpServer, listen } from '../support/wire.ts';

const clock = unhurriedClock;
const log = silentLog;

/** A portal's dispatcher to `proxy` behind a gateway. */
async function behindGateway(proxy: TargetProxy, principal?: Principal) {
  const portal = await startPortal();
  const gateway = startGateway(portal, {
    targets: async (open: OpenOptions) => httpTarget(proxy.server, open, unhurriedClock),
  });
  await gateway.connected();
  const dispatcher = tunnelDispatcher(portal.server.roster.tunnel('gw-1'), {
    target: 'kube:cl-1',
    ...(principal ? { principal } : {}),
  });
  return {
    dispatcher,
    [Symbol.asyncDispose]: async () => {
      await dispatcher.destroy();
      await gateway.stop();
      await portal[Symbol.asyncDispose]();
      proxy[Symbol.dispose]();
    },
  };
}

async function apiServer() {
  const pki = await createClusterPki({ nowMs: Date.now(), keyAlgorithm: 'ecdsa-p256' });
  const issue = { nowMs: Date.now(), validityMs: 3_600_000 };
  const server = await issueServerCertificate(pki.ca, {
    commonName: 'kube-apiserver',
    dnsNames: ['kubernetes'],
    ipAddresses: ['127.0.0.1'],
    ...issue,
  });
  const client = await issueClientCertificate(pki.ca, {
    commonName: 'pcg-gateway',
    organizations: ['system:masters'],
    ...issue,
  });
  const seen: {
    headers: IncomingMessage['headers'];
    raw: string[];
    by: string | undefined;
    url: string | undefined;
  }[] = [];
  const https = createHttps(
    {
      key: server.keyPem,
      cert: server.certPem,
      ca: pki.ca.certPem,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (incoming, response) => {
      const by = (incoming.socket as TLSSocket).getPeerCertificate().subject?.CN;
      seen.push({ headers: incoming.headers, raw: incoming.rawHeaders, by: String(by), url: incoming.url });
      response.end('{"kind":"NodeList"}');
    },
  );
  const listening = await listen(https as never);
  const target = {
    server: `https://127.0.0.1:${listening.port}`,
    caPem: pki.ca.certPem,
    certPem: client.certPem,
    keyPem: client.keyPem,
  };
  return { ...listening, seen, target, pki };
}

describe('kube:<cluster>', () => {
  it("R4: speaks with the gateway's certificate for the portal's user; what the client claims ends here", async () => {
    await using api = await apiServer();
    const proxy = createKubeProxy({ target: api.target, clock, log });
    await using way = await behindGateway(proxy, {
      user: 'ann@corp.test',
      groups: ['team-a', 'pcg:project-admin'],
    });
    const answer = await request('https://kubernetes/api/v1/nodes?limit=1', {
      dispatcher: way.dispatcher,
      headers: {
        authorization: 'Bearer stolen',
        'impersonate-user': 'system:admin',
        'Impersonate-Group': 'system:masters',
        'Impersonate-Extra-Scopes': 'all',
        'impersonate-uid': '0',
        'x-remote-user': 'root',
        'x-forwarded-for': '1.2.3.4',
        cookie: 'session=1',
        connection: 'impersonate-user',
        accept: 'application/json',
      } as Record<string, string>,
    }).catch((error: unknown) => error as Error);
    if (answer instanceof Error) throw answer;
    expect(await answer.body.json()).toEqual({ kind: 'NodeList' });
    const [got] = api.seen;
    expect(got?.by).toBe('pcg-gateway');
    expect(got?.url).toBe('/api/v1/nodes?limit=1');
    const claims = got!.raw.filter((_name, at) => at % 2 === 0).map((name) => name.toLowerCase());
    expect(claims.filter((name) => /^(impersonate|authorization|cookie|x-)/.test(name)).sort()).toEqual([
      'impersonate-group',
      'impersonate-group',
      'impersonate-user',
    ]);
    expect(got?.headers['impersonate-user']).toBe('ann@corp.test');
    expect(got?.headers['impersonate-group']).toBe('team-a, pcg:project-admin');
  });

  it('67: refuses a request without a user, and names that no header can hold, as a Kubernetes Status', async () => {
    await using api = await apiServer();
    for (const principal of [
      undefined,
      { user: '', groups: [] },
      { user: 'ann\r\nImpersonate-User: root', groups: [] },
      { user: 'ann', groups: ['a\nb'] },
      { user: ' ann', groups: [] },
      { user: 'änn', groups: [] },
    ]) {
      // without the tunnel, whose OPEN would refuse most of these on its own
      using proxy = createKubeProxy({ target: api.target, clock, log });
      const direct = { open: async (open: OpenOptions) => httpTarget(proxy.server, open, unhurriedClock) };
      const dispatcher = tunnelDispatcher(direct, { target: 'kube:x', ...(principal ? { principal } : {}) });
      const answer = await request('https://kubernetes/api', { dispatcher });
      expect(answer.statusCode).toBe(403);
      expect(await answer.body.json()).toMatchObject({
        kind: 'Status',
        status: 'Failure',
        reason: 'Forbidden',
        code: 403,
      });
      await dispatcher.destroy();
    }
    expect(api.seen).toEqual([]);
  });

  it('67: exec, attach and port-forward without a user are refused as well, before the API server hears of them', async () => {
    await using api = await apiServer();
    using proxy = createKubeProxy({ target: api.target, clock, log });
    for (const protocol of ['websocket', 'SPDY/3.1'])
      for (const verb of ['exec', 'attach', 'portforward']) {
        const stream = httpTarget(proxy.server, { target: 'kube:x' }, unhurriedClock);
        stream.write(
          `GET /api/v1/namespaces/a/pods/b/${verb}?command=sh HTTP/1.1\r\nHost: x\r\nImpersonate-User: root\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`,
        );
        const answer = (await readAll(stream)).toString();
        expect(answer).toMatch(/^HTTP\/1.1 403 [^]*"reason":"Forbidden"/);
      }
    expect(api.seen).toEqual([]);
    expect(api.sockets.size).toBe(0);
  });

  it("trusts the cluster's own CA only, reaches it through the machine network's proxy, and says when it is away", async () => {
    await using api = await apiServer();
    await using other = await apiServer();
    await using network = await connectProxy();
    const user = { user: 'ann', groups: [] };
    {
      const proxy = createKubeProxy({ target: { ...api.target, proxyUrl: network.url }, clock, log });
      await using way = await behindGateway(proxy, user);
      const answer = await request('https://kubernetes/api', { dispatcher: way.dispatcher });
      expect(answer.statusCode).toBe(200);
      await answer.body.dump();
      expect(network.seen.map(({ target }) => target)).toEqual([`127.0.0.1:${api.port}`]);
    }
    for (const target of [
      { ...api.target, caPem: other.pki.ca.certPem },
      { ...api.target, server: `https://127.0.0.1:${await closedPort()}` },
      { ...api.target, serverName: 'elsewhere' },
    ]) {
      await using way = await behindGateway(createKubeProxy({ target, clock, log }), user);
      const answer = await request('https://kubernetes/api', { dispatcher: way.dispatcher });
      expect(answer.statusCode).toBe(502);
      expect(await answer.body.json()).toMatchObject({
        kind: 'Status',
        problem: { code: 'KUBE_UNREACHABLE' },
      });
    }
  });
});

describe('maas:<account>', () => {
  it('X8: the gateway signs each request anew and the key is in no answer; paths stay below the endpoint', async () => {
    const seen: { url: string | undefined; authorization: string | undefined }[] = [];
    await using maas = await httpServer((incoming, response) => {
      seen.push({ url: incoming.url, authorization: incoming.headers.authorization });
      response.end('[]');
    });
    let nonce = 0;
    const proxy = createMaasProxy({
      endpoint: new URL(`http://127.0.0.1:${maas.port}/MAAS`),
      authorization: () => `OAuth oauth_nonce="${nonce++}"`,
      clock,
      log,
    });
    await using way = await behindGateway(proxy);
    for (const path of [
      '/api/2.0/machines/?op=x',
      '/MAAS/api/2.0/zones/',
      '/api/../../etc/passwd',
      '/',
      '//evil.test/x',
    ]) {
      const answer = await request('http://maas/', {
        dispatcher: way.dispatcher,
        path,
        headers: { authorization: 'OAuth mine' },
      } as never);
      expect(answer.statusCode).toBe(200);
      expect(JSON.stringify(answer.headers)).not.toContain('oauth');
      await answer.body.dump();
    }
    for (const path of ['/..%2f..%2fetc', '/a/%2e%2e%2f%2e%2e/b', '/%zz', '/a\\..\\..%5cb']) {
      const answer = await request('http://maas/', { dispatcher: way.dispatcher, path } as never);
      expect([path, answer.statusCode < 500]).toEqual([path, true]);
      await answer.body.dump();
    }
    expect(seen.map(({ url }) => url).filter((url) => /\.\.|%2e/i.test(url ?? ''))).toEqual([]);
    // whoever decodes twice on the way, or takes what is behind a semicolon for parameters
    for (const path of [
      '/%252e%252e/b',
      '/a/%25252e%25252e%25252fb',
      '/..;/b',
      '/a/%2e%2e;x=1/b',
      '/..%3b/b',
    ]) {
      const before = seen.length;
      const answer = await request('http://maas/', { dispatcher: way.dispatcher, path } as never);
      expect([path, answer.statusCode, seen.length - before]).toEqual([path, 400, 0]);
      await answer.body.dump();
    }
    for (const path of ['/a%2525b/%25/x', '/a..b/...;x/..c']) {
      const answer = await request('http://maas/', { dispatcher: way.dispatcher, path } as never);
      expect([answer.statusCode, seen.at(-1)?.url]).toEqual([200, `/MAAS${path}`]);
      await answer.body.dump();
    }
    expect(seen.slice(0, 5).map(({ url }) => url)).toEqual([
      '/MAAS/api/2.0/machines/?op=x',
      '/MAAS/api/2.0/zones/',
      '/MAAS/etc/passwd',
      '/MAAS/',
      '/MAAS//evil.test/x',
    ]);
    expect(seen.slice(0, 5).map(({ authorization }) => authorization)).toEqual(
      [0, 1, 2, 3, 4].map((n) => `OAuth oauth_nonce="${n}"`),
    );
  });

  it('a region that is down is MAAS_UNREACHABLE', async () => {
    const endpoint = new URL(`http://127.0.0.1:${await closedPort()}/MAAS`);
    await using way = await behindGateway(
      createMaasProxy({ endpoint, authorization: () => 'x', clock, log }),
    );
    const answer = await request('http://maas/api/2.0/version/', { dispatcher: way.dispatcher });
    expect(answer.statusCode).toBe(502);
    expect(await answer.body.json()).toMatchObject({ code: 'MAAS_UNREACHABLE' });
  });
});
