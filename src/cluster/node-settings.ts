/**
 * What changes on a Node in place: labels and taints of its pool, and cordon for maintenance. Labels under
 * node-role.kubernetes.io/ cannot be set by the kubelet itself, so the gateway sets all of them.
 */
import type { Pool } from '../contract/cluster.ts';
import type { NodeSettings } from '../kube/nodes.ts';
import type { NodeRecord } from './model.ts';
import { taintsOfPool } from './pool-taints.ts';
import type { KubeNode } from './observed.ts';
import type { Scene } from './plan.ts';
import type { Step } from './steps.ts';

export function nodeAdjustments(scene: Scene, node: NodeRecord, kubeNode: KubeNode): Step[] {
  if (!scene.endpointUp) return [];
  const pool = scene.document.spec.pools.find((candidate) => candidate.name === node.pool);
  if (pool && !carriesSettings(pool, kubeNode)) return [{ kind: 'adjust-node', node: node.name }];
  if (node.maintenance) return node.drainedAt === undefined ? [{ kind: 'drain-node', node: node.name }] : [];
  // Only what we have cordoned ourselves: a person's cordon is a person's decision.
  if (node.drainedAt !== undefined) return [{ kind: 'cordon-node', node: node.name, on: false }];
  return [];
}

/** What a pool gives to its Nodes. */
export function settingsOf(pool: Pool): NodeSettings {
  return { labels: pool.labels, taints: taintsOfPool(pool) };
}

/** The Node has what its pool gives, and nothing that the pool once gave and gives no more. */
export function carriesSettings(pool: Pool, kubeNode: KubeNode): boolean {
  const labels = Object.entries(pool.labels).every(([key, value]) => kubeNode.labels[key] === value);
  const wanted = taintsOfPool(pool);
  const taints = wanted.every((taint) =>
    kubeNode.taints.some(
      (own) =>
        own.key === taint.key && own.effect === taint.effect && (own.value ?? '') === (taint.value ?? ''),
    ),
  );
  // kubelets register with some of them: what is to be taken away later must be known as ours.
  const known =
    Object.keys(pool.labels).every((key) => kubeNode.managed.labels.includes(key)) &&
    wanted.every(({ key, effect }) => kubeNode.managed.taints.includes(`${key}:${effect}`));
  const given = new Set(wanted.map(({ key, effect }) => `${key}:${effect}`));
  const stale =
    kubeNode.managed.labels.some((key) => !(key in pool.labels) && key in kubeNode.labels) ||
    kubeNode.managed.taints.some((key) => !given.has(key));
  return labels && taints && known && !stale;
}
