/**
 * Node life: pod ranges, taints by condition, Unknown after missed heartbeats, eviction by NoExecute taints,
 * and pods of nodes that no longer exist.
 */
import type { ApiCore } from '../api/core.ts';
import { type Json, type KubeObject, sameJson } from '../api/json.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';
import { note } from './events.ts';
import { deletePod, isGoing } from './pods.ts';
import { toleratesTaint } from './scheduler.ts';

/** The controller-manager's node-monitor-grace-period, and the least real time that a busy process gets. */
const GRACE_MS = 40_000;
const MIN_REAL_GRACE_MS = 2000;

const NOT_READY = 'node.kubernetes.io/not-ready';
const UNREACHABLE = 'node.kubernetes.io/unreachable';
const UNSCHEDULABLE = 'node.kubernetes.io/unschedulable';
const CONTROLLED = new Set([NOT_READY, UNREACHABLE, UNSCHEDULABLE]);

export function watchNodes(cluster: SimCluster): void {
  const { core, site } = cluster;
  const now = site.clock.monotonic();
  const grace = Math.max(GRACE_MS / site.pace.speed, MIN_REAL_GRACE_MS);
  for (const node of core.store.all(R.nodes)) {
    const kubelet = cluster.kubelets.get(node.metadata.name);
    const seen = kubelet?.lastHeartbeat ?? cluster.lastSeen.get(node.metadata.name) ?? now;
    cluster.lastSeen.set(node.metadata.name, seen);
    const silent = now - seen > grace;
    if (silent) markUnknown(core, node);
    adjust(cluster, core.store.get(R.nodes, undefined, node.metadata.name) ?? node);
  }
  for (const name of cluster.lastSeen.keys())
    if (!core.store.get(R.nodes, undefined, name)) cluster.lastSeen.delete(name);
  evictTainted(cluster);
  collectOrphans(core);
}

const stamp = (core: ApiCore) => new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');

function markUnknown(core: ApiCore, node: KubeObject): void {
  const conditions: Json[] = node.status?.conditions ?? [];
  const ready = conditions.find((item) => item.type === 'Ready');
  if (!ready || ready.status === 'Unknown') return;
  const now = stamp(core);
  core.edit(R.nodes, node.metadata, (draft) => {
    draft.status.conditions = conditions.map((item) => ({
      ...item,
      status: 'Unknown',
      reason: 'NodeStatusUnknown',
      message: 'Kubelet stopped posting node status.',
      lastTransitionTime: now,
    }));
  });
  note(core, node, {
    reason: 'NodeNotReady',
    message: `Node ${node.metadata.name} status is now: NodeNotReady`,
    component: 'node-controller',
  });
  for (const pod of core.store.list(R.pods)) {
    if (pod.spec?.nodeName !== node.metadata.name) continue;
    core.edit(R.pods, pod.metadata, (draft) => {
      draft.status.conditions = (draft.status?.conditions ?? []).map((item: Json) =>
        item.type === 'Ready' ? { ...item, status: 'False', lastTransitionTime: now } : item,
      );
    });
  }
}

