/**
 * What the product needs of any Kubernetes API server: server-side apply, watches, leases, evictions, tokens and
 * RBAC. The same promises are tested on the simulator's server and on a real one.
 */
import { expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { renderPack } from '../../src/cluster/packs.ts';
import {
  cisScanJob,
  conformanceScan,
  patchJob,
  policyNamespace,
  rebootJob,
  renewCertificatesJob,
  vulnerabilityScan,
} from '../../src/cluster/policies-manifests.ts';
import { applyObjects } from '../../src/kube/apply.ts';
import {
  bootstrapTokenExpiry,
  deleteBootstrapToken,
  ensureBootstrapToken,
} from '../../src/kube/bootstrap-token.ts';
import type { KubeClient, KubeObject, WatchEvent } from '../../src/kube/client.ts';
import { drainPass } from '../../src/kube/drain.ts';
import { inventoryOf, pruneObjects } from '../../src/kube/inventory.ts';
import { leadWhilePossible } from '../../src/kube/lease.ts';
import { cordonNode, deleteNode, syncNode } from '../../src/kube/nodes.ts';
import { kubeVipRbac, upgradeRbac } from '../../src/kube/rbac.ts';
import type { TestApiServer } from './api-server.ts';
import { resolvedProfile } from './node-input.ts';
import { patientClock } from './patient-clock.ts';
import { clientPair, testPki } from './tls-server.ts';

const signal = new AbortController().signal;
const FACTS = {
  clusterName: 'demo',
  podCidr: '10.50.0.0/16',
  serviceCidr: '10.96.0.0/16',
  endpointHost: '10.20.0.200',
  endpointPort: 6443,
};
const applying = { clock: patientClock, fieldManager: 'pcg-bootstrapper/test', force: true };

/**
 * A real server judges tokens and rights by what its own watches have brought, milliseconds later, and believes a
 * token that it accepted for ten seconds.
 */
const CACHES_CATCH_UP = { timeout: 60_000, interval: 100 };

function configMap(name: string, data: Record<string, string>): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data };
}

function namespace(name: string): KubeObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
}

async function failure(promise: Promise<unknown>): Promise<PcgError> {
  const error = await promise.then(
    () => expect.fail('should have failed'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(PcgError);
  return error as PcgError;
}

/** A running pod on a node, as far as an API server without kubelets shows one. */
async function runningPod(
  client: KubeClient,
  name: string,
  nodeName: string,
  metadata: Record<string, unknown> = {},
): Promise<void> {
  await client.create(
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'default', ...metadata },
      spec: { nodeName, containers: [{ name: 'c', image: 'registry.k8s.io/pause:3.10' }] },
    },
    signal,
  );
  const status = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
  await client.patch(`/api/v1/namespaces/default/pods/${name}/status`, { status }, 'merge', signal);
}

