/** The simulated API server as strangers see it: raw HTTPS with undici, no client library. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Agent, request } from 'undici';
import { type StandAloneApiServer, startApiServer } from '../../../src/simulator/kubernetes/stand-alone.ts';
import { type Doc, type Pair, testAuthority, testClient } from '../../support/kube-site.ts';

let server: StandAloneApiServer;
let ca: Pair;
let admin: Agent;
const agents: Agent[] = [];

function agent(pair?: Pair): Agent {
  const made = new Agent({
    connect: { ca: ca.certPem, ...(pair ? { cert: pair.certPem, key: pair.keyPem } : {}) },
  });
  agents.push(made);
  return made;
}

interface Options {
  method?: string;
  body?: unknown;
  type?: string;
  as?: Agent;
  headers?: Record<string, string | string[]>;
}

async function call(
  path: string,
  options: Options = {},
): Promise<{ status: number; body: Doc; headers: Record<string, unknown> }> {
  const reply = await request(`${server.url}${path}`, {
    method: (options.method ?? 'GET') as 'GET',
    dispatcher: options.as ?? admin,
    headers: {
      ...(options.body === undefined ? {} : { 'content-type': options.type ?? 'application/json' }),
      ...options.headers,
    },
    ...(options.body === undefined
      ? {}
      : { body: typeof options.body === 'string' ? options.body : JSON.stringify(options.body) }),
  });
  const text = await reply.body.text();
  return {
    status: reply.statusCode,
    body: text.startsWith('{') ? JSON.parse(text) : text,
    headers: reply.headers,
  };
}

/** Reads watch events until `count` came. */
async function watch(
  path: string,
  count: number,
  act: () => Promise<unknown> = async () => {},
): Promise<Doc[]> {
  const stop = new AbortController();
  const reply = await request(`${server.url}${path}`, { dispatcher: admin, signal: stop.signal });
  const events: Doc[] = [];
  await act();
  let rest = '';
  try {
    for await (const chunk of reply.body) {
      rest += String(chunk);
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      events.push(...lines.map((line) => JSON.parse(line)));
      if (events.length >= count) break;
    }
  } finally {
    stop.abort();
  }
  return events;
}

const MAPS = '/api/v1/namespaces/default/configmaps';
const APPLY = 'application/apply-patch+yaml';
const map = (name: string, data: Record<string, string>, labels: Record<string, string> = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, labels },
  data,
});
const apply = (path: string, object: Doc, manager: string, query = '') =>
  call(`${path}/${object.metadata.name}?fieldManager=${manager}${query}`, {
    method: 'PATCH',
    type: APPLY,
    body: object,
  });

beforeAll(async () => {
  ca = await testAuthority('kubernetes');
  server = await startApiServer({ ca });
  admin = agent(await testClient(ca, 'kubernetes-admin', ['system:masters']));
});
afterAll(async () => {
  await Promise.all(agents.map((one) => one.destroy()));
  await server[Symbol.asyncDispose]();
});

