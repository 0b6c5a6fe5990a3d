/** Literals for planning: a record, a picture and single nodes in any situation. */
import type { ClusterDocument } from '../../src/contract/cluster.ts';
import type { Machine } from '../../src/maas/client.ts';
import type { ClusterRecord, NodeRecord } from '../../src/cluster/model.ts';
import { newClusterRecord } from '../../src/cluster/model.ts';
import type { KubeNode, Observed } from '../../src/cluster/observed.ts';
import { annotations } from '../../src/cluster/ownership.ts';
import { taintsOfPool } from '../../src/cluster/pool-taints.ts';
import type { PlanInput } from '../../src/cluster/plan.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import { document } from './engine.ts';
import { fakeMachine } from './fake-site.ts';

export const NOW = Date.UTC(2026, 0, 2);
const MINUTE = 60_000;

export type Shape =
  | 'unclaimed'
  | 'allocated'
  | 'deploying'
  | 'booted'
  | 'joined'
  | 'ready'
  | 'deploy-failed'
  | 'lost'
  | 'vanished';

export interface NodeLiteral extends Partial<NodeRecord> {
  readonly shape: Shape;
}

const STATUS: Record<Shape, Machine['status']> = {
  unclaimed: 'ready',
  allocated: 'allocated',
  deploying: 'deploying',
  booted: 'deployed',
  joined: 'deployed',
  ready: 'deployed',
  'deploy-failed': 'failed_deployment',
  lost: 'ready',
  vanished: 'deployed',
};

/** A scene with these nodes; everything that is not said is as in an initialised, healthy cluster. */
export function scene(
  literals: Record<string, NodeLiteral>,
  options: {
    document?: Partial<ClusterDocument>;
    record?: Partial<ClusterRecord>;
    observed?: Partial<Observed>;
    initialized?: boolean;
  } = {},
): PlanInput {
  const wanted = document(options.document);
  const initialized = options.initialized ?? true;
  const machines = new Map<string, { machine: Machine | undefined; at: number }>();
  const kubeNodes: KubeNode[] = [];
  const nodes = Object.entries(literals).map(([name, { shape, ...changes }], index): NodeRecord => {
    const role = name.startsWith('cp') ? 'control-plane' : 'worker';
    const stamp = { gateway: 'gw-one', cluster: wanted.id, node: name, operation: 'op' };
    const pool = wanted.spec.pools.find((candidate) => candidate.role === role);
    const tainted = pool && role === 'control-plane' ? taintsOfPool(pool) : [];
    const joined = shape === 'joined' || shape === 'ready' || shape === 'vanished';
    const base = fakeMachine(index + 1, {
      status: STATUS[shape],
      statusName: STATUS[shape],
      ...(shape === 'lost'
        ? {}
        : { owner: 'gateway', annotations: annotations(stamp, { clusterName: 'demo', pool: 'x', role }) }),
    });
    if (shape !== 'unclaimed') machines.set(base.systemId, { machine: base, at: NOW });
    if (shape === 'joined' || shape === 'ready')
      kubeNodes.push({
        name: base.hostname,
        systemId: base.systemId,
        ready: shape === 'ready',
        silent: false,
        controlPlane: role === 'control-plane',
        unschedulable: false,
        version: 'v1.36.1',
        internalIp: undefined,
        bootId: undefined,
        labels: {},
        managed: { labels: [], taints: tainted.map(({ key, effect }) => `${key}:${effect}`) },
        taints: tainted,
      });
    return {
      name,
      pool: role === 'worker' ? 'workers' : 'cp',
      role,
      createdAt: NOW - 60 * MINUTE,
      init: name === 'cp-1',
      intent: { kind: 'keep' },
      claim:
        shape === 'unclaimed'
          ? { kind: 'none' }
          : {
              kind: 'held',
              systemId: base.systemId,
              hostname: base.hostname,
              zone: base.zone,
              stamp,
              since: NOW - 50 * MINUTE,
            },
      token: joined
        ? { id: 't', secret: 's', grantedAt: NOW - 30 * MINUTE, revokedAt: NOW - 20 * MINUTE }
        : { id: 't', secret: 's' },
      maintenance: false,
      tasks: {},
      ...(shape === 'booted' || joined ? { deployedAt: NOW - 5 * MINUTE } : {}),
      ...(joined ? { joinedAt: NOW - 4 * MINUTE } : {}),
      ...(shape === 'ready' || shape === 'vanished' ? { readyAt: NOW - 3 * MINUTE } : {}),
      ...changes,
    };
  });
  const { cni } = wanted.profile;
  return {
    document: wanted,
    generation: 1,
    timings: DEFAULT_TIMINGS,
    record: {
      ...newClusterRecord({
        id: wanted.id,
        name: 'demo',
        account: 'ca-one',
        generation: 1,
        now: NOW - 60 * MINUTE,
      }),
      pki: {} as never,
      originCheckedAt: NOW,
      certificatesCheckedAt: NOW,
      placementCheckedAt: NOW,
      endpoint: { kind: 'vip', host: '10.20.0.200', port: 6443, subnetCidr: '10.20.0.0/24' },
      rightsGrantedAt: NOW,
      controlPlaneVersion: 'v1.36.1',
      addonsVersion: 'v1.36.1',
      ...(initialized ? { initializedAt: NOW - 10 * MINUTE } : {}),
      packs: initialized
        ? {
            [cni.name]: {
              hash: 'x',
              appliedAt: NOW - 9 * MINUTE,
              readyAt: NOW - 8 * MINUTE,
              task: { state: 'succeeded', attempt: 1, startedAt: NOW },
            },
          }
        : {},
      nodes,
      ...options.record,
    },
    observed: {
      now: NOW,
      since: 0,
      maasUp: true,
      maasOutages: [],
      machines,
      bootstrapFailures: new Map(),
      kube: initialized
        ? { kind: 'reachable', endpoint: true, configured: true, nodes: kubeNodes, componentFaults: [] }
        : { kind: 'none' },
      etcd: undefined,
      etcdAlarms: [],
      spares: undefined,
      ...options.observed,
    },
  };
}
