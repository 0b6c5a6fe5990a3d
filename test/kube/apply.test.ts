import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import type { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { applyObjects, inApplyOrder, unreadyObjects } from '../../src/kube/apply.ts';
import type { KubeClient, KubeObject } from '../../src/kube/client.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import { judgeReadiness } from '../../src/kube/readiness.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { quietClient } from '../support/quiet-client.ts';
import { readBody, sendJson, startTlsServer } from '../support/tls-server.ts';

const signal = new AbortController().signal;

function object(
  kind: string,
  apiVersion: string,
  name = kind.toLowerCase(),
  rest: Record<string, unknown> = {},
): KubeObject {
  return { apiVersion, kind, metadata: { name }, ...rest };
}

describe('the order of applying', () => {
  it('puts what others need first, custom resources last, and keeps the text order within a kind', () => {
    const objects = [
      object('Widget', 'example.io/v1'),
      object('Service', 'serving.example.io/v1', 'not-a-core-service'),
      object('ValidatingWebhookConfiguration', 'admissionregistration.k8s.io/v1'),
      object('Deployment', 'apps/v1', 'b'),
      object('Deployment', 'apps/v1', 'a'),
      object('ClusterRoleBinding', 'rbac.authorization.k8s.io/v1'),
      object('ConfigMap', 'v1'),
      object('ServiceAccount', 'v1'),
      object('CustomResourceDefinition', 'apiextensions.k8s.io/v1'),
      object('Namespace', 'v1'),
    ];
    expect(inApplyOrder(objects).map(({ kind, metadata }) => `${kind}/${metadata.name}`)).toEqual([
      'Namespace/namespace',
      'CustomResourceDefinition/customresourcedefinition',
      'ServiceAccount/serviceaccount',
      'ClusterRoleBinding/clusterrolebinding',
      'ConfigMap/configmap',
      'Deployment/b',
      'Deployment/a',
      'ValidatingWebhookConfiguration/validatingwebhookconfiguration',
      'Widget/widget',
      'Service/not-a-core-service',
    ]);
  });
});

/** Applies one ConfigMap against answers given in turn; the last one is repeated. Time runs by itself. */
async function applyAgainst(answers: { status: number; body?: unknown }[]) {
  let requests = 0;
  await using server = await startTlsServer(async (request, response) => {
    const sent = JSON.parse(await readBody(request));
    const answer = answers[Math.min(requests, answers.length - 1)] ?? { status: 200 };
    requests += 1;
    sendJson(
      response,
      answer.status,
      answer.body ?? (answer.status === 200 ? sent : { kind: 'Status', message: 'no' }),
    );
  });
  const clock = new ManualClock();
  await using connection = createKubeClient(server.target, { clock, log: silentLog });
  const { client, pass } = quietClient(connection, clock);
  const started = clock.monotonic();
  const applying = applyObjects(
    client,
    [object('ConfigMap', 'v1')],
    { clock, fieldManager: 'pcg' },
    signal,
  ).then(
    () => 'applied',
    (error: unknown) => error as PcgError,
  );
  let outcome: string | PcgError = 'pending';
  for (let round = 0; outcome === 'pending' && round < 1_000; round += 1) {
    await pass(500, 500);
    outcome = await Promise.race([applying, Promise.resolve('pending')]);
  }
  return { outcome, requests, elapsedMs: clock.monotonic() - started };
}

describe('applying patiently', () => {
  it('waits for a namespace, a webhook and a busy server', async () => {
    const { outcome, requests } = await applyAgainst([
      { status: 404, body: { kind: 'Status', reason: 'NotFound', message: 'namespaces "x" not found' } },
      { status: 500, body: { kind: 'Status', reason: 'InternalError', message: 'failed calling webhook' } },
      { status: 429 },
      { status: 200 },
    ]);
    expect(outcome).toBe('applied');
    expect(requests).toBe(4);
  });

  it.each([
    [409, 'KUBE_CONFLICT'],
    [422, 'KUBE_REJECTED'],
    [403, 'KUBE_UNAUTHORIZED'],
  ])('reports HTTP %i at once', async (status, code) => {
    const { outcome, requests } = await applyAgainst([{ status }]);
    expect(outcome).toMatchObject({ code });
    expect(requests).toBe(1);
  });

  it('gives up after five minutes', async () => {
    const { outcome, elapsedMs } = await applyAgainst([{ status: 503 }]);
    expect(outcome).toMatchObject({ code: 'KUBE_UNREACHABLE' });
    expect(elapsedMs).toBeGreaterThan(299_000);
    expect(elapsedMs).toBeLessThan(330_000);
  });
});

describe('a definition and its objects', () => {
  const crd = object('CustomResourceDefinition', 'apiextensions.k8s.io/v1', 'widgets.example.io');
  /** An API server that establishes the definition at the look of this number. */
  async function applyWith(established: number) {
    const calls: string[] = [];
    let now = 0;
    const clock = { monotonic: () => now, sleep: async (ms: number) => void (now += ms) } as unknown as Clock;
    let looks = 0;
    const client = {
      async apply(applied: KubeObject) {
        calls.push(`apply ${applied.kind}`);
        return applied;
      },
      async get() {
        looks += 1;
        calls.push('look');
        const status = looks >= established ? 'True' : 'False';
        return { ...crd, status: { conditions: [{ type: 'Established', status }] } };
      },
    } as unknown as KubeClient;
    const objects = [object('Widget', 'example.io/v1'), crd];
    const applying = applyObjects(client, objects, { clock, fieldManager: 'pcg' }, signal);
    return { calls, applying, elapsedMs: () => now };
  }

  it('comes first, and they wait until it is established', async () => {
    const { calls, applying } = await applyWith(3);
    await applying;
    expect(calls).toEqual(['apply CustomResourceDefinition', 'look', 'look', 'look', 'apply Widget']);
  });

  it('is an error by name when it never is', async () => {
    const { calls, applying, elapsedMs } = await applyWith(Number.POSITIVE_INFINITY);
    await expect(applying).rejects.toMatchObject({
      code: 'ADDON_NOT_READY',
      message: expect.stringContaining('widgets.example.io'),
    });
    expect(elapsedMs()).toBeGreaterThanOrEqual(60_000);
    expect(calls).not.toContain('apply Widget');
  });
});

describe('readiness', () => {
  const workload = (kind: string, spec: unknown, status: unknown): KubeObject => ({
    apiVersion: 'apps/v1',
    kind,
    metadata: { name: 'x', generation: 3 },
    spec,
    status,
  });
  it.each<[string, KubeObject, string]>([
    ['a new Deployment', workload('Deployment', { replicas: 2 }, {}), 'waiting'],
    [
      'an old status',
      workload(
        'Deployment',
        { replicas: 1 },
        { observedGeneration: 2, updatedReplicas: 1, availableReplicas: 1 },
      ),
      'waiting',
    ],
    [
      'half a Deployment',
      workload(
        'Deployment',
        { replicas: 2 },
        { observedGeneration: 3, updatedReplicas: 2, availableReplicas: 1 },
      ),
      'waiting',
    ],
    [
      'a Deployment',
      workload(
        'Deployment',
        { replicas: 2 },
        { observedGeneration: 3, updatedReplicas: 2, availableReplicas: 2 },
      ),
      'ready',
    ],
    ['a Deployment of none', workload('Deployment', { replicas: 0 }, { observedGeneration: 3 }), 'ready'],
    ['an unscheduled DaemonSet', workload('DaemonSet', {}, { observedGeneration: 3 }), 'waiting'],
    [
      'a DaemonSet on no node',
      workload('DaemonSet', {}, { observedGeneration: 3, desiredNumberScheduled: 0 }),
      'ready',
    ],
    [
      'half a DaemonSet',
      workload(
        'DaemonSet',
        {},
        { observedGeneration: 3, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 2 },
      ),
      'waiting',
    ],
    [
      'a DaemonSet',
      workload(
        'DaemonSet',
        {},
        { observedGeneration: 3, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3 },
      ),
      'ready',
    ],
    [
      'a StatefulSet',
      workload(
        'StatefulSet',
        { replicas: 1 },
        { observedGeneration: 3, updatedReplicas: 1, readyReplicas: 1 },
      ),
      'ready',
    ],
    [
      'a StatefulSet updated by hand',
      workload(
        'StatefulSet',
        { replicas: 1, updateStrategy: { type: 'OnDelete' } },
        { observedGeneration: 3, readyReplicas: 1 },
      ),
      'ready',
    ],
    [
      'a failed Job',
      workload('Job', {}, { conditions: [{ type: 'Failed', status: 'True', message: 'deadline' }] }),
      'failed',
    ],
    ['a complete Job', workload('Job', {}, { conditions: [{ type: 'Complete', status: 'True' }] }), 'ready'],
    ['a running Job', workload('Job', {}, {}), 'waiting'],
    [
      'a CRD',
      workload('CustomResourceDefinition', {}, { conditions: [{ type: 'Established', status: 'False' }] }),
      'waiting',
    ],
    ['lies', workload('Deployment', 'spec', { observedGeneration: '3', conditions: 'none' }), 'waiting'],
    ['a ConfigMap', object('ConfigMap', 'v1'), 'ready'],
  ])('of %s is judged', (_what, given, wanted) => {
    expect(judgeReadiness(given).kind).toBe(wanted);
  });

  it('names what is missing and what will never come', async () => {
    await using server = await startTlsServer((request, response) => {
      if (request.url?.includes('deployments')) sendJson(response, 404, { kind: 'Status' });
      else
        sendJson(response, 200, {
          ...object('Job', 'batch/v1'),
          status: { conditions: [{ type: 'Failed', status: 'True', message: 'BackoffLimitExceeded' }] },
        });
    });
    await using client = createKubeClient(server.target, { clock: new ManualClock(), log: silentLog });
    const unready = await unreadyObjects(
      client,
      [object('Deployment', 'apps/v1', 'web'), object('Job', 'batch/v1', 'init'), object('Secret', 'v1')],
      signal,
    );
    expect(unready).toEqual([
      { object: 'Deployment web', why: 'it does not exist', final: false },
      { object: 'Job init', why: 'BackoffLimitExceeded', final: true },
    ]);
  });
});
