/** What a machine whose OS runs waits for before it may join, in words; with a cause and a next step where waiting alone does not help. */
import type { ProblemDetails } from '../contract/errors.ts';
import { belongsTo } from '../kube/quorum.ts';
import type { NodeRecord } from './model.ts';
import type { EtcdView } from './observed.ts';
import { problem } from './plan-node.ts';
import type { Scene } from './plan.ts';
import type { Situation } from './situation.ts';

export interface JoinWait {
  readonly waitingFor: string;
  readonly error?: ProblemDetails;
}

export function joinWait(node: NodeRecord, situation: Situation, scene: Scene): JoinWait | undefined {
  if (situation.kind !== 'booted' || node.token.grantedAt !== undefined) return undefined;
  if (node.init && !scene.initialized) return undefined; // it works
  if (!scene.initialized) return { waitingFor: 'the first control-plane node' };
  if (!scene.endpointUp) return { waitingFor: 'the endpoint' };
  if (node.role === 'worker') return undefined;
  const restless = scene.observed.etcd?.members.find((member) => member.learner || !member.healthy);
  if (restless) {
    const waitingFor = `its turn: etcd member ${restless.name || 'without a name'} ${restless.learner ? 'is still catching up' : 'does not answer'}`;
    return isOwned(restless, scene) ? { waitingFor } : { waitingFor, error: strayMember(restless) };
  }
  const ahead = scene.nodes.find(
    ({ node: other, situation: its }) =>
      other.role === 'control-plane' &&
      other.name !== node.name &&
      (other.init || other.token.grantedAt !== undefined) &&
      !(its.kind === 'ready' && its.node.controlPlane),
  );
  const waitingFor = ahead
    ? `its turn: ${ahead.node.name} joins first`
    : 'its turn: control-plane nodes join one by one';
  return { waitingFor };
}

type Member = EtcdView['members'][number];

/** A node that is here, on its way out, or not forgotten yet: whatever is wrong with its member, the plan sees to it. */
function isOwned(member: Member, { record, observed }: Scene): boolean {
  return record.nodes.some(({ claim }) => {
    if (!('hostname' in claim)) return false;
    const addresses = observed.machines.get(claim.systemId)?.machine?.ipAddresses ?? [];
    return belongsTo(member, { name: claim.hostname, addresses });
  });
}

/** Nobody's step ends this wait. The gateway removes only members of nodes that it knows: this one may be a person's. */
function strayMember({ id, name, peerUrls, learner }: Member): ProblemDetails {
  const hex = BigInt(id).toString(16);
  const title = name === '' ? 'without a name' : name;
  return {
    ...problem(
      'ETCD_QUORUM_AT_RISK',
      `etcd member ${title} (${hex}, ${peerUrls.join(', ') || 'no address'}) ${learner ? 'is a learner' : 'does not answer'} and belongs to no machine of this cluster: no control-plane node joins meanwhile`,
      { member: hex, name, peerUrls },
    ),
    fix: `Bring it back, or remove it: "etcdctl member remove ${hex}" in a pod etcd-<node> of kube-system.`,
  };
}
