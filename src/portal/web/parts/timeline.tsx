/**
 * The provisioning as lanes: one per machine, tasks as bars on one time axis, so that one sees at a glance
 * who waits for whom. Every lane unfolds to the same facts as a table; bars are only a picture of it.
 */
import type { Cluster, ClusterStatus, NodeStatus, Task } from '../../../contract/cluster.ts';
import { clockTime, duration } from '../format.ts';
import { now } from '../state.ts';
import { NodeBadge, TASKS, TaskBadge } from './state.tsx';

/** A bar is never thinner than this, percent of the axis. */
const BAR_MIN = 0.6;

interface Axis {
  readonly from: number;
  readonly to: number;
}

export function Timeline({ cluster, status }: { cluster: Cluster; status: ClusterStatus }) {
  const everything = [...status.tasks, ...status.nodes.flatMap((node) => node.tasks)];
  const at = cluster.stale ? Date.parse(cluster.statusReceivedAt ?? status.observedAt) : now.value;
  const axis = axisOf(everything, at);
  return (
    <div class="timeline">
      <div class="axis" aria-hidden="true">
        <span>{clockTime(axis.from)}</span>
        <span>{clockTime((axis.from + axis.to) / 2)}</span>
        <span>{clockTime(axis.to)}</span>
      </div>
      {status.tasks.length > 0 ? (
        <details class="lane">
          <summary>
            <span class="lane-name">
              <strong>Cluster</strong>
              <span class="sub">{current(status.tasks, at) ?? 'shared steps'}</span>
            </span>
            <Track tasks={status.tasks} axis={axis} at={at} />
          </summary>
          <TaskTable tasks={status.tasks} at={at} />
        </details>
      ) : null}
      {status.nodes.map((node) => (
        <Lane key={node.name} node={node} axis={axis} at={at} stale={cluster.stale} />
      ))}
    </div>
  );
}

function Lane({ node, axis, at, stale }: { node: NodeStatus; axis: Axis; at: number; stale: boolean }) {
  const place = [node.hostname, node.zone, node.addresses[0]].filter(Boolean).join(' · ');
  return (
    <details class="lane" data-node={node.name}>
      <summary>
        <span class="lane-name">
          <strong>{node.name}</strong>
          <NodeBadge node={node} stale={stale} />
          <span class="sub">{place || `${node.role}, no machine yet`}</span>
          <span class="sub now">{node.error ? node.error.message : current(node.tasks, at)}</span>
        </span>
        <Track tasks={node.tasks} axis={axis} at={at} />
      </summary>
      <dl class="facts">
        <Fact term="Pool" text={`${node.pool} (${node.role})`} />
        <Fact term="MAAS" text={[node.systemId, node.maasStatus].filter(Boolean).join(' · ') || '–'} />
        <Fact term="Addresses" text={node.addresses.join(', ') || '–'} />
        <Fact term="Kubernetes" text={node.kubernetesVersion ?? '–'} />
      </dl>
      {node.maasMessage ? <p class="sub">MAAS: {node.maasMessage}</p> : null}
      {node.error ? (
        <p class="fix">
          {node.error.message} · {node.error.fix} <code>{node.error.code}</code>
        </p>
      ) : null}
      <TaskTable tasks={node.tasks} at={at} />
    </details>
  );
}

function Fact({ term, text }: { term: string; text: string }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{text}</dd>
    </div>
  );
}

function Track({ tasks, axis, at }: { tasks: readonly Task[]; axis: Axis; at: number }) {
  const span = Math.max(1, axis.to - axis.from);
  return (
    <span class="track" aria-hidden="true">
      {tasks.map((task) => {
        if (!task.startedAt) return null;
        const start = Date.parse(task.startedAt);
        const end = task.finishedAt ? Date.parse(task.finishedAt) : at;
        const left = ((start - axis.from) / span) * 100;
        const width = Math.min(100 - left, Math.max(BAR_MIN, ((end - start) / span) * 100));
        return (
          <span
            key={task.name}
            class={`bar ${TASKS[task.state].tone} ${task.state}`}
            title={`${task.name}: ${task.state}, ${duration(end - start)}`}
            style={{ left: `${left}%`, width: `${width}%` }}
          >
            <span>{task.name}</span>
          </span>
        );
      })}
    </span>
  );
}

function TaskTable({ tasks, at }: { tasks: readonly Task[]; at: number }) {
  if (tasks.length === 0) return <p class="sub">No task yet.</p>;
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col">State</th>
            <th scope="col">Attempt</th>
            <th scope="col">Took</th>
            <th scope="col">Details</th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <tr key={task.name}>
              <th scope="row">{task.name}</th>
              <td>
                <TaskBadge state={task.state} />
              </td>
              <td>{task.attempt}</td>
              <td>{took(task, at)}</td>
              <td>
                {task.waitingFor ? <>waits for {task.waitingFor} </> : null}
                {task.nextAttemptAt ? <>next try {clockTime(task.nextAttemptAt)} </> : null}
                {task.etaAt && !task.finishedAt ? <>expected {clockTime(task.etaAt)} </> : null}
                {task.slowerThanUsual ? <strong class="warn-text">slower than usual </strong> : null}
                {task.error ? (
                  <span class="fix">
                    {task.error.message} · {task.error.fix} <code>{task.error.code}</code>
                  </span>
                ) : null}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function took(task: Task, at: number): string {
  if (!task.startedAt) return '–';
  const end = task.finishedAt ? Date.parse(task.finishedAt) : at;
  return duration(end - Date.parse(task.startedAt));
}

/** The task that the machine is at, in words. */
function current(tasks: readonly Task[], at: number): string | undefined {
  const task = tasks.findLast(
    ({ state }) => state === 'running' || state === 'waiting' || state === 'retrying' || state === 'failed',
  );
  if (!task) return undefined;
  const what = task.waitingFor ? `${task.name}: waits for ${task.waitingFor}` : task.name;
  const attempt = task.attempt > 1 ? `, attempt ${task.attempt}` : '';
  const slow = task.slowerThanUsual ? ', slower than usual' : '';
  return `${what} · ${took(task, at)}${attempt}${slow}`;
}

function axisOf(tasks: readonly Task[], at: number): Axis {
  let from = Number.POSITIVE_INFINITY;
  let to = Number.NEGATIVE_INFINITY;
  for (const task of tasks) {
    if (!task.startedAt) continue;
    from = Math.min(from, Date.parse(task.startedAt));
    to = Math.max(to, task.finishedAt ? Date.parse(task.finishedAt) : at);
  }
  return Number.isFinite(from) ? { from, to: Math.max(to, from + 1000) } : { from: at - 60_000, to: at };
}
