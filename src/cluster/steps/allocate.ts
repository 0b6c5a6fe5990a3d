/**
 * Claims one machine for one node. The claim (system id + stamp) is on disk before MAAS is asked, so whatever
 * becomes of the call is found again by its stamp: a retry asks for the same machine under the same stamp.
 * What MAAS returned is verified (X1) before it counts; what it gave beyond that, or may still give because an
 * answer was lost, stays in the record as a doubt (see settle-doubt.ts).
 */
import { PcgError } from '../../base/errors.ts';
import type { Pool } from '../../contract/cluster.ts';
import type { Machine } from '../../maas/client.ts';
import type { StepContext, StepOutcome } from '../context.ts';
import { DONE } from '../context.ts';
import { type Claiming, leaveClaim } from '../doubts.ts';
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
import { agentName, annotations, isStampedByAnother } from '../ownership.ts';
import { allocateComment } from '../owned.ts';
import { mismatches, type PlacementContext } from '../placement.ts';
import { problem } from '../plan-node.ts';
import { widerLook } from '../site-check.ts';

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
      const found = await carrying(node.claim, context, signal);
      if (found.length > 0) return await hold(node, node.claim, found, 'doubtful', context, signal);
    } else if (node.claim.kind !== 'none') return DONE;
    return await claimOne(node, context, signal);
  });
}

/** What became of a call under this stamp: the machine asked for first, then what MAAS took besides. */
async function carrying(claim: Claiming, context: StepContext, signal: AbortSignal): Promise<Machine[]> {
  const found = await context.maas.machines.list({ agentName: agentName(claim.stamp) }, signal);
  return [...found].sort(
    (a, b) => Number(b.systemId === claim.systemId) - Number(a.systemId === claim.systemId),
  );
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
        comment: allocateComment(claim.stamp, context.document.spec.name),
        systemId,
        pool: pool.placement.resourcePool,
      },
      signal,
    );
    // An earlier call for the same claim had no answer either.
    const trust = same || outcome.kind === 'unknown' || outcome.doubtful ? 'doubtful' : 'certain';
    switch (outcome.kind) {
      case 'allocated':
        return await hold(node, claim, [outcome.machine], trust, context, signal);
      case 'unknown':
        // Nothing is known, so nothing is given up: the same claim is looked up when the step runs again.
        throw new PcgError('MAAS_OUTCOME_UNKNOWN', `MAAS did not confirm the allocation for ${node.name}`, {
          cause: outcome.cause,
        });
      case 'none':
      case 'taken': {
        // "Taken" may mean taken by our own earlier call.
        const found = await carrying(claim, context, signal);
        if (found.length > 0) return await hold(node, claim, found, 'doubtful', context, signal);
        context.account.candidates.remove(systemId);
        const left = { until: settlesAt(trust, context), machines: [] };
        await context.commit((record) => leaveClaim(record, node.name, claim, { kind: 'none' }, left));
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

/** Whether every sending of the calls under a stamp is known to its end. */
type Trust = 'certain' | 'doubtful';

/**
 * Verifies what MAAS returned, makes the stamp visible, and only then counts the machine as held. Of several the
 * first that fits; the others are given back.
 */
async function hold(
  node: NodeRecord,
  claim: Claiming,
  returned: readonly Machine[],
  trust: Trust,
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const pool = poolOf(context, node);
  const placement = await placementContext(context, node);
  // What carries another stamp was in use when MAAS gave it away once more: it is neither taken nor given back.
  const own = returned.filter((machine) => !isStampedByAnother(machine, claim.stamp));
  for (const { systemId } of returned) context.account.candidates.remove(systemId);
  const wrong = returned.map((machine) =>
    own.includes(machine)
      ? mismatches(machine, pool.placement, placement)
      : ['ownership: carries the stamp of another node'],
  );
  const machine = returned.find((_machine, index) => wrong[index]?.length === 0);
  const extra = own.filter((other) => other !== machine).map(({ systemId }) => systemId);
  const left = { until: settlesAt(trust, context), machines: extra };
  const [first] = returned;
  if (machine === undefined) {
    await context.commit((record) => leaveClaim(record, node.name, claim, { kind: 'none' }, left));
    throw new PcgError(
      'WRONG_MACHINE',
      `MAAS returned ${first?.hostname} for ${node.name}: ${wrong[0]?.join('; ')}`,
      { details: { machine: first?.systemId, asked: claim.systemId, mismatches: wrong[0] } },
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
    withNode(leaveClaim(record, node.name, claim, held, left), node.name, (current) => ({
      ...current,
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

/** When a call of that trust can no longer be carried out; undefined when there is nothing to wait for. */
function settlesAt(trust: Trust, { clock, timings }: StepContext): number | undefined {
  return trust === 'doubtful' ? clock.now() + timings.claimSettleMs : undefined;
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
