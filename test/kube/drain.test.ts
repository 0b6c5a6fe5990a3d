/** What a drain does with each kind of pod, and with each answer of the eviction API. */
import { describe, expect, it } from 'vitest';
import type { KubeClient, KubeObject } from '../../src/kube/client.ts';
import { drainPass, type HoldRules, heldBack } from '../../src/kube/drain.ts';

const signal = new AbortController().signal;
const managed = { ownerReferences: [{ kind: 'ReplicaSet', name: 'web', controller: true }] };
const pod = (metadata: object = managed, volumes: object[] = []): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web-1', namespace: 'shop', uid: 'u1', ...metadata },
  spec: { volumes },
  status: { phase: 'Running' },
});

/** An API server with these pods and volumes that gives every eviction the same answer. */
function server(pods: KubeObject[], answer: { status: number; body?: object }, volumes: KubeObject[] = []) {
  const asked: string[] = [];
  const bodies: unknown[] = [];
  const client = {
    async list(path: string) {
      const items = path.startsWith('/api/v1/pods')
        ? pods
        : path.endsWith('persistentvolumes')
          ? volumes
          : [];
      return { items, resourceVersion: '1' };
    },
    get: async () => undefined,
    async request({ method, path, body }: { method: string; path: string; body: unknown }) {
      asked.push(`${method} ${path}`);
      bodies.push(body);
      return { status: answer.status, body: answer.body ?? {}, headers: {} };
    },
  } as unknown as KubeClient;
  return { client, asked, bodies };
}

const calm = { unreachable: false, force: false, nowMs: 0 };
const cause = (reason: string, message: string) => ({
  kind: 'Status',
  message: 'refused',
  details: { causes: [{ reason, message }] },
});
const name = { namespace: 'shop', name: 'web-1' };

describe('an eviction that is answered with', () => {
  it.each([
    [201, {}, { kind: 'draining', leaving: [name], blocked: [] }],
    [404, {}, { kind: 'drained' }],
    [409, {}, { kind: 'draining', leaving: [name], blocked: [] }],
    [403, cause('NamespaceTerminating', ''), { kind: 'draining', leaving: [name], blocked: [] }],
    [
      429,
      cause('DisruptionBudget', 'budget web allows none'),
      { blocked: [{ ...name, reason: 'disruption-budget', message: 'budget web allows none' }] },
    ],
    [
      403,
      cause('DisruptionBudget', 'budget web does not allow evicting pods currently: allowed is negative'),
      { blocked: [{ ...name, reason: 'disruption-budget', message: expect.stringContaining('negative') }] },
    ],
    [429, { kind: 'Status', message: 'too many requests' }, { blocked: [{ ...name, reason: 'throttled' }] }],
    [
      500,
      { kind: 'Status', message: 'more than one budget' },
      { blocked: [{ ...name, reason: 'conflicting-budgets' }] },
    ],
  ])('%i %o', async (status, body, outcome) => {
    const { client } = server([pod()], { status, body });
    expect(await drainPass(client, 'n1', calm, signal)).toMatchObject(outcome);
  });

  it.each([
    [403, { kind: 'Status', reason: 'Forbidden', message: 'no' }],
    [500, cause('InternalError', 'webhook failed')],
  ])('%i %o is an error of the server, not of the pod', async (status, body) => {
    const { client } = server([pod()], { status, body });
    await expect(drainPass(client, 'n1', calm, signal)).rejects.toMatchObject({
      code: expect.stringMatching(/^KUBE_/),
    });
  });
});

describe('what a drain asks for', () => {
  const uid = { preconditions: { uid: 'u1' } };
  it.each([
    ['an eviction', calm, { kind: 'Eviction', deleteOptions: uid }],
    [
      'a deletion by force',
      { ...calm, force: true },
      { kind: 'DeleteOptions', gracePeriodSeconds: 30, ...uid },
    ],
    [
      'an eviction from a node that is silent',
      { ...calm, unreachable: true },
      { kind: 'Eviction', deleteOptions: { gracePeriodSeconds: 1, ...uid } },
    ],
  ])('is %s of the very pod that was judged, not of a later one of its name', async (_what, how, body) => {
    const { client, bodies } = server([pod()], { status: 201 });
    await drainPass(client, 'n1', how, signal);
    expect(bodies).toEqual([expect.objectContaining(body)]);
  });
});

describe('a pod that only a person may end', () => {
  const volume = (spec: object): KubeObject => ({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: 'pv' },
    spec: { ...spec, claimRef: { namespace: 'shop', name: 'data' } },
  });
  const claiming = pod(managed, [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }]);
  const rules = (unmanaged: boolean, localData: boolean): HoldRules => ({ unmanaged, localData });

  it.each([
    ['no controller', pod({}), rules(true, false), 'unmanaged'],
    [
      'an owner that is no controller',
      pod({ ownerReferences: [{ kind: 'Node', name: 'n1' }] }),
      rules(true, false),
      'unmanaged',
    ],
    ['an emptyDir', pod(managed, [{ name: 'cache', emptyDir: {} }]), rules(false, true), 'local-data'],
    ['no controller, but nobody minds', pod({}), rules(false, true), undefined],
    [
      'an emptyDir, but nobody minds',
      pod(managed, [{ name: 'cache', emptyDir: {} }]),
      rules(true, false),
      undefined,
    ],
    ['a controller and no data', pod(), rules(true, true), undefined],
  ])('because of %s', (_what, given, hold, reason) => {
    expect(heldBack(given, hold, new Set())?.reason).toBe(reason);
  });

  it.each([
    ['local', { local: { path: '/mnt/a' } }, true],
    ['hostPath', { hostPath: { path: '/mnt/a' } }, true],
    ['network', { nfs: { server: 'nas' } }, false],
  ])('because of a claim on a %s volume', async (_kind, spec, held) => {
    const { client, asked } = server([claiming], { status: 201 }, [volume(spec)]);
    const outcome = await drainPass(client, 'n1', { ...calm, hold: rules(false, true) }, signal);
    expect(outcome).toMatchObject(
      held ? { blocked: [{ reason: 'local-data' }], leaving: [] } : { leaving: [name] },
    );
    expect(asked).toHaveLength(held ? 0 : 1);
  });

  it('is not ended by force either, while everything else is', async () => {
    const other = pod({ ...managed, name: 'web-2' });
    const { client, asked } = server([pod({}), other], { status: 200 });
    const outcome = await drainPass(client, 'n1', { ...calm, force: true, hold: rules(true, true) }, signal);
    expect(outcome).toMatchObject({
      blocked: [{ ...name, reason: 'unmanaged' }],
      leaving: [{ name: 'web-2' }],
    });
    expect(asked).toEqual(['DELETE /api/v1/namespaces/shop/pods/web-2']);
  });
});
