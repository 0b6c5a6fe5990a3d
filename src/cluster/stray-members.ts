/**
 * etcd members behind which no machine stands: a join that failed half way, a machine that vanished from MAAS before
 * its member was taken out, a store that was restored. While one is silent or a learner nobody joins, and a voter counts
 * for the majority that one more failure may take. So it is shown and it goes, also at rest: when nothing that the
 * gateway knows is it, after a time in which it could have come back, and only as quorum allows.
 */
import type { ProblemDetails } from '../contract/errors.ts';
import { belongsTo, judgeRemoval } from '../kube/quorum.ts';
import { isFence, needsFence } from './join-fence.ts';
import type { EtcdView } from './observed.ts';
import { problem } from './plan-node.ts';
import type { Scene } from './plan.ts';
import type { Step } from './steps.ts';

type Member = EtcdView['members'][number];
type Known = Pick<Scene, 'record' | 'observed'>;

/**
 * Of no node of the record (here, on its way out, or not forgotten yet: the plan sees to those), and of no Node of the
 * API server either, which may be a machine that a person let join.
 */
export function isStray(member: Pick<Member, 'name' | 'peerUrls'>, { record, observed }: Known): boolean {
  const ours = record.nodes.some(({ claim }) => {
    if (!('hostname' in claim)) return false;
    const addresses = observed.machines.get(claim.systemId)?.machine?.ipAddresses ?? [];
    return belongsTo(member, { name: claim.hostname, addresses });
  });
  if (ours) return false;
  const nodes = observed.kube.kind === 'reachable' ? observed.kube.nodes : [];
  return !nodes.some(({ name, internalIp }) =>
    belongsTo(member, { name, addresses: internalIp === undefined ? [] : [internalIp] }),
  );
}

/** Learners and silent voters of no machine, but for one that has its use (join-fence.ts). */
function strayMembers(scene: Scene): readonly Member[] {
  const fenced = needsFence(scene.nodes);
  return (scene.observed.etcd?.members ?? []).filter(
    (member) => member.restlessSince !== undefined && !(fenced && isFence(member)) && isStray(member, scene),
  );
}

/** One at a time, a learner first: beside it no voter may be removed; and none while an alarm stands. */
export function planStrayMembers(scene: Scene): Step[] {
  const { observed, timings } = scene;
  const members = observed.etcd?.members ?? [];
  if (observed.etcdAlarms.length > 0) return [];
  const due = strayMembers(scene).filter(
    ({ restlessSince = observed.now }) => observed.now - restlessSince >= timings.strayMemberMs,
  );
  const member = due.find(({ learner }) => learner) ?? due[0];
  if (member === undefined || somebodyJoins(scene)) return [];
  return judgeRemoval(members, member.id).kind === 'allowed'
    ? [{ kind: 'remove-stray-member', member: member.id }]
    : [];
}

/** Its member may be the one without a name, at an address that MAAS does not know. */
function somebodyJoins({ nodes }: Scene): boolean {
  return nodes.some(
    ({ node, situation }) =>
      node.role === 'control-plane' &&
      node.intent.kind === 'keep' &&
      node.failure === undefined &&
      node.token.grantedAt !== undefined &&
      (situation.kind === 'booted' || (situation.kind === 'joined' && !situation.node.controlPlane)),
  );
}

/** A node that a person lets join has a member for a moment before it has a Node. */
const SAID_AFTER = 1 / 10;

/** For the condition of a control plane that else is well. */
export function strayTrouble(scene: Scene): ProblemDetails | undefined {
  const { observed, timings } = scene;
  if (somebodyJoins(scene)) return undefined;
  const member = strayMembers(scene).find(
    ({ restlessSince = observed.now }) => observed.now - restlessSince >= SAID_AFTER * timings.strayMemberMs,
  );
  return member && strayMember(member, scene);
}

/** Why nobody joins meanwhile, and what ends it. */
export function strayMember(member: Member, scene: Scene): ProblemDetails {
  const { id, name, peerUrls, learner, restlessSince } = member;
  const hex = memberHex(id);
  const byHand = `"etcdctl member remove ${hex}" in a pod etcd-<node> of kube-system`;
  const verdict = judgeRemoval(scene.observed.etcd?.members ?? [], id);
  const since = restlessSince ?? scene.observed.now;
  const at = new Date(since + scene.timings.strayMemberMs).toISOString();
  const error = problem(
    'ETCD_QUORUM_AT_RISK',
    `etcd member ${name || 'without a name'} (${hex}, ${peerUrls.join(', ') || 'no address'}) ${learner ? 'is a learner' : 'does not answer'} and belongs to no machine of this cluster: no control-plane node joins meanwhile`,
    { member: hex, name, peerUrls, ...(verdict.kind === 'refused' ? { reason: verdict.reason } : {}) },
  );
  return verdict.kind === 'allowed'
    ? { ...error, fix: `It is removed at ${at}. Bring it back before that if it is wanted.` }
    : { ...error, fix: `Bring it back, or remove it: ${byHand}.` };
}

/** As etcdctl writes a member's id. */
export function memberHex(id: string): string {
  return BigInt(id).toString(16);
}
