import { describe, expect, it } from 'vitest';
import type { KubeObject } from '../../src/kube/client.ts';
import { judgePod } from '../../src/kube/drain.ts';
import { findNode, nodePatch } from '../../src/kube/nodes.ts';

function node(
  name: string,
  spec: Record<string, unknown> = {},
  metadata: Record<string, unknown> = {},
): KubeObject {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, resourceVersion: '7', ...metadata }, spec };
}

describe('finding the Node of a machine', () => {
  const machine = { providerId: 'maas:///z/abc', hostname: 'Calm-Otter' };

  it('goes by provider id first, then by host name among Nodes without one', () => {
    const byId = node('renamed', { providerID: 'maas:///z/abc' });
    const byName = node('calm-otter');
    expect(findNode([byName, byId], machine)).toBe(byId);
    expect(findNode([byName], machine)).toBe(byName);
  });

  it('never takes a Node of the same name that belongs to another machine', () => {
    expect(findNode([node('calm-otter', { providerID: 'maas:///z/other' })], machine)).toBeUndefined();
    expect(findNode([node('other')], machine)).toBeUndefined();
  });
});

describe('settings of a Node', () => {
  it('are left alone when they are right, whatever else is on the Node', () => {
    const present = node(
      'a',
      {
        taints: [{ key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' }],
        providerID: 'maas:///z/abc',
      },
      {
        labels: { tier: 'gold', 'kubernetes.io/os': 'linux' },
        annotations: { 'pcg.internal/managed-settings': '{"labels":["tier"],"taints":[]}' },
      },
    );
    expect(
      nodePatch(present, { labels: { tier: 'gold' }, taints: [], providerId: 'maas:///z/abc' }),
    ).toBeUndefined();
    expect(nodePatch(node('b'), { labels: {}, taints: [] })).toBeUndefined();
  });

  it('change a value, keep foreign taints, and carry the version that was read', () => {
    const present = node('a', {
      taints: [
        { key: 'x', effect: 'NoExecute' },
        { key: 'gpu', value: 'no', effect: 'NoSchedule' },
      ],
    });
    expect(
      nodePatch(present, {
        labels: { a: 'b' },
        taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }],
      }),
    ).toMatchObject({
      metadata: { resourceVersion: '7', labels: { a: 'b' } },
      spec: {
        taints: [
          { key: 'x', effect: 'NoExecute' },
          { key: 'gpu', value: 'yes', effect: 'NoSchedule' },
        ],
      },
    });
  });

  it('take nothing away when somebody has edited our memory', () => {
    const present = node(
      'a',
      {},
      { labels: { keep: '1' }, annotations: { 'pcg.internal/managed-settings': 'not json' } },
    );
    expect(nodePatch(present, { labels: {}, taints: [] })).toEqual({
      metadata: {
        resourceVersion: '7',
        annotations: { 'pcg.internal/managed-settings': '{"labels":[],"taints":[]}' },
      },
    });
  });
});

describe('draining judges a pod', () => {
  const now = Date.parse('2026-01-01T00:10:00Z');
  const pod = (metadata: Record<string, unknown>, phase = 'Running'): KubeObject => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'default', ...metadata },
    status: { phase },
  });
  const daemon = { ownerReferences: [{ kind: 'DaemonSet', name: 'ds', controller: true }] };
  const calm = { unreachable: false, force: false, nowMs: now };
  it.each<[string, KubeObject, typeof calm, string]>([
    ['a plain pod', pod({}), calm, 'evict'],
    ['a finished pod', pod({}, 'Succeeded'), calm, 'ignore'],
    ['a static pod', pod({ annotations: { 'kubernetes.io/config.mirror': 'h' } }), calm, 'ignore'],
    ['a DaemonSet pod', pod(daemon), calm, 'ignore'],
    [
      'an orphan of a DaemonSet',
      pod({ ownerReferences: [{ kind: 'DaemonSet', name: 'gone', controller: true }] }),
      calm,
      'evict',
    ],
    ['one that asks to be skipped', pod({ labels: { 'cluster.x-k8s.io/drain': 'skip' } }), calm, 'ignore'],
    ['one that asks for time', pod({ labels: { 'cluster.x-k8s.io/drain': 'wait-completed' } }), calm, 'wait'],
    [
      'the same by force',
      pod({ labels: { 'cluster.x-k8s.io/drain': 'wait-completed' } }),
      { ...calm, force: true },
      'evict',
    ],
    ['a leaving pod', pod({ deletionTimestamp: '2026-01-01T00:09:00Z' }), calm, 'leaving'],
    [
      'a leaving pod of a lost node',
      pod({ deletionTimestamp: '2026-01-01T00:09:00Z' }),
      { ...calm, unreachable: true },
      'ignore',
    ],
    [
      'one that leaves a lost node just now',
      pod({ deletionTimestamp: '2026-01-01T00:10:30Z' }),
      { ...calm, unreachable: true },
      'leaving',
    ],
  ])('%s', (_what, given, options, verdict) => {
    expect(judgePod(given, new Set(['default/ds']), options)).toBe(verdict);
  });
});