describe('server-side apply', () => {
  it('keeps what others own, conflicts on what they own differently, and takes it over by force', async () => {
    const first = await apply(MAPS, map('ssa', { a: '1', b: '2' }), 'one');
    expect(first.status).toBe(201);
    const second = await apply(MAPS, map('ssa', { c: '3' }), 'two');
    expect(second.body.data).toEqual({ a: '1', b: '2', c: '3' });
    const refused = await apply(MAPS, map('ssa', { a: '9' }), 'two');
    expect(refused).toMatchObject({
      status: 409,
      body: {
        reason: 'Conflict',
        details: {
          causes: [{ reason: 'FieldManagerConflict', field: '.data.a', message: 'conflict with "one"' }],
        },
      },
    });
    const forced = await apply(MAPS, map('ssa', { a: '9' }), 'two', '&force=true');
    // `two` no longer names c, and owned it alone.
    expect(forced.body.data).toEqual({ a: '9', b: '2' });
    const owners = Object.fromEntries(
      forced.body.metadata.managedFields.map((entry: Doc) => [
        entry.manager,
        Object.keys(entry.fieldsV1['f:data']),
      ]),
    );
    expect(owners).toEqual({ one: ['f:b'], two: ['f:a'] });
    const dropped = await apply(MAPS, map('ssa', {}), 'one');
    expect(dropped.body.data).toEqual({ a: '9' });
  });

  it('applying the same again changes neither resourceVersion nor managedFields', async () => {
    const one = await apply(MAPS, map('same', { a: '1' }), 'one');
    const two = await apply(MAPS, map('same', { a: '1' }), 'one');
    expect(two.status).toBe(200);
    expect(two.body).toEqual(one.body);
  });

  it('merges keyed lists by key and removes only its own items', async () => {
    const deployment = (containers: Doc[], replicas?: number) => ({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web' },
      spec: {
        ...(replicas === undefined ? {} : { replicas }),
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers } },
      },
    });
    const path = '/apis/apps/v1/namespaces/default/deployments';
    const web = { name: 'web', image: 'nginx:1', ports: [{ containerPort: 80 }] };
    expect((await apply(path, deployment([web], 2), 'one')).status).toBe(201);
    const both = await apply(
      path,
      deployment([
        { name: 'web', env: [{ name: 'A', value: '1' }], image: 'nginx:1' },
        { name: 'side', image: 'busybox' },
      ]),
      'two',
    );
    expect(both.body.spec.template.spec.containers.map((container: Doc) => container.name)).toEqual([
      'web',
      'side',
    ]);
    expect(both.body.spec.template.spec.containers[0]).toMatchObject({
      ports: [{ containerPort: 80, protocol: 'TCP' }],
      env: [{ name: 'A', value: '1' }],
    });
    expect(both.body.spec.replicas).toBe(2);
    const less = await apply(path, deployment([{ name: 'web', image: 'nginx:1' }]), 'two');
    expect(less.body.spec.template.spec.containers.map((container: Doc) => container.name)).toEqual(['web']);
    expect(less.body.spec.template.spec.containers[0].env ?? []).toEqual([]);
    const conflict = await apply(path, deployment([{ name: 'web', image: 'nginx:2' }]), 'two');
    expect(conflict.body.details.causes[0].field).toBe('.spec.template.spec.containers[name="web"].image');
    expect(less.body.metadata.generation).toBeGreaterThan(1);
  });

  it('needs a field manager, a matching name and no managedFields', async () => {
    expect(await call(`${MAPS}/x`, { method: 'PATCH', type: APPLY, body: map('x', {}) })).toMatchObject({
      status: 422,
      body: { reason: 'Invalid' },
    });
    expect(
      (await call(`${MAPS}/other?fieldManager=m`, { method: 'PATCH', type: APPLY, body: map('x', {}) }))
        .status,
    ).toBe(400);
    expect(
      (await apply(MAPS, { ...map('x', {}), metadata: { name: 'x', managedFields: [] } }, 'm')).status,
    ).toBe(400);
    expect(
      (
        await call(`${MAPS}/x?fieldManager=m`, {
          method: 'PATCH',
          type: APPLY,
          body: 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {from: yaml}\n',
        })
      ).body.data,
    ).toEqual({ from: 'yaml' });
  });

  it('refuses unknown fields when asked to be strict, and a value of the wrong type always', async () => {
    const pod = (container: Doc) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p' },
      spec: { containers: [{ name: 'c', image: 'i', ...container }] },
    });
    const pods = '/api/v1/namespaces/default/pods';
    const strict = await call(`${pods}?fieldValidation=Strict`, {
      method: 'POST',
      body: pod({ imagePulPolicy: 'Always' }),
    });
    expect(strict).toMatchObject({ status: 400, body: { reason: 'BadRequest' } });
    expect(strict.body.message).toContain('unknown field "spec.containers[0].imagePulPolicy"');
    const warned = await call(`${pods}?dryRun=All`, {
      method: 'POST',
      body: pod({ imagePulPolicy: 'Always' }),
    });
    expect(warned.status).toBe(201);
    expect(String(warned.headers['warning'])).toContain('unknown field');
    expect(warned.body.spec.containers[0]).not.toHaveProperty('imagePulPolicy');
    expect(
      (await call(pods, { method: 'POST', body: pod({ env: [{ name: 'A', value: 1 }] }) })).body.message,
    ).toMatch(/cannot unmarshal number into .* of type string/);
    expect((await call(`${pods}/p`)).status).toBe(404);
  });
});

