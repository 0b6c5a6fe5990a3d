/** What a machine whose OS runs waits for before it may join, in words; with a cause and a next step where waiting alone does not help. */
import type { ProblemDetails } from '../contract/errors.ts';
import { alarmFix, describeAlarms } from '../kube/etcd-alarms.ts';
import { describeFault, faultFix } from './components.ts';
import { isFence, needsFence } from './join-fence.ts';
import type { NodeRecord } from './model.ts';
import type { Scene } from './plan.ts';
import { problem } from './plan-node.ts';
import type { Situation } from './situation.ts';
import { isStray, strayMember } from './stray-members.ts';

export interface JoinWait {
  readonly waitingFor: string;
  readonly error?: ProblemDetails;
}

export function joinWait(node: NodeRecord, situation: Situation, scene: Scene): JoinWait | undefined {
  if (situation.kind !== 'booted' || node.token.grantedAt !== undefined) return undefined;
  if (node.init && !scene.initialized) return undefined; // it works
  if (!scene.initialized) return { waitingFor: 'the first control-plane node' };
  const { etcdAlarms } = scene.observed;
  const alarm = describeAlarms(etcdAlarms);
  // A full etcd takes the endpoint along, whose holder cannot renew its lease: then the alarm is what everybody waits for.
  if (alarm !== undefined && (node.role === 'control-plane' || !scene.endpointUp))
    return {
      waitingFor: `its turn: ${alarm}`,
      error: { ...problem('ETCD_QUORUM_AT_RISK', alarm, { alarms: etcdAlarms }), fix: alarmFix(etcdAlarms) },
    };
  if (!scene.endpointUp) return { waitingFor: 'the endpoint' };
  if (node.role === 'worker') return undefined;
  const restless = scene.observed.etcd?.members.find((member) => member.learner || !member.healthy);
  if (restless && isFence(restless) && needsFence(scene.nodes))
    return { waitingFor: 'its turn: a machine that did not join is switched off first' };
  if (restless) {
    const waitingFor = `its turn: etcd member ${restless.name || 'without a name'} ${restless.learner ? 'is still catching up' : 'does not answer'}`;
    return isStray(restless, scene) ? { waitingFor, error: strayMember(restless, scene) } : { waitingFor };
  }
  const [fault] = scene.blockingFaults;
  if (fault)
    return {
      waitingFor: `its turn: ${describeFault(fault)}`,
      error: { ...problem('NODE_UNHEALTHY', describeFault(fault), { ...fault }), fix: faultFix(fault) },
    };
  const { kube } = scene.observed;
  if (kube.kind === 'reachable' && kube.componentsUnread !== undefined) {
    const text = `the static pods of the control plane cannot be read: ${kube.componentsUnread}`;
    return { waitingFor: `its turn: ${text}`, error: problem('KUBE_UNREACHABLE', text) };
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