export function apiServerSuite(start: () => Promise<TestApiServer>): void {
  it('applies the network pack of the default profile, and applying again changes nothing', async () => {
    await using server = await start();
    const objects = renderPack(resolvedProfile().cni, {}, FACTS);
    await applyObjects(server.client, objects, applying, signal);
    const path = '/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds';
    const first = await server.client.get(path, signal);
    const config = await server.client.get(
      '/api/v1/namespaces/kube-flannel/configmaps/kube-flannel-cfg',
      signal,
    );
    expect((config?.['data'] as Record<string, string> | undefined)?.['net-conf.json']).toContain(
      '"Network": "10.50.0.0/16"',
    );
    await applyObjects(server.client, objects, { ...applying, force: false }, signal);
    expect((await server.client.get(path, signal))?.metadata.resourceVersion).toBe(
      first?.metadata.resourceVersion,
    );
  });

  it('keeps every field of an object and removes what is no longer applied', async () => {
    await using server = await start();
    const policy = (from: unknown[]): KubeObject => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'deny', namespace: 'default', labels: { a: '1' } },
      spec: { podSelector: {}, ingress: [{ from }] },
    });
    const applied = await server.client.apply(
      policy([{ podSelector: { matchLabels: { x: 'y' } } }]),
      applying,
      signal,
    );
    expect(applied['spec']).toMatchObject({
      ingress: [{ from: [{ podSelector: { matchLabels: { x: 'y' } } }] }],
    });
    const { labels: _, ...metadata } = policy([]).metadata;
    const unlabelled = await server.client.apply(
      { ...policy([{ podSelector: {} }]), metadata },
      applying,
      signal,
    );
    expect(unlabelled.metadata.labels ?? {}).toEqual({});
  });

  it('shows a conflict with another field manager instead of overwriting, unless forced', async () => {
    await using server = await start();
    await server.client.apply(configMap('shared', { key: 'mine' }), applying, signal);
    const other = { fieldManager: 'somebody-else', force: false };
    const conflict = await failure(
      server.client.apply(configMap('shared', { key: 'theirs' }), other, signal),
    );
    expect(conflict.code).toBe('KUBE_CONFLICT');
    expect(conflict.details?.['causes']).toEqual([
      expect.objectContaining({ reason: 'FieldManagerConflict', field: '.data.key' }),
    ]);
    await server.client.apply(configMap('shared', { key: 'theirs' }), { ...other, force: true }, signal);
    expect(
      (await server.client.get('/api/v1/namespaces/default/configmaps/shared', signal))?.['data'],
    ).toEqual({ key: 'theirs' });
  });

  it('applies a CRD, waits until it is served, and then its objects', async () => {
    await using server = await start();
    const crd: KubeObject = {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'widgets.pcg.example' },
      spec: {
        group: 'pcg.example',
        names: { kind: 'Widget', listKind: 'WidgetList', plural: 'widgets', singular: 'widget' },
        scope: 'Namespaced',
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: {
              openAPIV3Schema: {
                type: 'object',
                properties: { spec: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
              },
            },
          },
        ],
      },
    };
    const widget: KubeObject = {
      apiVersion: 'pcg.example/v1',
      kind: 'Widget',
      metadata: { name: 'w', namespace: 'tools' },
      spec: { deep: { list: [1, { a: null }] } },
    };
    const applied = await applyObjects(server.client, [widget, namespace('tools'), crd], applying, signal);
    expect(applied.map((object) => object.kind)).toEqual(['Namespace', 'CustomResourceDefinition', 'Widget']);
    const stored = await server.client.get('/apis/pcg.example/v1/namespaces/tools/widgets/w', signal);
    expect((stored?.['spec'] as { deep: unknown } | undefined)?.deep).toMatchObject({ list: [1, {}] });
    const kind = (applied[1] as KubeObject)['spec'] as { versions: { schema: unknown }[] };
    expect(JSON.stringify(kind.versions)).toContain('x-kubernetes-preserve-unknown-fields');
  });

  it('prunes what left a pack, but nothing that others took over and nothing that holds data', async () => {
    await using server = await start();
    const before = [
      namespace('keep'),
      configMap('stays', { a: '1' }),
      configMap('goes', { a: '1' }),
      configMap('taken', { a: '1' }),
    ];
    await applyObjects(server.client, before, applying, signal);
    await server.client.apply(
      configMap('taken', { a: '2' }),
      { fieldManager: 'person', force: true },
      signal,
    );
    // Their apply owns the last field that we owned, so nothing of it is ours any more.
    const inventory = inventoryOf(before);
    const result = await pruneObjects(
      server.client,
      inventory,
      [configMap('stays', {})],
      applying.fieldManager,
      signal,
    );
    expect(result.deleted).toEqual(['ConfigMap default/goes']);
    expect(result.kept).toEqual(
      expect.arrayContaining([
        { object: 'ConfigMap default/taken', reason: 'not-ours' },
        { object: 'Namespace keep', reason: 'holds-data' },
      ]),
    );
    const again = await pruneObjects(
      server.client,
      inventory,
      [configMap('stays', {})],
      applying.fieldManager,
      signal,
    );
    expect(again.deleted).toEqual([]);
  });

  it('takes what policies put into a cluster, every field of it', async () => {
    await using server = await start();
    const run = { id: 'run-1' };
    const objects = [
      policyNamespace(),
      patchJob(run, 'node-1'),
      rebootJob(run, 'node-1'),
      renewCertificatesJob(run, 'node-1'),
      cisScanJob(run, 'node-1', 'control-plane'),
      ...vulnerabilityScan(run),
      ...conformanceScan(run, 'v1.36.1', 'quick'),
    ];
    const applied = await applyObjects(server.client, objects, applying, signal);
    expect(applied.map(({ kind }) => kind).sort()).toEqual(objects.map(({ kind }) => kind).sort());
    const jobs = await server.client.list('/apis/batch/v1/namespaces/pcg-policies/jobs', signal);
    expect(jobs.items).toHaveLength(6);
  });

  it('watches from a list on: changes in order, none missed', async () => {
    await using server = await start();
    const { client } = server;
    await client.create(configMap('before', {}), signal);
    const path = '/api/v1/namespaces/default/configmaps';
    const { resourceVersion, items } = await client.list(path, signal);
    expect(items.map((item) => item.metadata.name)).toContain('before');
    const stop = new AbortController();
    const events: string[] = [];
    const watching = (async () => {
      for await (const event of client.watch(path, resourceVersion, stop.signal)) {
        if (event.type === 'BOOKMARK') continue;
        events.push(`${event.type} ${event.object.metadata.name}`);
        if (event.type === 'DELETED') return;
      }
    })();
    await client.create(configMap('new', {}), signal);
    await client.patch(`${path}/new`, { data: { a: 'b' } }, 'merge', signal);
    await client.delete(`${path}/new`, signal);
    await watching;
    stop.abort();
    expect(events).toEqual(['ADDED new', 'MODIFIED new', 'DELETED new']);
  });

  it('elects one leader, hands over at release, and never has two', async () => {
    await using server = await start();
    const log: string[] = [];
    /** Looks at the lease that were in vain. */
    const waits = { one: 0, two: 0 };
    const candidate = (identity: 'one' | 'two', stop: AbortSignal) =>
      leadWhilePossible(
        {
          client: server.client,
          clock: {
            ...patientClock,
            sleep: (ms, until) => {
              waits[identity] += 1;
              return patientClock.sleep(ms, until);
            },
          },
          log: silentLog,
          namespace: 'default',
          name: 'leader',
          identity,
          timings: { leaseMs: 300_000, renewDeadlineMs: 200_000, retryMs: 100 },
        },
        stop,
        async (leading) => {
          log.push(`${identity} starts`);
          await new Promise<void>((resolve) =>
            leading.addEventListener('abort', () => resolve(), { once: true }),
          );
          log.push(`${identity} ends`);
        },
      );
    const [first, second] = [new AbortController(), new AbortController()];
    const one = candidate('one', first.signal);
    while (log.length === 0) await systemClock.sleep(10);
    const two = candidate('two', second.signal);
    while (waits.two < 4) await systemClock.sleep(10);
    expect(log).toEqual(['one starts']);
    first.abort();
    await one;
    const waited = waits.two;
    while (log.length < 3) await systemClock.sleep(10);
    // at once: the lease was given back, not left to expire; one look may have been under way
    expect(waits.two - waited).toBeLessThanOrEqual(2);
    second.abort();
    await two;
    expect(log).toEqual(['one starts', 'one ends', 'two starts', 'two ends']);
    const lease = await server.client.get(
      '/apis/coordination.k8s.io/v1/namespaces/default/leases/leader',
      signal,
    );
    expect(lease?.['spec']).toMatchObject({ holderIdentity: '', leaseTransitions: 1 });
  });

  it('drains a node by evictions, waits for budgets, and deletes pods when forced', async () => {
    await using server = await start();
    const { client } = server;
    await runningPod(client, 'free', 'n1');
    await runningPod(client, 'guarded', 'n1', { labels: { app: 'guarded' } });
    await runningPod(client, 'elsewhere', 'n2');
    await runningPod(client, 'mirror', 'n1', { annotations: { 'kubernetes.io/config.mirror': 'x' } });
    const budget = '/apis/policy/v1/namespaces/default/poddisruptionbudgets/guarded';
    await client.create(
      {
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'guarded', namespace: 'default' },
        spec: { minAvailable: 1, selector: { matchLabels: { app: 'guarded' } } },
      },
      signal,
    );
    const status = {
      disruptionsAllowed: 0,
      currentHealthy: 1,
      desiredHealthy: 1,
      expectedPods: 1,
      observedGeneration: 1,
    };
    await client.patch(`${budget}/status`, { status }, 'merge', signal);
    const patient = { unreachable: false, force: false, nowMs: Date.now() };
    const first = await drainPass(client, 'n1', patient, signal);
    expect(first).toMatchObject({
      kind: 'draining',
      leaving: [{ name: 'free' }],
      blocked: [{ name: 'guarded', reason: 'disruption-budget' }],
    });
    const forced = await drainPass(client, 'n1', { ...patient, force: true }, signal);
    expect(forced).toMatchObject({ kind: 'draining', blocked: [] });
    expect(await client.get('/api/v1/namespaces/default/pods/elsewhere', signal)).not.toHaveProperty(
      'metadata.deletionTimestamp',
    );
    expect(await client.get('/api/v1/namespaces/default/pods/mirror', signal)).not.toHaveProperty(
      'metadata.deletionTimestamp',
    );
    const silent = await drainPass(
      client,
      'n1',
      { unreachable: true, force: true, nowMs: Date.now() + 120_000 },
      signal,
    );
    expect(silent).toEqual({ kind: 'drained' });
  });

  it('lets no pod of a budget go before the budget is counted, but one that is not Ready when it has enough', async () => {
    await using server = await start();
    const { client } = server;
    await runningPod(client, 'sick', 'n1', { labels: { app: 'guarded' } });
    const sick = { conditions: [{ type: 'Ready', status: 'False' }] };
    await client.patch('/api/v1/namespaces/default/pods/sick/status', { status: sick }, 'merge', signal);
    const budget = '/apis/policy/v1/namespaces/default/poddisruptionbudgets/guarded';
    await client.create(
      {
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'guarded', namespace: 'default' },
        spec: { minAvailable: 1, selector: { matchLabels: { app: 'guarded' } } },
      },
      signal,
    );
    const calm = { unreachable: false, force: false, nowMs: Date.now() };
    expect(await drainPass(client, 'n1', calm, signal)).toMatchObject({
      leaving: [],
      blocked: [
        {
          name: 'sick',
          reason: 'disruption-budget',
          message: expect.stringContaining('still being processed'),
        },
      ],
    });
    const status = {
      disruptionsAllowed: 0,
      currentHealthy: 1,
      desiredHealthy: 1,
      expectedPods: 2,
      observedGeneration: 1,
    };
    await client.patch(`${budget}/status`, { status }, 'merge', signal);
    expect(await drainPass(client, 'n1', calm, signal)).toMatchObject({
      leaving: [{ name: 'sick' }],
      blocked: [],
    });
  });

  it('counts a node as drained only when storage has let go of it', async () => {
    await using server = await start();
    const { client } = server;
    await client.create(
      {
        apiVersion: 'storage.k8s.io/v1',
        kind: 'VolumeAttachment',
        metadata: { name: 'csi-1' },
        spec: { attacher: 'csi.example', nodeName: 'n1', source: { persistentVolumeName: 'pv-1' } },
      },
      signal,
    );
    const calm = { unreachable: false, force: false, nowMs: Date.now() };
    expect(await drainPass(client, 'n1', calm, signal)).toMatchObject({
      kind: 'draining',
      blocked: [{ name: 'csi-1', reason: 'volume-attached', message: 'volume pv-1 is still attached' }],
    });
    expect(await drainPass(client, 'n1', { ...calm, unreachable: true }, signal)).toEqual({
      kind: 'drained',
    });
    expect(await drainPass(client, 'n2', calm, signal)).toEqual({ kind: 'drained' });
  });

  it('names a pod that two budgets claim as misconfigured', async () => {
    await using server = await start();
    const { client } = server;
    await runningPod(client, 'torn', 'n1', { labels: { app: 'torn' } });
    for (const name of ['a', 'b'])
      await client.create(
        {
          apiVersion: 'policy/v1',
          kind: 'PodDisruptionBudget',
          metadata: { name, namespace: 'default' },
          spec: { minAvailable: 1, selector: { matchLabels: { app: 'torn' } } },
        },
        signal,
      );
    const outcome = await drainPass(
      client,
      'n1',
      { unreachable: false, force: false, nowMs: Date.now() },
      signal,
    );
    expect(outcome).toMatchObject({ blocked: [{ name: 'torn', reason: 'conflicting-budgets' }] });
  });

  it('issues, extends and withdraws bootstrap tokens that the server accepts', async () => {
    await using server = await start();
    const { client } = server;
    const token = { id: 'abcdef', secret: '0123456789abcdef' };
    const machine = server.connect({
      certPem: undefined,
      keyPem: undefined,
      token: `${token.id}.${token.secret}`,
    } as never);
    const whoAmI = () =>
      machine.request(
        {
          method: 'POST',
          path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
          body: { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
        },
        signal,
      );
    expect((await whoAmI()).status).toBe(401);
    const nowMs = Date.now();
    await ensureBootstrapToken(client, token, { nowMs, ttlMs: 600_000, description: 'node one' }, signal);
    await expect.poll(async () => (await whoAmI()).status, CACHES_CATCH_UP).toBe(201);
    const expiry = await bootstrapTokenExpiry(client, token.id, signal);
    expect(Math.abs((expiry ?? 0) - (nowMs + 600_000))).toBeLessThan(1000);
    expect((await whoAmI()).body).toMatchObject({
      status: {
        userInfo: {
          username: 'system:bootstrap:abcdef',
          groups: expect.arrayContaining(['system:bootstrappers:kubeadm:default-node-token']),
        },
      },
    });
    await ensureBootstrapToken(
      client,
      token,
      { nowMs: nowMs + 600_000, ttlMs: 600_000, description: 'node one' },
      signal,
    );
    expect((await bootstrapTokenExpiry(client, token.id, signal)) ?? 0).toBeGreaterThan(nowMs + 1_100_000);
    await deleteBootstrapToken(client, token.id, signal);
    await deleteBootstrapToken(client, token.id, signal);
    expect(await bootstrapTokenExpiry(client, token.id, signal)).toBeUndefined();
    await expect.poll(async () => (await whoAmI()).status, CACHES_CATCH_UP).toBe(401);
  });

  it('gives kube-vip its leases and nothing else', async () => {
    await using server = await start();
    const { kubeVip } = await testPki();
    const vip = server.connect({ certPem: kubeVip.certPem, keyPem: kubeVip.keyPem });
    const lease = (name: string, inNamespace: string): KubeObject => ({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name, namespace: inNamespace },
      spec: { holderIdentity: 'cp-1', leaseDurationSeconds: 15 },
    });
    await applyObjects(server.client, [namespace('kube-system')], applying, signal);
    expect(
      (await failure(vip.create(lease('plndr-cp-lock', 'kube-system'), signal))).details?.['status'],
    ).toBe(403);
    await applyObjects(server.client, kubeVipRbac(), applying, signal);
    const create = () => vip.create(lease('plndr-cp-lock', 'kube-system'), signal);
    await expect
      .poll(() => create().catch(({ code }: PcgError) => code), CACHES_CATCH_UP)
      .toMatchObject({ kind: 'Lease' });
    for (const attempt of [
      () => vip.create(lease('plndr-cp-lock', 'default'), signal),
      () => vip.list('/api/v1/secrets', signal),
      () => vip.list('/api/v1/namespaces/kube-system/configmaps', signal),
      () => vip.delete('/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-cp-lock', signal),
    ])
      expect((await failure(attempt())).code).toBe('KUBE_UNAUTHORIZED');
  });

  it('accepts the objects that an upgrade must create, once', async () => {
    await using server = await start();
    for (const object of upgradeRbac('v1.37.0')) {
      expect(await server.client.create(object, signal)).toMatchObject({
        metadata: { name: object.metadata.name },
      });
      expect(await server.client.create(object, signal)).toBe('exists');
    }
    expect(upgradeRbac('v1.38.0')).toEqual([]);
  });

  it('sets labels and taints of a pool on a node, takes away what the pool dropped, and leaves the rest', async () => {
    await using server = await start();
    const { client } = server;
    const foreign = { key: 'node.example/draining', effect: 'NoSchedule' };
    await client.create(
      {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' } },
        spec: { taints: [foreign] },
      },
      signal,
    );
    const wanted = {
      labels: { tier: 'gold', 'node-role.kubernetes.io/storage': '' },
      taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }],
      providerId: 'maas:///zone-a/x4ycgr',
    };
    expect(await syncNode(client, 'n1', wanted, signal)).toBe('changed');
    expect(await syncNode(client, 'n1', wanted, signal)).toBe('unchanged');
    const node = await client.get('/api/v1/nodes/n1', signal);
    expect(node?.metadata.labels).toMatchObject({
      'kubernetes.io/hostname': 'n1',
      tier: 'gold',
      'node-role.kubernetes.io/storage': '',
    });
    const taints = (node?.['spec'] as { taints: { key: string }[] } | undefined)?.taints;
    expect(taints).toEqual(
      expect.arrayContaining([
        expect.objectContaining(foreign),
        expect.objectContaining({ key: 'gpu', value: 'yes' }),
      ]),
    );
    expect(await syncNode(client, 'n1', { labels: {}, taints: [] }, signal)).toBe('changed');
    const after = await client.get('/api/v1/nodes/n1', signal);
    expect(after?.metadata.labels).not.toHaveProperty('tier');
    expect(after?.metadata.labels).toHaveProperty(['kubernetes.io/hostname']);
    expect(
      ((after?.['spec'] as { taints?: { key: string }[] } | undefined)?.taints ?? []).map(
        (taint) => taint.key,
      ),
    ).not.toContain('gpu');
    await cordonNode(client, 'n1', true, signal);
    expect((await client.get('/api/v1/nodes/n1', signal))?.['spec']).toMatchObject({ unschedulable: true });
    await cordonNode(client, 'n1', false, signal);
    expect((await client.get('/api/v1/nodes/n1', signal))?.['spec']).not.toHaveProperty(
      'unschedulable',
      true,
    );
    await deleteNode(client, 'n1', signal);
    await deleteNode(client, 'n1', signal);
    expect(await syncNode(client, 'n1', wanted, signal)).toBe('absent');
  });

  it('refuses strangers: a certificate of another group and no certificate at all', async () => {
    await using server = await start();
    const nobody = await clientPair((await testPki()).ca, ['nobodies']);
    const stranger = server.connect({ certPem: nobody.certPem, keyPem: nobody.keyPem });
    expect((await failure(stranger.list('/api/v1/secrets', signal))).details?.['status']).toBe(403);
    expect(await stranger.ready(signal)).toBe(true);
    const watched: WatchEvent[] = [];
    const watching = (async () => {
      for await (const event of stranger.watch('/api/v1/secrets', '0', signal)) watched.push(event);
    })();
    expect((await failure(watching)).code).toBe('KUBE_UNAUTHORIZED');
  });
}
