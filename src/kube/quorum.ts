/**
 * When membership of etcd may change. Pure: a wrong answer here loses a cluster. A member that does not answer
 * counts as dead; a learner does not vote.
 */

export interface MemberView {
  /** uint64 as decimal text. */
  readonly id: string;
  /** Empty for a member that has never started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly learner: boolean;
  readonly healthy: boolean;
}

export type QuorumVerdict =
  | { readonly kind: 'allowed' }
  /** Nothing to do: no such member. */
  | { readonly kind: 'absent' }
  | { readonly kind: 'refused'; readonly reason: QuorumReason };

export type QuorumReason =
  /** Today's voters have no majority: etcd takes no change, only a restore helps. */
  | 'quorum-lost'
  /** The remaining healthy voters would be no majority. */
  | 'quorum-at-risk'
  /** Somebody is joining; one change at a time. */
  | 'learner-present'
  | 'last-member';

export function majority(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

/** May the member `id` be removed? A learner may always go: it carries nothing. */
export function judgeRemoval(members: readonly MemberView[], id: string): QuorumVerdict {
  const member = members.find((candidate) => candidate.id === id);
  if (member === undefined) return { kind: 'absent' };
  const voters = members.filter((candidate) => !candidate.learner);
  const healthy = voters.filter((candidate) => candidate.healthy);
  if (healthy.length < majority(voters.length)) return { kind: 'refused', reason: 'quorum-lost' };
  if (member.learner) return { kind: 'allowed' };
  if (members.some((candidate) => candidate.learner)) return { kind: 'refused', reason: 'learner-present' };
  if (voters.length === 1) return { kind: 'refused', reason: 'last-member' };
  const healthyAfter = healthy.filter((candidate) => candidate.id !== id).length;
  return healthyAfter >= majority(voters.length - 1)
    ? { kind: 'allowed' }
    : { kind: 'refused', reason: 'quorum-at-risk' };
}

/** Members behind which no machine stands any more: by name, or by peer address when they never started. */
export function membersWithoutMachine(
  members: readonly MemberView[],
  machines: readonly { readonly name: string; readonly addresses: readonly string[] }[],
): MemberView[] {
  return members.filter((member) => !machines.some((machine) => belongsTo(member, machine)));
}

/** kubeadm names a member after its node; one that never started has only its peer URL. */
export function belongsTo(
  member: Pick<MemberView, 'name' | 'peerUrls'>,
  machine: { readonly name: string; readonly addresses: readonly string[] },
): boolean {
  if (member.name !== '') return member.name === machine.name;
  return member.peerUrls.some((url) => machine.addresses.includes(hostOf(url)));
}

/** Who should lead when `leavingId` goes: a healthy voter, undefined when there is none. */
export function nextLeader(members: readonly MemberView[], leavingId: string): MemberView | undefined {
  return members.find((member) => member.id !== leavingId && member.healthy && !member.learner);
}

function hostOf(url: string): string {
  try {
    return new URL(url).hostname.replace(/^\[|\]$/g, ''); // IPv6 stands in brackets there only
  } catch {
    return '';
  }
}
