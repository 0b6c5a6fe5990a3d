/**
 * An agent name in doubt is looked up at once and again when MAAS can no longer carry a lost call out. Every
 * machine under it that no node holds is given back; a machine is forgotten only when MAAS says that it is not
 * ours any more, and the doubt only when a look after its time found nothing.
 */
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { changeDoubt, doubtsOf, holderOf, leaveClaim } from '../doubts.ts';
import { type Doubt, findNode } from '../model.ts';
import { agentName, type Stamp, stampMarks, verifyOwnership } from '../ownership.ts';
import { notReleased, UNDER_WAY } from './release.ts';

/** An allocation whose outcome is not known, and whose node leaves: the node lets go, the doubt stays. */
export async function settleClaim(step: { node: string }, context: StepContext): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'claiming') return DONE;
  const { claim } = node;
  const until = context.clock.now() + context.timings.claimSettleMs;
  await context.commit((record) =>
    leaveClaim(record, node.name, claim, { kind: 'none' }, { until, machines: [] }),
  );
  return DONE;
}

export async function settleDoubt(
  step: { operation: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const doubt = doubtsOf(context.record()).find(({ stamp }) => stamp.operation === step.operation);
  if (!doubt) return DONE;
  const lookedAt = context.clock.now();
  const named = await context.maas.machines.list({ agentName: agentName(doubt.stamp) }, signal);
  const holder = holderOf(context.record(), doubt.stamp);
  const found = [...doubt.machines, ...named.map(({ systemId }) => systemId)];
  const loose = [...new Set(found)].filter((systemId) => systemId !== holder);
  await keep(doubt, loose, context);
  const gone = await Promise.all(loose.map((systemId) => giveBack(doubt.stamp, systemId, context, signal)));
  const left = loose.filter((_systemId, index) => gone[index] === false);
  await keep(doubt, left, context);
  if (left.length > 0) return { kind: 'later', waitingFor: 'MAAS to take unwanted machines back' };
  const leftMs = doubt.until - lookedAt;
  if (leftMs > 0) return { kind: 'later', waitingFor: 'an unanswered allocation to settle', afterMs: leftMs };
  await context.commit((record) => changeDoubt(record, doubt.stamp, () => undefined));
  return DONE;
}

async function keep(doubt: Doubt, machines: readonly string[], context: StepContext): Promise<void> {
  await context.commit((record) =>
    changeDoubt(record, doubt.stamp, (current) =>
      current.machines.join() === machines.join() ? current : { ...current, machines },
    ),
  );
}

/** False while the machine is still ours: whether a release worked shows at the next look. */
async function giveBack(
  stamp: Stamp,
  systemId: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<boolean> {
  const owned = await verifyOwnership(context.maas, systemId, stamp, signal);
  if (owned.kind === 'not-ours') return true;
  const { status, hostname, locked } = owned.machine;
  if (UNDER_WAY.has(status)) return false;
  if (locked) throw notReleased(owned.machine);
  // MAAS forgets the agent name when a release starts: without annotations a failed release would be a leak.
  await context.maas.machines.setAnnotations(systemId, stampMarks(stamp), signal);
  const comment = `pcg: not the machine wanted for ${stamp.node}`;
  const outcome = await context.maas.machines.release(systemId, { erase: 'none', comment }, signal);
  if (outcome.kind === 'wrong-state') throw notReleased(outcome.machine ?? owned.machine);
  if (outcome.kind === 'accepted')
    await context.event({
      severity: 'warning',
      reason: 'WrongMachineReturned',
      message: `${hostname} is given back: it is not what was asked for`,
      node: stamp.node,
      machine: systemId,
      task: 'allocate',
    });
  context.account.candidates.forget();
  return outcome.kind === 'gone';
}