describe('lists and watches', () => {
  it('pages with limit and continue, and counts what remains', async () => {
    for (const index of [1, 2, 3, 4, 5])
      await call(MAPS, { method: 'POST', body: map(`page-${index}`, {}, { page: 'yes' }) });
    const names: string[] = [];
    let token = '';
    const remaining: unknown[] = [];
    do {
      const { body } = await call(
        `${MAPS}?labelSelector=page%3Dyes&limit=2${token && `&continue=${encodeURIComponent(token)}`}`,
      );
      names.push(...body.items.map((item: Doc) => item.metadata.name));
      remaining.push(body.metadata.remainingItemCount);
      token = body.metadata.continue ?? '';
    } while (token);
    expect(names).toEqual(['page-1', 'page-2', 'page-3', 'page-4', 'page-5']);
    expect(remaining).toEqual([3, 1, undefined]);
  });

  it('selects by labels and fields as the real server does', async () => {
    const all = async (selector: string) =>
      (await call(`${MAPS}?labelSelector=${encodeURIComponent(selector)}`)).body.items.map(
        (item: Doc) => item.metadata.name,
      );
    for (const [name, labels] of [
      ['s-1', { tier: 'a', env: 'x' }],
      ['s-2', { tier: 'b' }],
      ['s-3', { env: 'y' }],
    ] as const)
      await call(MAPS, { method: 'POST', body: map(name, {}, labels) });
    expect(await all('tier in (a,b)')).toEqual(['s-1', 's-2']);
    expect(await all('env,tier!=a')).toEqual(['s-3']);
    expect(await all('tier notin (a),env')).toEqual(['s-3']);
    expect(await all('!tier,env=y')).toEqual(['s-3']);
    expect((await call(`${MAPS}?fieldSelector=metadata.name%3Ds-2`)).body.items).toHaveLength(1);
    expect((await call(`${MAPS}?fieldSelector=data.a%3D1`)).body).toMatchObject({
      code: 400,
      message: 'field label not supported: data.a',
    });
    expect((await call(`${MAPS}?labelSelector=${encodeURIComponent('a b c')}`)).status).toBe(400);
  });

  it('watches from a revision: what left the selection is DELETED, a compacted revision is 410', async () => {
    const { body } = await call(`${MAPS}?labelSelector=w%3Dyes`);
    const from: string = body.metadata.resourceVersion;
    const events = await watch(
      `${MAPS}?watch=1&resourceVersion=${from}&labelSelector=w%3Dyes`,
      3,
      async () => {
        await call(MAPS, { method: 'POST', body: map('w-1', {}, { w: 'yes' }) });
        await call(MAPS, { method: 'POST', body: map('w-2', {}) });
        await call(`${MAPS}/w-1`, {
          method: 'PATCH',
          type: 'application/merge-patch+json',
          body: { data: { a: '1' } },
        });
        await call(`${MAPS}/w-1`, {
          method: 'PATCH',
          type: 'application/merge-patch+json',
          body: { metadata: { labels: { w: null } } },
        });
      },
    );
    expect(events.map((event) => [event.type, event.object.metadata.name])).toEqual([
      ['ADDED', 'w-1'],
      ['MODIFIED', 'w-1'],
      ['DELETED', 'w-1'],
    ]);
    const versions = events.map((event) => Number(event.object.metadata.resourceVersion));
    expect(versions).toEqual([...versions].sort((a, b) => a - b));
    server.core.store.compact();
    await call(MAPS, { method: 'POST', body: map('after-compaction', {}) });
    expect(await call(`${MAPS}?watch=1&resourceVersion=${from}`)).toMatchObject({
      status: 410,
      body: { reason: 'Expired' },
    });
  });

  it('ends after timeoutSeconds, and sends initial events with a bookmark when asked', async () => {
    const options = 'watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true';
    const startedAt = performance.now();
    const events = await watch(
      `${MAPS}?${options}&fieldSelector=metadata.name%3Ds-1`,
      Number.POSITIVE_INFINITY,
    );
    expect(performance.now() - startedAt).toBeGreaterThan(900);
    expect(events.map((event) => event.type)).toEqual(['ADDED', 'BOOKMARK']);
    expect(events[1].object.metadata.annotations).toEqual({ 'k8s.io/initial-events-end': 'true' });
  });

  it('prints tables and metadata only on request', async () => {
    const { body } = await call(MAPS, {
      headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
    });
    expect(body.kind).toBe('Table');
    expect(body.columnDefinitions.map((column: Doc) => column.name)).toEqual(['Name', 'Data', 'Age']);
    const partial = await call(`${MAPS}/s-1`, {
      headers: { accept: 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io' },
    });
    expect(Object.keys(partial.body).sort()).toEqual(['apiVersion', 'kind', 'metadata']);
  });
});

describe('writes', () => {
  it('refuses stale resourceVersions and wrong preconditions with 409', async () => {
    const { body } = await call(MAPS, { method: 'POST', body: map('rv', { a: '1' }) });
    expect((await call(`${MAPS}/rv`, { method: 'PUT', body: { ...body, data: { a: '2' } } })).status).toBe(
      200,
    );
    expect(await call(`${MAPS}/rv`, { method: 'PUT', body: { ...body, data: { a: '3' } } })).toMatchObject({
      status: 409,
      body: { reason: 'Conflict' },
    });
    expect(
      (await call(`${MAPS}/rv`, { method: 'DELETE', body: { preconditions: { uid: 'another' } } })).status,
    ).toBe(409);
    expect((await call(MAPS, { method: 'POST', body: map('rv', {}) })).body).toMatchObject({
      code: 409,
      reason: 'AlreadyExists',
    });
  });

  it('understands JSON, merge and strategic patches', async () => {
    const path = '/api/v1/nodes';
    await call(path, {
      method: 'POST',
      body: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', labels: { a: '1' } } },
    });
    const merged = await call(`${path}/n1`, {
      method: 'PATCH',
      type: 'application/merge-patch+json',
      body: { spec: { unschedulable: true }, metadata: { labels: { a: null, b: '2' } } },
    });
    expect(merged.body).toMatchObject({ spec: { unschedulable: true }, metadata: { labels: { b: '2' } } });
    const json = await call(`${path}/n1`, {
      method: 'PATCH',
      type: 'application/json-patch+json',
      body: [
        { op: 'test', path: '/spec/unschedulable', value: true },
        { op: 'remove', path: '/spec/unschedulable' },
      ],
    });
    expect(json.body.spec.unschedulable).toBeUndefined();
    expect(
      (
        await call(`${path}/n1`, {
          method: 'PATCH',
          type: 'application/json-patch+json',
          body: [{ op: 'test', path: '/metadata/name', value: 'x' }],
        })
      ).status,
    ).toBe(422);
    const status = (conditions: Doc[]) =>
      call(`${path}/n1/status`, {
        method: 'PATCH',
        type: 'application/strategic-merge-patch+json',
        body: { status: { conditions } },
      });
    await status([
      { type: 'Ready', status: 'True' },
      { type: 'DiskPressure', status: 'False' },
    ]);
    const strategic = await status([{ type: 'Ready', status: 'False' }]);
    expect(strategic.body.status.conditions).toEqual([
      { type: 'Ready', status: 'False' },
      { type: 'DiskPressure', status: 'False' },
    ]);
    const provider = (id: string) =>
      call(`${path}/n1`, {
        method: 'PATCH',
        type: 'application/merge-patch+json',
        body: { spec: { providerID: id } },
      });
    expect((await provider('maas:///z/a')).status).toBe(200);
    expect(await provider('maas:///z/b')).toMatchObject({ status: 422, body: { reason: 'Invalid' } });
  });

  it('keeps objects with finalizers until the last one is gone, and collects dependents of the deleted', async () => {
    const owner = (
      await call(MAPS, {
        method: 'POST',
        body: { ...map('owner', {}), metadata: { name: 'owner', finalizers: ['pcg.example/hold'] } },
      })
    ).body;
    await call(MAPS, {
      method: 'POST',
      body: {
        ...map('child', {}),
        metadata: {
          name: 'child',
          ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner.metadata.uid }],
        },
      },
    });
    expect((await call(`${MAPS}/owner`, { method: 'DELETE' })).body.metadata.deletionTimestamp).toBeDefined();
    expect((await call(`${MAPS}/child`)).status).toBe(200);
    await call(`${MAPS}/owner`, {
      method: 'PATCH',
      type: 'application/merge-patch+json',
      body: { metadata: { finalizers: null } },
    });
    expect((await call(`${MAPS}/owner`)).status).toBe(404);
    await expect.poll(async () => (await call(`${MAPS}/child`)).status).toBe(404);
  });

  it('empties a deleted namespace and refuses new content in it meanwhile', async () => {
    await call('/api/v1/namespaces', {
      method: 'POST',
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'gone' } },
    });
    const inside = '/api/v1/namespaces/gone/configmaps';
    await call(inside, {
      method: 'POST',
      body: { ...map('held', {}), metadata: { name: 'held', finalizers: ['pcg.example/hold'] } },
    });
    await call('/api/v1/namespaces/gone', { method: 'DELETE' });
    expect(await call(inside, { method: 'POST', body: map('late', {}) })).toMatchObject({
      status: 403,
      body: { details: { causes: [{ reason: 'NamespaceTerminating' }] } },
    });
    await call(`${inside}/held`, {
      method: 'PATCH',
      type: 'application/merge-patch+json',
      body: { metadata: { finalizers: null } },
    });
    await expect.poll(async () => (await call('/api/v1/namespaces/gone')).status).toBe(404);
  });

  it('serves a custom resource once its definition is established, with its own schema', async () => {
    const crd = {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'widgets.pcg.example' },
      spec: {
        group: 'pcg.example',
        scope: 'Namespaced',
        names: { plural: 'widgets', kind: 'Widget', shortNames: ['wd'] },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            subresources: { status: {} },
            additionalPrinterColumns: [{ name: 'Size', type: 'integer', jsonPath: '.spec.size' }],
            schema: {
              openAPIV3Schema: {
                type: 'object',
                properties: {
                  spec: {
                    type: 'object',
                    properties: {
                      size: { type: 'integer' },
                      parts: {
                        type: 'array',
                        'x-kubernetes-list-type': 'map',
                        'x-kubernetes-list-map-keys': ['id'],
                        items: {
                          type: 'object',
                          properties: { id: { type: 'string' }, n: { type: 'integer' } },
                        },
                      },
                    },
                  },
                  status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
                },
              },
            },
          },
        ],
      },
    };
    const path = '/apis/pcg.example/v1/namespaces/default/widgets';
    expect((await call(path)).status).toBe(404);
    expect((await apply('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', crd, 'm')).status).toBe(
      201,
    );
    await expect.poll(async () => (await call(path)).status).toBe(200);
    const widget = (spec: Doc) => ({
      apiVersion: 'pcg.example/v1',
      kind: 'Widget',
      metadata: { name: 'w' },
      spec,
    });
    expect((await apply(path, widget({ size: 3, parts: [{ id: 'a', n: 1 }] }), 'one')).status).toBe(201);
    expect((await apply(path, widget({ parts: [{ id: 'b', n: 2 }] }), 'two')).body.spec.parts).toHaveLength(
      2,
    );
    expect((await apply(path, widget({ size: 'three' }), 'one')).status).toBe(422);
    expect((await apply(path, widget({ colour: 'red' }), 'three', '&fieldValidation=Strict')).status).toBe(
      400,
    );
    expect((await apply(path, widget({ colour: 'red' }), 'three')).body.spec).not.toHaveProperty('colour');
    const table = await call(path, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } });
    expect(table.body.rows[0].cells.slice(0, 2)).toEqual(['w', 3]);
    expect((await call('/apis/pcg.example/v1')).body.resources.map((resource: Doc) => resource.name)).toEqual(
      ['widgets', 'widgets/status'],
    );
  });

  it('respects disruption budgets at eviction: 429 for one, 500 for two', async () => {
    const pods = '/api/v1/namespaces/default/pods';
    const budget = (name: string) => ({
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { name },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'guarded' } } },
    });
    const budgets = '/apis/policy/v1/namespaces/default/poddisruptionbudgets';
    await call(pods, {
      method: 'POST',
      body: {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'guarded', labels: { app: 'guarded' } },
        spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'i' }] },
      },
    });
    await call(`${pods}/guarded/status`, {
      method: 'PATCH',
      type: 'application/merge-patch+json',
      body: { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } },
    });
    await apply(budgets, budget('one'), 'm');
    await expect.poll(async () => (await call(`${budgets}/one`)).body.status?.currentHealthy).toBe(1);
    const evict = (name: string) =>
      call(`${pods}/${name}/eviction`, {
        method: 'POST',
        body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name } },
      });
    const blocked = await evict('guarded');
    expect(blocked).toMatchObject({
      status: 429,
      body: { reason: 'TooManyRequests', details: { causes: [{ reason: 'DisruptionBudget' }] } },
    });
    // kube-apiserver names a time only for a budget that nobody has counted yet.
    expect(blocked.headers['retry-after']).toBeUndefined();
    await apply(budgets, budget('two'), 'm');
    expect((await evict('guarded')).status).toBe(500);
    expect((await evict('nobody')).status).toBe(404);
  });
});

