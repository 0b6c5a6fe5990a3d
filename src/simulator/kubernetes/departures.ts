/**
 * What stopped with a machine, noted by the simulator in the moment of it: workloads that nobody had evicted,
 * a quorum that was lost, nodes that were still there. Clients cannot influence it, so tests judge by it.
 */
import type { Json } from './api/json.ts';
import { R } from './api/resources.ts';
import type { SimCluster } from './node/cluster.ts';

export interface Departure {
  readonly systemId: string;
  readonly hostname: string;
  /** Wall clock, milliseconds. */
  readonly at: number;
  readonly cluster: string;
  readonly controlPlane: boolean;
  readonly cordoned: boolean;
  /** namespace/name of the pods that it took along; pods that belong to the node itself do not count. */
  readonly workloads: readonly string[];
  /** The other nodes at that moment. */
  readonly readyControlPlanes: number;
  readonly readyWorkers: number;
  readonly quorumBefore: boolean;
  readonly quorumAfter: boolean;
}

const FINISHED: ReadonlySet<string> = new Set(['Succeeded', 'Failed']);

/** To be called before the machine stops; the result is called after it. Undefined for a machine that is no node. */
export function departing(
  clusters: Iterable<SimCluster>,
  machine: { readonly systemId: string; readonly hostname: string },
): (() => Departure) | undefined {
  const { systemId, hostname } = machine;
  for (const cluster of clusters) {
    if (cluster.kubelets.get(hostname)?.options.machine.systemId !== systemId) continue;
    const { store } = cluster.core;
    const nodes = store.list(R.nodes);
    const others = nodes.filter((node) => node.metadata.name !== hostname && isReady(node));
    const controlNames = new Set([...cluster.controlPlanes.values()].map(({ nodeName }) => nodeName));
    const readyControlPlanes = others.filter((node) => controlNames.has(node.metadata.name)).length;
    const before = {
      systemId,
      hostname,
      at: cluster.site.clock.now(),
      cluster: cluster.name,
      controlPlane: cluster.controlPlanes.has(systemId),
      cordoned: nodes.find((node) => node.metadata.name === hostname)?.spec?.unschedulable === true,
      workloads: workloadsOn(cluster, hostname),
      readyControlPlanes,
      readyWorkers: others.length - readyControlPlanes,
      quorumBefore: cluster.etcd.hasQuorum(),
    };
    return () => ({ ...before, quorumAfter: cluster.etcd.hasQuorum() });
  }
  return undefined;
}

function isReady(node: Json): boolean {
  return (node.status?.conditions ?? []).some((one: Json) => one.type === 'Ready' && one.status === 'True');
}

/** Pods that an eviction would have moved: not of a DaemonSet, not static, not finished. */
function workloadsOn(cluster: SimCluster, node: string): string[] {
  const found: string[] = [];
  for (const { metadata, spec, status } of cluster.core.store.values(R.pods)) {
    if (spec?.nodeName !== node || FINISHED.has(status?.phase ?? '')) continue;
    if (metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) continue;
    if (metadata.ownerReferences?.some(({ kind }: { kind: string }) => kind === 'DaemonSet')) continue;
    found.push(`${metadata.namespace}/${metadata.name}`);
  }
  return found;
}