/** Taints by condition and the node's pod range. */
function adjust(cluster: SimCluster, node: KubeObject): void {
  const { core } = cluster;
  const ready = (node.status?.conditions ?? []).find((item: Json) => item.type === 'Ready')?.status;
  const before: Json[] = node.spec?.taints ?? [];
  const added = (key: string, effect: string) =>
    before.find((taint) => taint.key === key && taint.effect === effect) ?? {
      key,
      effect,
      ...(effect === 'NoExecute' ? { timeAdded: stamp(core) } : {}),
    };
  const wanted: Json[] = before.filter((taint) => !CONTROLLED.has(taint.key));
  if (ready === 'Unknown') wanted.push(added(UNREACHABLE, 'NoSchedule'), added(UNREACHABLE, 'NoExecute'));
  else if (ready !== 'True') wanted.push(added(NOT_READY, 'NoSchedule'), added(NOT_READY, 'NoExecute'));
  if (node.spec?.unschedulable) wanted.push(added(UNSCHEDULABLE, 'NoSchedule'));
  const podCidr: string | undefined = node.spec?.podCIDR ?? nextPodRange(cluster);
  if (sameJson(sortTaints(before), sortTaints(wanted)) && (node.spec?.podCIDR || !podCidr)) return;
  core.edit(R.nodes, node.metadata, (draft) => {
    draft.spec ??= {};
    if (wanted.length > 0) draft.spec.taints = wanted;
    else delete draft.spec.taints;
    if (podCidr) {
      draft.spec.podCIDR = podCidr;
      draft.spec.podCIDRs = [podCidr];
    }
  });
}

const sortTaints = (taints: Json[]) =>
  taints.map((taint) => `${taint.key}=${taint.value ?? ''}:${taint.effect}`).sort();

/** The first free range of node-cidr-mask-size inside of the pod network; undefined when it is full. */
function nextPodRange(cluster: SimCluster): string | undefined {
  const { configuration, core } = cluster;
  const subnet: string | undefined = configuration.networking?.podSubnet?.split(',')[0];
  if (!subnet) return undefined;
  const [address = '', prefix = '16'] = subnet.split('/');
  const mask = Number(
    (configuration.controllerManager?.extraArgs ?? []).find((arg: Json) => arg.name === 'node-cidr-mask-size')
      ?.value ?? 24,
  );
  const base = address.split('.').reduce((sum: number, part: string) => sum * 256 + Number(part), 0);
  const used = new Set(core.store.all(R.nodes).map((node) => node.spec?.podCIDR));
  const step = 2 ** (32 - mask);
  for (let index = 0; index < 2 ** (mask - Number(prefix)); index += 1) {
    const at = base + index * step;
    const text = `${[24, 16, 8, 0].map((shift) => Math.floor(at / 2 ** shift) % 256).join('.')}/${mask}`;
    if (!used.has(text)) return text;
  }
  return undefined;
}

/** Pods that do not tolerate a NoExecute taint leave, after tolerationSeconds where they name some. */
function evictTainted(cluster: SimCluster): void {
  const { core, site } = cluster;
  const tainted = new Map<string, Json[]>();
  for (const node of core.store.values(R.nodes)) {
    const taints = (node.spec?.taints ?? []).filter((taint: Json) => taint.effect === 'NoExecute');
    if (taints.length > 0) tainted.set(node.metadata.name, taints);
  }
  if (tainted.size === 0) return;
  for (const pod of core.store.all(R.pods)) {
    const taints = tainted.get(pod.spec?.nodeName ?? '');
    if (!taints || isGoing(pod)) continue;
    for (const taint of taints) {
      const fitting = (pod.spec.tolerations ?? []).filter((toleration: Json) =>
        toleratesTaint(toleration, taint),
      );
      if (fitting.some((toleration: Json) => toleration.tolerationSeconds === undefined)) continue;
      const seconds = Math.min(
        ...fitting.map((toleration: Json) => toleration.tolerationSeconds as number),
        fitting.length === 0 ? 0 : Number.POSITIVE_INFINITY,
      );
      const age = (site.clock.now() - Date.parse(taint.timeAdded ?? stamp(core))) * site.pace.speed;
      if (age < seconds * 1000) continue;
      deletePod(core, pod);
      break;
    }
  }
}

/** The pod garbage collector: nobody will ever stop pods of a node that is gone. */
function collectOrphans(core: ApiCore): void {
  for (const pod of core.store.all(R.pods)) {
    const name: string | undefined = pod.spec?.nodeName;
    if (name && !core.store.get(R.nodes, undefined, name))
      core.store.delete(R.pods, pod.metadata.namespace, pod.metadata.name);
  }
}
