/** Bookkeeping: the cluster is as wanted, and one-off requests of the user. */
import { assertNever } from '../../base/assert.ts';
import type { ClusterDocument } from '../../contract/cluster.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import {
  ACTIONS_KEPT,
  type ClusterRecord,
  heldSystemId,
  leavingNode,
  type NodeRecord,
  type PolicyRecord,
} from '../model.ts';

export async function settle(context: StepContext): Promise<StepOutcome> {
  const now = context.clock.now();
  let first = false;
  const record = await context.commit((current) => {
    if (current.stage.kind !== 'provisioning' && current.stage.kind !== 'running') return current;
    first = current.stage.kind === 'provisioning';
    const { problem: _problem, problemStep: _step, ...rest } = current;
    return {
      ...rest,
      stage: first ? { kind: 'running', since: now } : current.stage,
      generation: context.generation,
      replacements: 0,
    };
  });
  const durationMs = now - record.createdAt;
  await context.event(
    first
      ? { severity: 'info', reason: 'ClusterRunning', message: `${record.name} is Running`, durationMs }
      : { severity: 'info', reason: 'ClusterUpdated', message: `${record.name} is as wanted` },
  );
  return DONE;
}

type Action = ClusterDocument['actions'][number];

export async function acknowledgeAction(step: { id: string }, context: StepContext): Promise<StepOutcome> {
  const action = context.document.actions.find(({ id }) => id === step.id);
  const now = context.clock.now();
  await context.commit((record) => ({
    ...(action ? act(record, action, now) : record),
    actions: [...record.actions, step.id].slice(-ACTIONS_KEPT),
  }));
  if (action)
    await context.event({
      severity: 'info',
      reason: 'ActionAccepted',
      message: `request ${action.kind} is carried out`,
    });
  return DONE;
}

/** What a request changes in the record; everything else follows from the plan. */
export function act(record: ClusterRecord, action: Action, now: number): ClusterRecord {
  switch (action.kind) {
    case 'retry': {
      const { problem: _problem, problemStep: _step, ...rest } = record;
      return {
        ...rest,
        replacements: 0,
        retriedAt: now,
        nodes: record.nodes.map((node) => retried(node, now)),
      };
    }
    case 'replace-node':
      return changeNode(record, action.machine, (node) => leavingNode(node, 'requested', now));
    case 'maintenance':
      return changeNode(record, action.machine, (node) => maintained(node, action.on, now));
    case 'approve-rollout':
      return { ...record, rollout: { plan: action.plan, approvedAt: now } };
    case 'run-policy':
      return {
        ...record,
        policies: {
          ...record.policies,
          [action.policy]: {
            ...(record.policies[action.policy] ?? { summary: {} }),
            state: 'waiting',
            requestedAt: now,
          },
        },
      };
    case 'restore-backup':
      return {
        ...record,
        policies: {
          ...record.policies,
          restore: {
            ...(record.policies['restore'] ?? { summary: {} }),
            state: 'waiting',
            requestedAt: now,
            restore: { backup: action.backup, namespaces: action.namespaces },
          },
        },
      };
    case 'delete-backup':
      return {
        ...record,
        policies: {
          ...record.policies,
          'delete-backup': doomedBackup(record.policies['delete-backup'], action.backup, now),
        },
      };
    case 'rotate-certificates':
      return { ...record, rotateRequestedAt: now };
    default:
      return assertNever(action, 'action');
  }
}

/** Behind those that were asked for before; a run that is under way goes on. */
function doomedBackup(own: PolicyRecord | undefined, backup: string, now: number): PolicyRecord {
  const doomed = own?.doomed ?? [];
  return {
    ...(own ?? { summary: {} }),
    state: own?.state === 'running' ? 'running' : 'waiting',
    requestedAt: own?.requestedAt ?? now,
    doomed: doomed.includes(backup) ? doomed : [...doomed, backup],
  };
}

/** A failed machine makes room: released, then replaced by another one. */
function retried(node: NodeRecord, now: number): NodeRecord {
  if (!node.failure) return node;
  const { failure: _failure, ...rest } = node;
  return leavingNode(rest, 'failed', now);
}

/** Called off in the middle of the drain: the cordon was ours all the same, and must end with it. */
function maintained(node: NodeRecord, on: boolean, now: number): NodeRecord {
  if (on || !node.maintenance) return { ...node, maintenance: on };
  return { ...node, maintenance: false, drainedAt: node.drainedAt ?? now };
}

/** The request names the node, its machine or its host. */
function changeNode(
  record: ClusterRecord,
  name: string,
  change: (node: NodeRecord) => NodeRecord,
): ClusterRecord {
  const matches = (node: NodeRecord) =>
    node.name === name ||
    heldSystemId(node) === name ||
    (node.claim.kind === 'held' && node.claim.hostname === name);
  return { ...record, nodes: record.nodes.map((node) => (matches(node) ? change(node) : node)) };
}
