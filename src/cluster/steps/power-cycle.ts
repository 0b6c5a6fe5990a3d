/** The first rung of remediation: off and on again, once, before a machine is replaced. */
import { PcgError } from '../../base/errors.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { findNode, withNode } from '../model.ts';
import { verifyOwnership } from '../ownership.ts';

export async function powerCycle(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held' || node.unhealthySince === undefined) return DONE;
  const { systemId, stamp, hostname } = node.claim;
  const owned = await verifyOwnership(context.maas, systemId, stamp, signal);
  const now = context.clock.now();
  // On disk first: a machine is cycled once, also when the gateway dies in between.
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({ ...current, powerCycledAt: now })),
  );
  if (owned.kind === 'not-ours' || owned.machine.status !== 'deployed') return DONE;
  await context.event({
    severity: 'warning',
    reason: 'PowerCycling',
    message: `${hostname} does not answer and is switched off and on`,
    node: node.name,
    machine: systemId,
  });
  const off = await context.maas.machines.powerOff(systemId, 'hard', signal);
  if (off.kind === 'wrong-state')
    throw new PcgError('MAAS_WRONG_STATE', `MAAS did not switch ${hostname} off`, {
      details: { machine: systemId, locked: off.machine?.locked },
      ...(off.machine?.locked ? { fix: `Unlock ${hostname} in MAAS.` } : {}),
    });
  await context.maas.machines.powerOn(systemId, signal);
  return DONE;
}
