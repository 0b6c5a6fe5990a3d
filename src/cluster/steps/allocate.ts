/**
 * Claims one machine for one node. The claim (system id + stamp) is on disk before MAAS is asked, so whatever
 * becomes of the call is found again by its stamp: a retry asks for the same machine under the same stamp and
 * can never take a second one. What MAAS returned is verified (X1) before it counts.
 */
import { PcgError } from '../../base/errors.ts';
import type { Pool } from '../../contract/cluster.ts';
import type { Machine } from '../../maas/client.ts';
import type { StepContext, StepOutcome } from '../context.ts';
import { DONE } from '../context.ts';
import { explainPlacement } from '../explain.ts';
import {
  type Claim,
  type ClusterRecord,
  endpointAddress,
  findNode,
  finishTask,
  type NodeRecord,
  withNode,
} from '../model.ts';
import { operationId } from '../names.ts';
import { agentName, annotations, type Stamp, verifyOwnership } from '../ownership.ts';
import { mismatches, type PlacementContext } from '../placement.ts';
import { problem } from '../plan-node.ts';
import { widerLook } from '../site-check.ts';

type Claiming = Extract<Claim, { kind: 'claiming' }>;

export async function allocate(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  return await context.account.candidates.exclusive(async () => {
    signal.throwIfAborted();
    const node = findNode(context.record(), step.node);
    if (!node || context.superseded.aborted) return DONE;
    if (node.claim.kind === 'claiming') {
      const machine = await recoverClaim(node, node.claim, context, signal);
      if (machine) return await hold(node, node.claim, machine, context, signal);
    } else if (node.claim.kind !== 'none') return DONE;
    return await claimOne(node, context, signal);
  });
}

/**
 * What became of an earlier call under this stamp? Machines that carry it are ours whatever MAAS was asked for;
 * those that do not fit are given back at once. Shared with delete, which must know before it lets go.
 */
export async function recoverClaim(
  node: NodeRecord,
  claim: Claiming,
  context: StepContext,
  signal: AbortSignal,
): Promise<Machine | undefined> {
  const found = await context.maas.machines.list({ agentName: agentName(claim.stamp) }, signal);
  // The one that was asked for first; more than one means that MAAS carried the call out twice.
  const [first, ...rest] = [...found].sort(
    (a, b) => Number(b.systemId === claim.systemId) - Number(a.systemId === claim.systemId),
  );
  for (const machine of rest) await giveBack(machine, claim.stamp, context, signal);
  return first;
}

async function claimOne(node: NodeRecord, context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const pool = poolOf(context, node);
  const placement = await placementContext(context, node);
  const same = node.claim.kind === 'claiming' ? node.claim : undefined;
  const listed = same
    ? [same.systemId]
    : (
        await context.account.candidates.next(pool, placement, zonesInUse(context.record(), node), signal)
      ).map((machine) => machine.systemId);
  const leaving = stillHere(context);
  const free = same ? listed : listed.filter((systemId) => !leaving.has(systemId));
  if (free.length === 0 && listed.length > 0)
    return { kind: 'later', waitingFor: 'the Node of the machine that just left to be removed' };
  for (const systemId of free) {
    if (context.superseded.aborted) return DONE;
    const claim: Claiming = same ?? {
      kind: 'claiming',
      systemId,
      stamp: {
        gateway: context.gateway,
        cluster: context.document.id,
        node: node.name,
        operation: operationId(context.random),
      },
      since: context.clock.now(),
    };
    if (!same)
      await context.commit((record) => withNode(record, node.name, (current) => ({ ...current, claim })));
    const outcome = await context.maas.machines.allocate(
      {
        agentName: agentName(claim.stamp),
        comment: `pcg cluster ${context.document.spec.name} node ${node.name}`,
        systemId,
        pool: pool.placement.resourcePool,
      },
      signal,
    );
    switch (outcome.kind) {
      case 'allocated':
        return await hold(node, claim, outcome.machine, context, signal);
      case 'unknown':
        // Nothing is known, so nothing is given up: the same claim is looked up when the step runs again.
        throw new PcgError('MAAS_OUTCOME_UNKNOWN', `MAAS did not confirm the allocation for ${node.name}`, {
          cause: outcome.cause,
        });
      case 'none':
      case 'taken': {
        // "Taken" may mean taken by our own earlier call.
        const machine = await recoverClaim(node, claim, context, signal);
        if (machine) return await hold(node, claim, machine, context, signal);
        context.account.candidates.remove(systemId);
        await context.commit((record) => letGo(record, node.name));
        if (same) return await claimOne({ ...node, claim: { kind: 'none' } }, context, signal);
        break;
      }
    }
  }
  throw await shortage(node, pool, placement, context, signal);
}

/**
 * Machines that MAAS has back while the cluster still has a Node of theirs: kubeadm refuses to join under the name
 * of a Node that exists, and the old Node would pass for the new one.
 */
function stillHere(context: StepContext): Set<string> {
  const { kube } = context.observed;
  const nodes = kube.kind === 'reachable' ? kube.nodes.flatMap(({ systemId }) => systemId ?? []) : [];
  const released = context
    .record()
    .nodes.flatMap(({ claim }) => (claim.kind === 'released' ? claim.systemId : []));
  return new Set([...nodes, ...released]);
}

