/**
 * Machines in MAAS that carry this cluster's stamp although its record does not know them: the state directory was
 * lost or restored. Nothing is built beside them, since a cluster may run on them; a delete takes them along.
 */
import { PcgError } from '../../base/errors.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { doubtsOf } from '../doubts.ts';
import { heldSystemId } from '../model.ts';
import type { OwnedMachine } from '../owned.ts';
import { ANNOTATION, type Stamp, stampMarks, verifyOwnership } from '../ownership.ts';
import { notReleased, UNDER_WAY } from './release.ts';

/** Machines named in an error; the orphan list shows all. */
const NAMED = 20;

type Stray = OwnedMachine & { readonly stamp: Stamp };

export async function checkOrigin(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const strays = (await findStrays(context, signal)).filter(({ machine }) => !UNDER_WAY.has(machine.status));
  if (strays.length > 0)
    throw new PcgError(
      'CLUSTER_STATE_LOST',
      `${strays.length} machines in MAAS belong to ${context.record().name}, and this gateway has no record of them`,
      {
        details: {
          machines: strays.slice(0, NAMED).map(({ machine: { systemId, hostname, statusName } }) => ({
            systemId,
            hostname,
            status: statusName,
          })),
        },
      },
    );
  await context.commit((record) => ({ ...record, originCheckedAt: context.clock.now() }));
  return DONE;
}

export async function releaseStrays(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const strays = await findStrays(context, signal);
  let kept: PcgError | undefined;
  for (const stray of strays) kept = (await giveBack(stray, context, signal)) ?? kept;
  if (kept !== undefined) throw kept; // it may still answer at the address
  await releaseAddresses(strays, context, signal);
  if (strays.length > 0)
    return { kind: 'later', waitingFor: `${strays.length} unknown machines to be released` };
  await context.commit((record) => ({ ...record, strayCheckedAt: context.clock.now() }));
  return DONE;
}

/** Why MAAS keeps the machine; undefined when it does not. */
async function giveBack(
  { machine, stamp }: Stray,
  context: StepContext,
  signal: AbortSignal,
): Promise<PcgError | undefined> {
  if (UNDER_WAY.has(machine.status)) return undefined;
  const owned = await verifyOwnership(context.maas, machine.systemId, stamp, signal);
  if (owned.kind === 'not-ours') return undefined;
  if (owned.machine.locked) return notReleased(owned.machine);
  // MAAS forgets the agent name when a release starts: without annotations a failed release would be a leak.
  await context.maas.machines.setAnnotations(machine.systemId, stampMarks(stamp), signal);
  const erase = machine.status === 'failed_disk_erasing' ? 'none' : context.document.spec.policies.erase.mode;
  const comment = 'pcg: the cluster is deleted and its record did not know this machine';
  const outcome = await context.maas.machines.release(machine.systemId, { erase, comment }, signal);
  if (outcome.kind === 'wrong-state') return notReleased(outcome.machine ?? owned.machine);
  await context.event({
    severity: 'warning',
    reason: 'StrayReleased',
    message: `${machine.hostname} carried the cluster's stamp and is given back`,
    machine: machine.systemId,
  });
  return undefined;
}

/** The endpoint of the earlier life: its machines name it. Never one that another cluster uses. */
async function releaseAddresses(
  strays: readonly Stray[],
  context: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const named = new Set(strays.flatMap(({ machine }) => machine.annotations[ANNOTATION.endpoint] ?? []));
  if (named.size === 0) return;
  const inUse = await context.addressesInUse();
  const reserved = await context.maas.reservedAddresses(signal);
  for (const { ip } of reserved)
    if (named.has(ip) && !inUse.has(ip)) await context.maas.releaseAddress(ip, signal);
}

/** An allocation of ours that is still under way or in doubt is no stray: its operation stands in the record. */
async function findStrays(context: StepContext, signal: AbortSignal): Promise<Stray[]> {
  const owned = await context.account.owned(signal);
  const { nodes } = context.record();
  const known = new Set(nodes.flatMap((node) => heldSystemId(node) ?? []));
  const stamps = [...nodes.map(({ claim }) => claim), ...doubtsOf(context.record())];
  const operations = new Set(stamps.flatMap((one) => ('stamp' in one ? one.stamp.operation : [])));
  return owned.flatMap(({ machine, stamp }) =>
    stamp?.gateway === context.gateway &&
    stamp.cluster === context.document.id &&
    !known.has(machine.systemId) &&
    !operations.has(stamp.operation)
      ? { machine, stamp }
      : [],
  );
}
