import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setImmediate as tick } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { KubeObject } from '../../src/kube/client.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import { createClusterPki } from '../../src/kube/pki.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { ownPort } from '../support/own-port.ts';
import { patientClock } from '../support/patient-clock.ts';
import { clientName, readBody, sendJson, startConnectProxy, startTlsServer } from '../support/tls-server.ts';

const options = { clock: patientClock, log: silentLog };
const signal = new AbortController().signal;

function node(name: string, extra: Record<string, unknown> = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name }, ...extra };
}

async function failure(promise: Promise<unknown>): Promise<PcgError> {
  const error = await promise.then(
    () => expect.fail('should have failed'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(PcgError);
  return error as PcgError;
}

describe('the Kubernetes client', () => {
  it('presents its certificate, verifies the cluster CA and reuses its connections', async () => {
    await using server = await startTlsServer((request, response) =>
      sendJson(response, 200, node(clientName(request) ?? 'nobody')),
    );
    await using client = createKubeClient(server.target, options);
    for (let round = 0; round < 10; round += 1)
      expect((await client.get('/api/v1/nodes/a', signal))?.metadata.name).toBe('kubernetes-admin');
    // undici may open a second one while the first still finishes its last body
    expect(server.connections()).toBeLessThanOrEqual(2);
  });

  it('dials through an HTTP CONNECT proxy and still verifies the name of the server behind it', async () => {
    await using server = await startTlsServer((_, response) => sendJson(response, 200, node('a')), {
      names: ['api.site'],
    });
    await using proxy = await startConnectProxy((_, headers) =>
      headers['proxy-authorization'] === `Basic ${Buffer.from('u:p@ss').toString('base64')}`
        ? server.port
        : { status: 407 },
    );
    const target = { ...server.target, server: 'https://api.site:6443' };
    await using client = createKubeClient(
      { ...target, proxyUrl: proxy.url.replace('//', '//u:p%40ss@') },
      options,
    );
    expect((await client.get('/api/v1/nodes/a', signal))?.metadata.name).toBe('a');
    expect(proxy.asked).toEqual(['api.site:6443']);

    await using wrongName = createKubeClient(
      { ...target, server: 'https://10.9.9.9:6443', proxyUrl: proxy.url.replace('//', '//u:p%40ss@') },
      options,
    );
    const refused = await failure(wrongName.get('/api/v1/nodes/a', signal));
    expect([refused.code, refused.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'tls']);
    await using byName = createKubeClient(
      {
        ...target,
        server: 'https://10.9.9.9:6443',
        serverName: 'api.site',
        proxyUrl: proxy.url.replace('//', '//u:p%40ss@'),
      },
      options,
    );
    expect(await byName.ready(signal)).toBe(true);

    await using anonymous = createKubeClient({ ...target, proxyUrl: proxy.url }, options);
    const denied = await failure(anonymous.get('/api/v1/nodes/a', signal));
    expect([denied.code, denied.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'proxy']);
  });

  it('refuses a server of another cluster', async () => {
    await using server = await startTlsServer((_, response) => sendJson(response, 200, node('a')));
    const other = await createClusterPki({ nowMs: Date.now(), keyAlgorithm: 'ecdsa-p256' });
    await using client = createKubeClient({ ...server.target, caPem: other.ca.certPem }, options);
    const error = await failure(client.get('/api/v1/nodes/a', signal));
    expect(error.code).toBe('KUBE_UNREACHABLE');
    expect(error.details?.['reason']).toBe('tls');
    expect(await client.ready(signal)).toBe(false);
  });

  it('sends and returns objects with every field, known or not', async () => {
    let sent: unknown;
    let query = '';
    await using server = await startTlsServer(async (request, response) => {
      query = String(request.url);
      sent = JSON.parse(await readBody(request));
      expect(request.headers['content-type']).toBe('application/apply-patch+yaml');
      sendJson(response, 200, { ...(sent as object), fieldOfTheFuture: { deep: [1, null, 'x'] } });
    });
    await using client = createKubeClient(server.target, options);
    const policy = {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'deny', namespace: 'a b' },
      spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }], 'x-unknown': { kept: true } },
    };
    const answer = await client.apply(policy, { fieldManager: 'pcg-bootstrapper/cni', force: true }, signal);
    expect(sent).toEqual(policy);
    expect(answer['fieldOfTheFuture']).toEqual({ deep: [1, null, 'x'] });
    expect(query).toBe(
      '/apis/networking.k8s.io/v1/namespaces/a%20b/networkpolicies/deny?fieldManager=pcg-bootstrapper%2Fcni&force=true&fieldValidation=Strict',
    );
  });

  it('keeps integers that JavaScript cannot hold', async () => {
    const text =
      '{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"},"big":9007199254740993,"deep":[{"n":-9223372036854775808}],"text":"x: 9007199254740993","near":1234567890123456}';
    const sent: string[] = [];
    await using server = await startTlsServer(async (request, response) => {
      if (request.method === 'PATCH') sent.push(await readBody(request));
      response.writeHead(200, { 'content-type': 'application/json' }).end(text);
    });
    await using client = createKubeClient(server.target, options);
    const object = await client.get('/api/v1/nodes/a', signal);
    await client.apply(object as KubeObject, { fieldManager: 'pcg' }, signal);
    expect(sent).toEqual([text]);
  });

  it.each([
    [401, 'KUBE_UNAUTHORIZED', false],
    [403, 'KUBE_UNAUTHORIZED', false],
    [409, 'KUBE_CONFLICT', true],
    [410, 'KUBE_CONFLICT', true],
    [422, 'KUBE_REJECTED', false],
    [400, 'KUBE_REJECTED', false],
    [429, 'KUBE_UNREACHABLE', true],
    [500, 'KUBE_UNREACHABLE', true],
    [503, 'KUBE_UNREACHABLE', true],
  ])('turns HTTP %i into %s, retryable: %s', async (status, code, retryable) => {
    await using server = await startTlsServer((_, response) =>
      sendJson(response, status, {
        kind: 'Status',
        message: 'said so',
        reason: 'SomeReason',
        details: {
          causes: [{ reason: 'FieldValueInvalid', field: 'spec.x', message: 'bad' }],
          retryAfterSeconds: 3,
        },
      }),
    );
    await using client = createKubeClient(server.target, options);
    const error = await failure(client.get('/api/v1/nodes/a', signal));
    expect([error.code, error.retryable]).toEqual([code, retryable]);
    expect(error.message).toContain('said so');
    expect(error.details).toMatchObject({ status, reason: 'SomeReason', retryAfterSeconds: 3 });
    if (code === 'KUBE_REJECTED') expect(error.field).toBe('spec.x');
  });

  it('survives answers that are lies: no JSON, no object, wrong types', async () => {
    const answers = [
      '',
      'null',
      '[]',
      '{"kind":1}',
      '<html>',
      '{"kind":"Node","apiVersion":"v1","metadata":5}',
    ];
    await using server = await startTlsServer((_, response) => {
      response.writeHead(200).end(answers.shift() ?? '');
    });
    await using client = createKubeClient(server.target, options);
    while (answers.length > 0)
      expect((await failure(client.get('/api/v1/nodes/a', signal))).details?.['reason']).toBe('protocol');
    expect(await client.list('/api/v1/nodes', signal)).toEqual({ items: [], resourceVersion: '' });
  });

  it('reads all pages of a list, names the kind of each item, and starts anew when the list expires', async () => {
    let expired = false;
    await using server = await startTlsServer((request, response) => {
      const url = new URL(String(request.url), 'https://x');
      const page = url.searchParams.get('continue');
      if (page === 'p2' && !expired) {
        expired = true;
        sendJson(response, 410, { kind: 'Status', reason: 'Expired', message: 'too old' });
        return;
      }
      expect(url.searchParams.get('fieldSelector')).toBe('spec.nodeName=a');
      sendJson(response, 200, {
        kind: 'PodList',
        apiVersion: 'v1',
        metadata: { resourceVersion: '77', ...(page === null ? { continue: 'p2' } : {}) },
        items: [{ metadata: { name: page ?? 'p1' } }],
      });
    });
    await using client = createKubeClient(server.target, options);
    const { items, resourceVersion } = await client.list(
      '/api/v1/pods?fieldSelector=spec.nodeName%3Da',
      signal,
    );
    expect(expired).toBe(true);
    expect(items.map((item) => `${item.kind}/${item.metadata.name}`)).toEqual(['Pod/p1', 'Pod/p2']);
    expect(resourceVersion).toBe('77');
  });

  it('counts 404 as deleted and tells an existing object from a conflict at create', async () => {
    await using server = await startTlsServer((request, response) => {
      if (request.method === 'DELETE') sendJson(response, 404, { kind: 'Status', reason: 'NotFound' });
      else
        sendJson(response, 409, {
          kind: 'Status',
          reason: request.url?.includes('pods') ? 'Conflict' : 'AlreadyExists',
        });
    });
    await using client = createKubeClient(server.target, options);
    await client.delete('/api/v1/nodes/a', signal);
    expect(await client.create(node('a'), signal)).toBe('exists');
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' } };
    expect((await failure(client.create(pod, signal))).code).toBe('KUBE_CONFLICT');
  });

  it('asks discovery for kinds that it does not know, and again when the kind was missing', async () => {
    const asked: string[] = [];
    let served = false;
    await using server = await startTlsServer(async (request, response) => {
      asked.push(`${request.method} ${request.url?.split('?')[0]}`);
      if (request.method === 'GET' && !served)
        sendJson(response, 404, { kind: 'Status', reason: 'NotFound' });
      else if (request.method === 'GET')
        sendJson(response, 200, {
          kind: 'APIResourceList',
          resources: [
            { name: 'widgets/status', kind: 'Widget', namespaced: true },
            { name: 'widgets', kind: 'Widget', namespaced: true },
          ],
        });
      else sendJson(response, 200, JSON.parse(await readBody(request)));
    });
    await using client = createKubeClient(server.target, options);
    const widget = { apiVersion: 'ex.io/v1', kind: 'Widget', metadata: { name: 'w', namespace: 'n' } };
    const missing = await failure(client.apply(widget, { fieldManager: 'pcg' }, signal));
    expect([missing.code, missing.retryable, missing.details?.['reason']]).toEqual([
      'KUBE_REJECTED',
      true,
      'NoKindMatch',
    ]);
    served = true;
    await client.apply(widget, { fieldManager: 'pcg' }, signal);
    await client.apply(widget, { fieldManager: 'pcg' }, signal);
    expect(asked).toEqual([
      'GET /apis/ex.io/v1',
      'GET /apis/ex.io/v1',
      'PATCH /apis/ex.io/v1/namespaces/n/widgets/w',
      'PATCH /apis/ex.io/v1/namespaces/n/widgets/w',
    ]);
  });

  it('says that nobody listens, and ends with the reason of the caller when he aborts', async () => {
    await using server = await startTlsServer(() => {}); // never answers
    const nowhere = `https://127.0.0.1:${await ownPort()}`;
    await using dead = createKubeClient({ ...server.target, server: nowhere }, options);
    const refused = await failure(dead.get('/api/v1/nodes/a', signal));
    expect([refused.code, refused.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'refused']);

    await using client = createKubeClient(server.target, options);
    const stop = new AbortController();
    const pending = client.get('/api/v1/nodes/a', stop.signal);
    await tick();
    stop.abort(new Error('enough'));
    await expect(pending).rejects.toThrow('enough');
    await using hurried = createKubeClient(server.target, { ...options, clock: systemClock });
    const late = await failure(hurried.request({ path: '/', timeoutMs: 30 }, signal));
    expect([late.code, late.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'timeout']);
  });

  it('ends with its deadline while the connection is still being made', async () => {
    await using silent = await startConnectProxy(() => silentPort);
    const open = new Set<Socket>();
    const mute = createServer((socket) => open.add(socket)).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const silentPort = (mute.address() as AddressInfo).port;
    const { ca } = await createClusterPki({ nowMs: Date.now(), keyAlgorithm: 'ecdsa-p256' });
    const target = { server: 'https://10.9.9.9:6443', caPem: ca.certPem, proxyUrl: silent.url };
    // undici gives a connection up after ten seconds: here they never pass
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const clock = new ManualClock();
    await using client = createKubeClient(target, { ...options, clock });
    const late = failure(client.request({ path: '/version', timeoutMs: 100 }, signal));
    while (open.size === 0) await tick();
    await clock.advance(100);
    const error = await late;
    expect([error.code, error.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'timeout']);
    const caller = new AbortController();
    const asked = client.get('/api/v1/nodes/a', caller.signal);
    caller.abort(new Error('no longer needed'));
    await expect(asked).rejects.toThrow('no longer needed');
    for (const socket of open) socket.destroy();
    mute.close();
  });

  it('reports a cut connection as unreachable and never repeats a write by itself', async () => {
    let posts = 0;
    await using server = await startTlsServer((request, response) => {
      posts += 1;
      response.writeHead(200, { 'content-length': 1000 }).write('{"half":');
      request.socket.destroy();
    });
    await using client = createKubeClient(server.target, options);
    const error = await failure(client.create(node('a'), signal));
    expect([error.code, error.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'closed']);
    expect(posts).toBe(1);
  });
});
