/**
 * Which step belongs to which line of the timeline, and what its start, success and failure write there. Tasks
 * that outlive their step (deploy: the call returns, the installation goes on) are finished by milestones.ts.
 */
import type { ProblemDetails } from '../contract/errors.ts';
import {
  type ClusterRecord,
  type ClusterTask,
  failTask,
  findNode,
  finishTask,
  type NodeTask,
  startTask,
  type TaskRecord,
  withNode,
} from './model.ts';
import { keyOf, type Step, type StepKind } from './steps.ts';

const NODE_TASK: Partial<Record<StepKind, { task: NodeTask; finishes: boolean }>> = {
  allocate: { task: 'allocate', finishes: true },
  deploy: { task: 'deploy', finishes: false },
  'drain-node': { task: 'drain', finishes: true },
  release: { task: 'release', finishes: false },
  'settle-claim': { task: 'release', finishes: true },
};

const CLUSTER_TASK: Partial<Record<StepKind, ClusterTask>> = {
  'check-placement': 'check-placement',
  'reserve-endpoint': 'reserve-endpoint',
  'release-endpoint': 'release-endpoint',
};

/** `<node>/<task>` or `<task>`; undefined for steps that are no line of the timeline. */
export function taskKey(step: Step): string | undefined {
  const own = NODE_TASK[step.kind];
  if (own && 'node' in step) return `${step.node}/${own.task}`;
  if (step.kind === 'apply-pack') return `apply-${step.pack}`;
  return CLUSTER_TASK[step.kind];
}

function change(
  record: ClusterRecord,
  step: Step,
  edit: (task: TaskRecord | undefined) => TaskRecord,
): ClusterRecord {
  const own = NODE_TASK[step.kind];
  if (own && 'node' in step) {
    const before = findNode(record, step.node)?.tasks[own.task];
    const after = edit(before);
    if (after === before) return record;
    return withNode(record, step.node, (node) => ({ ...node, tasks: { ...node.tasks, [own.task]: after } }));
  }
  if (step.kind === 'apply-pack') {
    const pack = record.packs[step.pack];
    if (!pack) return record;
    const after = edit(pack.task);
    return after === pack.task
      ? record
      : { ...record, packs: { ...record.packs, [step.pack]: { ...pack, task: after } } };
  }
  const name = CLUSTER_TASK[step.kind];
  if (name === undefined) return record;
  const after = edit(record.tasks[name]);
  return after === record.tasks[name] ? record : { ...record, tasks: { ...record.tasks, [name]: after } };
}

export function afterStart(record: ClusterRecord, step: Step, now: number): ClusterRecord {
  const started = change(record, step, (task) => (task?.state === 'succeeded' ? task : startTask(task, now)));
  // The init node's installation is also the control plane's.
  if (
    step.kind === 'deploy' &&
    findNode(record, step.node)?.init &&
    started.tasks['initialize-control-plane'] === undefined
  )
    return { ...started, tasks: { ...started.tasks, 'initialize-control-plane': startTask(undefined, now) } };
  return started;
}

export function afterSuccess(record: ClusterRecord, step: Step, now: number): ClusterRecord {
  const own = NODE_TASK[step.kind];
  const finishes = own ? own.finishes : step.kind !== 'apply-pack';
  const done = finishes ? change(record, step, (task) => finishTask(task, now)) : record;
  if (done.problemStep !== keyOf(step)) return done;
  const { problem: _problem, problemStep: _step, ...rest } = done;
  return rest;
}

/** A site-wide trouble is shown as the cluster's cause only when a user must act, or when it will not end soon. */
const ATTEMPTS_BEFORE_BLAME = 5;

export function afterFailure(
  record: ClusterRecord,
  step: Step,
  failure: { problem: ProblemDetails; attempts: number; now: number; nextAttemptAt: number },
): ClusterRecord {
  const { problem, attempts, now, nextAttemptAt } = failure;
  const noted = change(record, step, (task) => failTask(task, now, problem, nextAttemptAt));
  const blame =
    !problem.retryable ||
    step.kind === 'check-placement' ||
    step.kind === 'reserve-endpoint' ||
    attempts >= ATTEMPTS_BEFORE_BLAME;
  if (!blame || (noted.problem !== undefined && noted.problemStep !== keyOf(step))) return noted;
  return { ...noted, problem, problemStep: keyOf(step) };
}
