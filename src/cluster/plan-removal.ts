/** The next step of a node that leaves; one that was never let in is only released. */
import { isFence } from './join-fence.ts';
import type { NodeRecord } from './model.ts';
import type { Scene } from './plan.ts';
import type { NodeSituation } from './situation.ts';
import type { Step } from './steps.ts';

/**
 * Out of the cluster, one step after the other: no new way in, drain while the kubelet still serves, etcd member
 * before its machine stops, release, Node object last. A machine that was never let in is only released.
 */
export function planRemoval(scene: Scene, entry: NodeSituation): Step[] {
  const { node, situation } = entry;
  const inside = scene.initialized && mayBeInside(entry);
  const api = scene.observed.kube.kind === 'reachable';
  switch (situation.kind) {
    case 'unknown':
      return [];
    case 'unclaimed':
      return [{ kind: 'forget-node', node: node.name }];
    case 'claiming':
      return [{ kind: 'settle-claim', node: node.name }];
    case 'releasing':
      return [{ kind: 'release', node: node.name }];
    case 'released':
      if (!inside) return [{ kind: 'forget-node', node: node.name }];
      if (!api) return [];
      // Its kubeadm was faster than the release, or was kept out: it cannot be at work any more.
      return hasMember(scene, node) || isFenced(scene, node)
        ? [{ kind: 'remove-etcd-member', node: node.name }]
        : [{ kind: 'delete-node-object', node: node.name }];
    default:
      return inside ? planWithdrawal(scene, node) : [{ kind: 'release', node: node.name }];
  }
}

/** Its kubelet or its etcd member may be part of the cluster, seen or not: kubeadm was let in. */
function mayBeInside({ node, situation }: NodeSituation): boolean {
  const seen = node.joinedAt !== undefined || situation.kind === 'joined' || situation.kind === 'ready';
  return seen || node.init || node.token.grantedAt !== undefined;
}

function planWithdrawal(scene: Scene, node: NodeRecord): Step[] {
  const api = scene.observed.kube.kind === 'reachable';
  if (awaitsSuccessor(scene.nodes, node)) return [];
  // From here on no kubeadm begins to join; one that has begun shows itself to the drain.
  if (node.token.grantedAt !== undefined && node.token.revokedAt === undefined)
    return api ? [{ kind: 'revoke-token', node: node.name }] : [];
  // A failed machine may have become Ready since: what runs there is evicted like everywhere else.
  const lost = node.intent.kind === 'remove' && node.intent.reason === 'lost';
  if (!lost && node.drainedAt === undefined) return api ? [{ kind: 'drain-node', node: node.name }] : [];
  // The last control-plane node takes etcd with it; nothing to remove the member from.
  if (node.role === 'control-plane' && node.etcdRemovedAt === undefined && hasPeer(scene, node))
    return api ? [{ kind: 'remove-etcd-member', node: node.name }] : [];
  return [{ kind: 'release', node: node.name }];
}

function hasPeer({ record }: Scene, node: NodeRecord): boolean {
  return record.nodes.some(
    (other) => other.role === 'control-plane' && other.name !== node.name && other.joinedAt !== undefined,
  );
}

function hasMember(scene: Scene, node: NodeRecord): boolean {
  const { claim } = node;
  if (node.role !== 'control-plane' || !('hostname' in claim) || !hasPeer(scene, node)) return false;
  return scene.observed.etcd?.members.some(({ name }) => name === claim.hostname) === true;
}

function isFenced({ observed }: Scene, { role }: NodeRecord): boolean {
  return role === 'control-plane' && observed.etcd?.members.some(isFence) === true;
}

/** etcd lives and dies with the last control-plane node: where that node works, it leaves after another is Ready. */
export function awaitsSuccessor(nodes: readonly NodeSituation[], node: NodeRecord): boolean {
  if (node.role !== 'control-plane' || node.readyAt === undefined || node.etcdRemovedAt !== undefined)
    return false;
  if (node.intent.kind !== 'remove' || node.intent.reason === 'lost' || node.intent.reason === 'failed')
    return false;
  return !nodes.some(
    ({ node: other, situation }) =>
      other.role === 'control-plane' &&
      other.name !== node.name &&
      other.intent.kind === 'keep' &&
      situation.kind === 'ready' &&
      situation.node.controlPlane,
  );
}
