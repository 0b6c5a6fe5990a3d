/**
 * A control plane of one voter must not get a second one from a machine that is being given up in the middle of its
 * join: switched off as a voter it would take the majority along, and with it the cluster. kubeadm on that machine has
 * every key and asks nobody. But it comes in as a learner, of which etcd takes one at a time: a learner that no machine
 * will ever be holds that place from the last look at the members until the machine is off.
 */
import type { EtcdClient } from '../kube/etcd.ts';
import type { MemberView } from '../kube/quorum.ts';
import type { NodeSituation } from './situation.ts';

/** Nobody listens there, whoever dials it; and it is the address of no machine. */
const NOWHERE = 'https://127.0.0.1:1';

export function isFence({ name, peerUrls }: Pick<MemberView, 'name' | 'peerUrls'>): boolean {
  return name === '' && peerUrls.includes(NOWHERE);
}

/**
 * Holds the learner's place where one voter is the whole quorum; two that stay outvote a third that is switched off.
 * Done again it does nothing. Rejects while somebody else is the learner.
 */
export async function raiseFence(etcd: EtcdClient, signal: AbortSignal): Promise<void> {
  const members = await etcd.members(signal);
  const voters = members.filter(({ learner }) => !learner);
  if (voters.length > 1 || members.some(isFence)) return;
  await etcd.addLearner(NOWHERE, signal);
}

/** Some machine is not off yet for which there may be one. */
export function needsFence(nodes: readonly NodeSituation[]): boolean {
  return nodes.some(
    ({ node, situation }) =>
      node.role === 'control-plane' && node.intent.kind === 'remove' && situation.kind !== 'released',
  );
}
