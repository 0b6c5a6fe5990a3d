/** The scheduler: pods without a node go to a node that is ready, not cordoned, tolerated and matched. */
import type { Json, KubeObject } from '../api/json.ts';
import { R } from '../api/resources.ts';
import { matchesSelector } from '../api/selectors.ts';
import type { SimCluster } from '../node/cluster.ts';
import { isCrashLooping } from '../node/crash-loop.ts';
import { note } from './events.ts';
import { isFinished, isGoing } from './pods.ts';

const SCHEDULER = 'default-scheduler';

/** Every taint of the node with one of the effects is tolerated. */
export function tolerates(spec: Json, node: KubeObject, effects: readonly string[]): boolean {
  const taints: Json[] = [...(node.spec?.taints ?? [])];
  if (node.spec?.unschedulable && !taints.some((taint) => taint.key === 'node.kubernetes.io/unschedulable'))
    taints.push({ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' });
  return taints
    .filter((taint) => effects.includes(taint.effect))
    .every((taint) => (spec.tolerations ?? []).some((toleration: Json) => toleratesTaint(toleration, taint)));
}

export function toleratesTaint(toleration: Json, taint: Json): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (!toleration.key) return (toleration.operator ?? 'Equal') === 'Exists';
  if (toleration.key !== taint.key) return false;
  return toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? '');
}

/** nodeSelector and required node affinity. */
export function matchesNode(spec: Json, node: KubeObject): boolean {
  for (const [key, value] of Object.entries(spec.nodeSelector ?? {}))
    if (node.metadata.labels?.[key] !== value) return false;
  const terms: Json[] | undefined =
    spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!terms) return true;
  return terms.some(
    (term) =>
      matchesSelector({ matchExpressions: term.matchExpressions ?? [] }, node.metadata.labels) &&
      (term.matchFields ?? []).every(
        (field: Json) =>
          field.key !== 'metadata.name' ||
          (field.operator === 'NotIn') !== field.values.includes(node.metadata.name),
      ),
  );
}

/** Required anti-affinity by host name, the one that add-ons use to spread. */
function repelled(pod: KubeObject, node: KubeObject, byNode: Map<string, KubeObject[]>): boolean {
  const terms: Json[] =
    pod.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  return terms.some(
    (term) =>
      term.topologyKey === 'kubernetes.io/hostname' &&
      (byNode.get(node.metadata.name) ?? []).some(
        (other) =>
          other.metadata.namespace === pod.metadata.namespace &&
          matchesSelector(term.labelSelector, other.metadata.labels),
      ),
  );
}

/** A scheduler runs, next to an API server that serves it. Before its kubelet has shown its pod it does, too. */
export function schedulerWorks({ core, controlPlanes }: SimCluster): boolean {
  return [...controlPlanes.values()].some(({ nodeName, serving }) => {
    const pod = core.store.get(R.pods, 'kube-system', `kube-scheduler-${nodeName}`);
    return serving && !(pod && isCrashLooping(pod));
  });
}

export function schedulePods(cluster: SimCluster): void {
  if (!schedulerWorks(cluster)) return;
  const { core } = cluster;
  const waiting: KubeObject[] = [];
  const byNode = new Map<string, KubeObject[]>();
  for (const pod of core.store.values(R.pods)) {
    if (isFinished(pod)) continue;
    const name: string | undefined = pod.spec?.nodeName;
    if (name) byNode.set(name, [...(byNode.get(name) ?? []), pod]);
    else if (!isGoing(pod) && !(pod.spec?.schedulingGates?.length > 0)) waiting.push(pod);
  }
  if (waiting.length === 0) return;
  const nodes = core.store.all(R.nodes).filter((node) => !isGoing(node));
  for (const pod of waiting) {
    const fitting = nodes.filter(
      (node) =>
        tolerates(pod.spec, node, ['NoSchedule', 'NoExecute']) &&
        matchesNode(pod.spec, node) &&
        (byNode.get(node.metadata.name)?.length ?? 0) < Number(node.status?.allocatable?.pods ?? 110) &&
        !repelled(pod, node, byNode),
    );
    const sameOwner = (node: KubeObject) =>
      (byNode.get(node.metadata.name) ?? []).filter(
        (other) => other.metadata.ownerReferences?.[0]?.uid === pod.metadata.ownerReferences?.[0]?.uid,
      ).length;
    const score = (node: KubeObject) =>
      sameOwner(node) * 1000 + (byNode.get(node.metadata.name)?.length ?? 0);
    const best = fitting.sort((a, b) => score(a) - score(b))[0];
    const now = new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    if (!best) {
      if (pod.status?.conditions?.length > 0) continue;
      const message = `0/${nodes.length} nodes are available: no node is ready, untainted and matching.`;
      note(core, pod, { type: 'Warning', reason: 'FailedScheduling', message, component: SCHEDULER });
      core.edit(R.pods, pod.metadata, (draft) => {
        draft.status = {
          ...draft.status,
          phase: 'Pending',
          conditions: [
            {
              type: 'PodScheduled',
              status: 'False',
              reason: 'Unschedulable',
              message,
              lastTransitionTime: now,
            },
          ],
        };
      });
      continue;
    }
    const bound = core.edit(R.pods, pod.metadata, (draft) => {
      draft.spec.nodeName = best.metadata.name;
      draft.status = {
        ...draft.status,
        conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: now }],
      };
    });
    if (!bound) continue;
    const { namespace, name } = bound.metadata;
    const message = `Successfully assigned ${namespace}/${name} to ${best.metadata.name}`;
    note(core, bound, { reason: 'Scheduled', message, component: SCHEDULER });
    byNode.set(best.metadata.name, [...(byNode.get(best.metadata.name) ?? []), bound]);
  }
}
