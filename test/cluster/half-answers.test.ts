/** An API server that answers half: one that tells its Nodes is there, whatever it cannot tell of its pods. */
import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import type { ClusterAccess } from '../../src/cluster/access.ts';
import { computeConditions } from '../../src/cluster/conditions.ts';
import { observeKube } from '../../src/cluster/observe.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { scene } from '../support/scenes.ts';

const signal = new AbortController().signal;
const NODE = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'host-1', labels: { 'node-role.kubernetes.io/control-plane': '' } },
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
};

async function look(
  pods: (limited: AbortSignal) => Promise<unknown>,
  nodes: () => Promise<unknown> = async () => ({ items: [NODE] }),
) {
  using clock = new LeapingClock();
  const client = {
    list: async (path: string, limited: AbortSignal) =>
      path.startsWith('/api/v1/nodes') ? await nodes() : await pods(limited),
  } as unknown as KubeClient;
  const { record, observed } = scene({ 'cp-1': { shape: 'ready' } });
  const { view } = await observeKube({
    record,
    machines: observed.machines,
    access: { client: async () => client } as unknown as ClusterAccess,
    clock,
    timings: DEFAULT_TIMINGS,
    signal,
  });
  return view;
}

const silent = (limited: AbortSignal) =>
  new Promise<never>((_resolve, reject) =>
    limited.addEventListener('abort', () => reject(limited.reason as Error)),
  );

describe('an API server that', () => {
  it.each([
    [
      'cannot decode one of its pods',
      async () => await Promise.reject(new PcgError('KUBE_UNREACHABLE', 'HTTP 500: unable to decode')),
      /unable to decode/,
    ],
    ['says nothing of its pods', silent, /static pods did not finish/],
  ])('%s still answers: its nodes are known, its components are not', async (_what, pods, reason) => {
    const view = await look(pods);
    expect(view).toMatchObject({
      kind: 'reachable',
      endpoint: true,
      nodes: [{ name: 'host-1', ready: true }],
      componentFaults: [],
      componentsUnread: expect.stringMatching(reason),
    });
    const input = scene({
      'cp-1': { shape: 'ready' },
      'cp-2': { shape: 'ready' },
      'cp-3': { shape: 'ready' },
    });
    const { kube } = input.observed;
    if (kube.kind !== 'reachable' || view.kind !== 'reachable') throw new Error('not reachable');
    const conditions = computeConditions(
      {
        ...input,
        observed: { ...input.observed, kube: { ...kube, componentsUnread: view.componentsUnread ?? '' } },
      },
      [],
    );
    const statusOf = (type: string) => conditions.find((condition) => condition.type === type)?.status;
    expect([statusOf('Available'), statusOf('ControlPlaneReady')]).toEqual(['True', 'Unknown']);
  });

  it('tells both says whether there are faults', async () => {
    const view = await look(async () => ({ items: [] }));
    expect(view).not.toHaveProperty('componentsUnread');
    expect(view).toMatchObject({
      componentFaults: expect.arrayContaining([expect.objectContaining({ reason: 'has no pod' })]),
    });
  });

  it('cannot tell its nodes does not answer', async () => {
    const view = await look(
      async () => ({ items: [] }),
      async () => await Promise.reject(new PcgError('KUBE_UNREACHABLE', 'HTTP 500')),
    );
    expect(view.kind).toBe('unreachable');
  });
});