describe('who may do what', () => {
  it('lets anonymous see health and version, and nothing else', async () => {
    const nobody = agent();
    for (const path of ['/healthz', '/livez', '/readyz', '/version'])
      expect((await call(path, { as: nobody })).status).toBe(200);
    expect(await call('/api/v1/nodes', { as: nobody })).toMatchObject({
      status: 403,
      body: {
        reason: 'Forbidden',
        message:
          'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope',
      },
    });
  });

  it('answers 401 to a certificate of another CA, an expired one, and a wrong token', async () => {
    const stranger = agent(
      await testClient(await testAuthority('kubernetes'), 'kubernetes-admin', ['system:masters']),
    );
    expect(await call('/api/v1/nodes', { as: stranger })).toMatchObject({
      status: 401,
      body: { reason: 'Unauthorized' },
    });
    const expired = agent(await testClient(ca, 'kubernetes-admin', ['system:masters'], -1000));
    expect((await call('/api/v1/nodes', { as: expired })).status).toBe(401);
    expect(
      (await call('/version', { as: agent(), headers: { authorization: 'Bearer abcdef.0123456789abcdef' } }))
        .status,
    ).toBe(401);
  });

  it('impersonates users and groups for those who may, by RBAC', async () => {
    const roles = '/apis/rbac.authorization.k8s.io/v1';
    await apply(
      `${roles}/clusterroles`,
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRole',
        metadata: { name: 'node-reader' },
        rules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['list'] }],
      },
      'm',
    );
    await apply(
      `${roles}/clusterrolebindings`,
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRoleBinding',
        metadata: { name: 'readers' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'node-reader' },
        subjects: [{ kind: 'Group', name: 'readers' }],
      },
      'm',
    );
    const as = (user: string, groups: string[] = []) => ({
      'impersonate-user': user,
      ...(groups.length > 0 ? { 'impersonate-group': groups } : {}),
    });
    expect((await call('/api/v1/nodes', { headers: as('eve', ['readers', 'others']) })).status).toBe(200);
    expect((await call('/api/v1/nodes', { headers: as('eve') })).status).toBe(403);
    expect((await call('/api/v1/nodes/n1', { headers: as('eve', ['readers']) })).status).toBe(403);
    const bob = agent(await testClient(ca, 'bob', ['readers']));
    expect((await call('/api/v1/nodes', { as: bob })).status).toBe(200);
    expect((await call('/api/v1/nodes', { as: bob, headers: as('eve') })).body.message).toMatch(
      /User "bob" cannot impersonate resource "users"/,
    );
    const review = await call('/apis/authentication.k8s.io/v1/selfsubjectreviews', {
      method: 'POST',
      body: { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
      headers: as('eve', ['readers']),
    });
    expect(review.body.status.userInfo).toEqual({
      username: 'eve',
      groups: ['readers', 'system:authenticated'],
    });
  });

  it('issues service account tokens that work until their account is gone', async () => {
    await expect
      .poll(async () => (await call('/api/v1/namespaces/default/serviceaccounts/default')).status)
      .toBe(200);
    await call('/api/v1/namespaces/default/serviceaccounts', {
      method: 'POST',
      body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'bot' } },
    });
    const issued = await call('/api/v1/namespaces/default/serviceaccounts/bot/token', {
      method: 'POST',
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: 600 },
      },
    });
    const headers = { authorization: `Bearer ${issued.body.status.token}` };
    const who = await call('/api/v1/nodes', { as: agent(), headers });
    expect(who.body.message).toContain('User "system:serviceaccount:default:bot"');
    await call('/api/v1/namespaces/default/serviceaccounts/bot', { method: 'DELETE' });
    expect((await call('/version', { as: agent(), headers })).status).toBe(401);
  });

  it('keeps kubelets to their own node', async () => {
    const kubelet = agent(await testClient(ca, 'system:node:n1', ['system:nodes']));
    const label = (name: string, key: string) =>
      call(`/api/v1/nodes/${name}`, {
        as: kubelet,
        method: 'PATCH',
        type: 'application/merge-patch+json',
        body: { metadata: { labels: { [key]: 'x' } } },
      });
    expect((await label('n1', 'pool')).status).toBe(200);
    expect((await label('n2', 'pool')).status).toBe(403);
    expect((await label('n1', 'node-role.kubernetes.io/control-plane')).body.message).toMatch(
      /is not allowed to modify labels/,
    );
    expect((await call('/api/v1/namespaces/default/secrets', { as: kubelet })).status).toBe(403);
  });
});

