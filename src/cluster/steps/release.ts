/**
 * Gives machines back. Ownership is asked of MAAS immediately before every release: a machine that was
 * released by hand and given to somebody else in the meantime is never touched. "Already released" is success.
 */
import { PcgError } from '../../base/errors.ts';
import type { Machine } from '../../maas/client.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { released } from '../milestones.ts';
import { type Claim, findNode, type NodeRecord, startTask, withNode } from '../model.ts';
import { verifyOwnership } from '../ownership.ts';

type Held = Extract<Claim, { kind: 'held' | 'releasing' }>;

/** MAAS is already at it; calling again would only be refused. */
export const UNDER_WAY: ReadonlySet<string> = new Set(['releasing', 'disk_erasing']);
/** A release failed on MAAS's side; the next attempt starts anew. */
const FAILED: ReadonlySet<string> = new Set(['failed_releasing', 'failed_disk_erasing']);

export async function release(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held' && node?.claim.kind !== 'releasing') return DONE;
  const claim = await intend(node, node.claim, context);
  const owned = await verifyOwnership(context.maas, claim.systemId, claim.stamp, signal);
  if (owned.kind === 'not-ours') return await letGo(node, context);
  context.saw(owned.machine);
  if (isEraseStuck(owned.machine, claim, context))
    return await abortErase(owned.machine, claim, context, signal);
  if (UNDER_WAY.has(owned.machine.status)) return waiting(owned.machine, claim, context);
  if (owned.machine.locked) throw notReleased(owned.machine);
  return await call(node, claim, owned.machine, context, signal);
}

/** On disk before the call: after a crash the release goes on instead of the node coming back to life. */
async function intend(node: NodeRecord, claim: Held, context: StepContext): Promise<Held> {
  if (claim.kind === 'releasing') return claim;
  const now = context.clock.now();
  const releasing: Held = { ...claim, kind: 'releasing', since: now };
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({
      ...current,
      claim: releasing,
      tasks: { ...current.tasks, release: startTask(current.tasks.release, now) },
    })),
  );
  return releasing;
}

async function call(
  node: NodeRecord,
  claim: Held,
  machine: Machine,
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  // An erase that failed is not repeated: the machine would never come back.
  const erase = machine.status === 'failed_disk_erasing' ? 'none' : context.document.spec.policies.erase.mode;
  const outcome = await context.maas.machines.release(
    claim.systemId,
    { erase, comment: `pcg cluster ${context.document.spec.name}: ${node.name} leaves` },
    signal,
  );
  switch (outcome.kind) {
    case 'gone':
      return await letGo(node, context);
    case 'accepted': {
      context.saw(outcome.machine);
      context.account.candidates.forget();
      if (outcome.machine.owner === undefined) return await letGo(node, context);
      return waiting(outcome.machine, claim, context);
    }
    case 'wrong-state':
    case 'unknown': {
      const now = await context.maas.machines.get(claim.systemId, signal);
      if (now) context.saw(now);
      if (now === undefined || now.owner === undefined) return await letGo(node, context);
      if (UNDER_WAY.has(now.status)) return waiting(now, claim, context);
      throw notReleased(now, outcome.kind === 'unknown' ? outcome.cause : undefined);
    }
  }
}

/** MAAS keeps the machine. A locked one is refused every change, also that of its annotations: ask before. */
export function notReleased(machine: Machine, cause?: unknown): PcgError {
  const { systemId, hostname, status, statusName, locked } = machine;
  const state = locked ? 'locked in MAAS' : statusName;
  return new PcgError('RELEASE_FAILED', `${hostname} is ${state} and was not released`, {
    retryable: true,
    details: { machine: systemId, status, locked },
    ...(locked ? { fix: `Unlock ${hostname} in MAAS.` } : {}),
    cause,
  });
}

function isEraseStuck(machine: Machine, claim: Held, { timings, clock }: StepContext): boolean {
  return machine.status === 'disk_erasing' && clock.now() - claim.since > timings.eraseDeadlineMs;
}

/** MAAS calls the erase failed then; the next look releases the machine without erasing it again. */
async function abortErase(
  machine: Machine,
  claim: Held,
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  await context.maas.machines.abort(
    claim.systemId,
    `pcg: erasing the disks of ${claim.stamp.node} did not end`,
    signal,
  );
  await context.event({
    severity: 'warning',
    reason: 'EraseGivenUp',
    message: `erasing the disks of ${machine.hostname} did not end and was aborted; they may still hold data`,
    node: claim.stamp.node,
    machine: claim.systemId,
    task: 'release',
  });
  return { kind: 'later', waitingFor: 'MAAS to abort the erase' };
}

function waiting(machine: Machine, claim: Held, { timings, clock }: StepContext): StepOutcome {
  const erasing = machine.status === 'disk_erasing';
  const late = !erasing && clock.now() - claim.since > timings.releaseDeadlineMs;
  if (late || FAILED.has(machine.status))
    throw new PcgError('RELEASE_TIMEOUT', `${claim.hostname} is still ${machine.statusName}`, {
      retryable: true,
    });
  return { kind: 'later', waitingFor: erasing ? 'MAAS to erase the disks' : 'MAAS to release the machine' };
}

async function letGo(node: NodeRecord, context: StepContext): Promise<StepOutcome> {
  const now = context.clock.now();
  const before = findNode(context.record(), node.name);
  await context.commit((record) => withNode(record, node.name, (current) => released(current, now)));
  if (before?.claim.kind === 'releasing')
    await context.event({
      severity: 'info',
      reason: 'MachineReleased',
      message: `${before.claim.hostname} was given back to MAAS`,
      node: node.name,
      machine: before.claim.systemId,
      task: 'release',
    });
  return DONE;
}