/** Verifies what MAAS returned, makes the stamp visible, and only then counts the machine as held. */
async function hold(
  node: NodeRecord,
  claim: Claiming,
  machine: Machine,
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const pool = poolOf(context, node);
  context.account.candidates.remove(machine.systemId);
  const wrong = mismatches(machine, pool.placement, await placementContext(context, node));
  if (wrong.length > 0) {
    await giveBack(machine, claim.stamp, context, signal);
    await context.commit((record) => letGo(record, node.name));
    throw new PcgError(
      'WRONG_MACHINE',
      `MAAS returned ${machine.hostname} for ${node.name}: ${wrong.join('; ')}`,
      {
        details: { machine: machine.systemId, asked: claim.systemId, mismatches: wrong },
      },
    );
  }
  const marks = annotations(claim.stamp, {
    clusterName: context.document.spec.name,
    pool: node.pool,
    role: node.role,
    endpoint: endpointAddress(context.record().endpoint)?.host,
  });
  await context.maas.machines.setAnnotations(machine.systemId, marks, signal);
  const now = context.clock.now();
  const held: Claim = {
    kind: 'held',
    systemId: machine.systemId,
    hostname: machine.hostname,
    zone: machine.zone,
    stamp: claim.stamp,
    since: now,
  };
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({
      ...current,
      claim: held,
      tasks: { ...current.tasks, allocate: finishTask(current.tasks.allocate, now) },
    })),
  );
  context.saw({ ...machine, annotations: { ...machine.annotations, ...marks } });
  await context.event({
    severity: 'info',
    reason: 'MachineAllocated',
    message: `${machine.hostname} (${machine.zone}) is allocated for ${node.name}`,
    node: node.name,
    machine: machine.systemId,
    task: 'allocate',
  });
  return DONE;
}

function letGo(record: ClusterRecord, name: string): ClusterRecord {
  return withNode(record, name, (node) =>
    node.claim.kind === 'claiming' ? { ...node, claim: { kind: 'none' } } : node,
  );
}

/** Releases a machine that carries our stamp but is not wanted. Its stamp is asked for again just before. */
async function giveBack(
  machine: Machine,
  stamp: Stamp,
  context: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const owned = await verifyOwnership(context.maas, machine.systemId, stamp, signal);
  if (owned.kind === 'not-ours') return;
  await context.maas.machines.release(
    machine.systemId,
    { erase: 'none', comment: `pcg: not the machine wanted for ${stamp.node}` },
    signal,
  );
  await context.event({
    severity: 'warning',
    reason: 'WrongMachineReturned',
    message: `${machine.hostname} was given back: it is not what was asked for`,
    node: stamp.node,
    machine: machine.systemId,
    task: 'allocate',
  });
}

function poolOf(context: StepContext, node: NodeRecord): Pool {
  const pool = context.document.spec.pools.find((candidate) => candidate.name === node.pool);
  if (!pool) throw new PcgError('CANCELLED', `pool ${node.pool} is no longer wanted`, { retryable: true });
  return pool;
}

export async function placementContext(
  context: Pick<StepContext, 'quarantine' | 'clock' | 'account' | 'record'>,
  node: Pick<NodeRecord, 'role'>,
): Promise<PlacementContext> {
  const entries = await context.quarantine.list(context.clock.now(), context.account.id);
  const { endpoint } = context.record();
  const subnet = endpoint.kind === 'vip' || endpoint.kind === 'reserving' ? endpoint.subnetCidr : undefined;
  return {
    quarantined: new Map(entries.map((entry) => [entry.systemId, entry.reason])),
    architectures: [],
    ...(node.role === 'control-plane' && subnet !== undefined ? { subnetCidr: subnet } : {}),
  };
}

function zonesInUse(record: ClusterRecord, node: NodeRecord): Map<string, number> {
  const zones = new Map<string, number>();
  for (const other of record.nodes) {
    if (other.pool === node.pool && other.name !== node.name && other.claim.kind === 'held')
      zones.set(other.claim.zone, (zones.get(other.claim.zone) ?? 0) + 1);
  }
  return zones;
}

/** Why nothing fits, rule by rule (X4). */
async function shortage(
  node: NodeRecord,
  pool: Pool,
  placement: PlacementContext,
  context: StepContext,
  signal: AbortSignal,
): Promise<PcgError> {
  const { resourcePool } = pool.placement;
  const ready = await context.account.candidates.ready([resourcePool], 'recent', signal);
  const pools = await context.maas.pools(signal);
  const machines = [...ready, ...(await widerLook(context.maas, [resourcePool], pools, signal))];
  const index = context.document.spec.pools.indexOf(pool);
  const report = explainPlacement(machines, [{ pool, wanted: 1, index, context: placement }]);
  const why =
    report.problems[0] ?? problem('NOT_ENOUGH_MACHINES', 'every matching machine was taken meanwhile');
  return new PcgError(why.code, `${node.name}: ${why.message}`, {
    field: `spec.pools[${index}]`,
    fix: why.fix,
    retryable: true,
    details: why.details,
  });
}
