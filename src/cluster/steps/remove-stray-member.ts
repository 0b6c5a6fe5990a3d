/**
 * An etcd member of no machine is removed. Everything that the plan believed is asked again: that it is there, that it
 * is still silent or a learner, and that nobody whom the gateway knows is it. What was known of it is on disk first.
 */
import { PcgError } from '../../base/errors.ts';
import { judgeRemoval } from '../../kube/quorum.ts';
import { readNode } from '../observe.ts';
import type { StepContext, StepOutcome } from '../context.ts';
import { isStray, memberHex } from '../stray-members.ts';

export async function removeStrayMember(
  step: { member: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  // Never done at once: until the next look the plan would ask for it again.
  const done = {
    kind: 'later',
    waitingFor: 'the next look at etcd',
    afterMs: context.timings.kubeProbeMs,
  } as const;
  await using etcd = await context.etcd();
  const members = await etcd.health(signal);
  const member = members.find(({ id }) => id === step.member);
  if (member === undefined || (member.healthy && !member.learner)) return done;
  const { items } = await context.kube().list('/api/v1/nodes', signal);
  const kube = {
    kind: 'reachable',
    endpoint: true,
    configured: true,
    nodes: items.map(readNode),
    componentFaults: [],
  } as const;
  if (!isStray(member, { record: context.record(), observed: { ...context.observed, kube } })) return done;
  const hex = memberHex(member.id);
  const title = `etcd member ${member.name || 'without a name'} (${hex})`;
  const verdict = judgeRemoval(members, member.id);
  if (verdict.kind === 'refused')
    throw new PcgError('ETCD_QUORUM_AT_RISK', `${title} must stay: ${verdict.reason}`, {
      details: { reason: verdict.reason },
    });
  if (context.record().strayMember !== member.id) {
    await context.event({
      severity: 'warning',
      reason: 'StrayEtcdMember',
      message: `${title} belongs to no machine of this cluster and ${member.learner ? 'never became a voter' : 'does not answer'}: it is removed`,
      data: { evidence: { members } },
    });
    await context.commit((record) => ({ ...record, strayMember: member.id }));
  }
  await etcd.remove(member.id, signal);
  await context.commit(({ strayMember: _gone, ...record }) => record);
  await context.event({
    severity: 'info',
    reason: 'EtcdMemberRemoved',
    message: `${title} is no longer a member of etcd`,
  });
  return done;
}