describe('malformed requests', () => {
  it.each<[string, string, Options, number]>([
    ['a path that nobody serves', '/apis/nowhere/v1/things', {}, 404],
    ['a resource of a group that has none of it', '/api/v1/deployments', {}, 404],
    ['broken percent-encoding', '/api/v1/namespaces/%zz/configmaps', {}, 400],
    ['a body that is no JSON', MAPS, { method: 'POST', body: '{"a":' }, 400],
    [
      'a body of another kind',
      MAPS,
      { method: 'POST', body: { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'a' } } },
      400,
    ],
    ['a name that is none', MAPS, { method: 'POST', body: map('Not_A_Name', {}) }, 422],
    [
      'a namespace that does not exist',
      '/api/v1/namespaces/nowhere/configmaps',
      { method: 'POST', body: map('a', {}) },
      404,
    ],
    [
      'a namespace in the body that is not the one in the path',
      MAPS,
      { method: 'POST', body: { ...map('a', {}), metadata: { name: 'a', namespace: 'other' } } },
      400,
    ],
    [
      'a patch type that nobody knows',
      `${MAPS}/s-1`,
      { method: 'PATCH', type: 'application/json', body: {} },
      415,
    ],
    ['a continue token that is none', `${MAPS}?limit=1&continue=%%%`, {}, 400],
    ['a replace of a collection', MAPS, { method: 'PUT', body: map('a', {}) }, 405],
    [
      'a body of 4 MiB',
      MAPS,
      { method: 'POST', body: JSON.stringify(map('a', { big: 'x'.repeat(4 * 1024 * 1024) })) },
      413,
    ],
    [
      'protobuf of a kind it does not read',
      MAPS,
      { method: 'POST', type: 'application/vnd.kubernetes.protobuf', body: 'k8s\u0000' },
      415,
    ],
  ])('answers %s with a Status', async (_what, path, options, status) => {
    const reply = await call(path, options);
    expect(reply.status).toBe(status);
    expect(reply.body).toMatchObject({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code: status });
  });
});
