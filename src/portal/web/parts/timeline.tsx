/**
 * The provisioning as lanes: one per machine, tasks as bars on one time axis, so that one sees at a glance
 * who waits for whom. Every lane unfolds to the same facts as a table; bars are only a picture of it.
 */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import type { Cluster, ClusterStatus, NodeStatus, Task } from '../../../contract/cluster.ts';
import { clockTime, duration, relative } from '../format.ts';
import { route } from '../router.ts';
import { now } from '../state.ts';
import { NodeActions } from './node-actions.tsx';
import { FILTER_FROM, matches, NodeFilter } from './node-filter.tsx';
import { NodeBadge, TASKS, TaskBadge } from './state.tsx';

/** A bar is never thinner than this, percent of the axis. */
const BAR_MIN = 0.6;

/** The axis grows by a step of a fortieth to a twentieth of itself, and by a second at least. */
const AXIS_STEPS = 40;

interface Axis {
  readonly from: number;
  readonly to: number;
}

export function Timeline({ cluster, status }: { cluster: Cluster; status: ClusterStatus }) {
  const everything = [...status.tasks, ...status.nodes.flatMap((node) => node.tasks)];
  const at = cluster.stale ? Date.parse(cluster.statusReceivedAt ?? status.observedAt) : now.value;
  const axis = axisOf(everything, at);
  const filter = route.value.query.get('nodes') ?? '';
  const shown = status.nodes.filter((node) => matches(node, filter));
  return (
    <div class="timeline">
      {status.nodes.length >= FILTER_FROM ? <NodeFilter nodes={status.nodes} filter={filter} /> : null}
      <div class="axis" aria-hidden="true">
        <span>{clockTime(axis.from)}</span>
        <span>{clockTime((axis.from + axis.to) / 2)}</span>
        <span>{clockTime(axis.to)}</span>
      </div>
      {status.tasks.length > 0 ? (
        <Unfold
          summary={
            <>
              <span class="lane-name">
                <strong>Cluster</strong>
                <span class="sub">{current(status.tasks, at) ?? 'shared steps'}</span>
              </span>
              <Track tasks={status.tasks} axis={axis} at={at} />
            </>
          }
        >
          {() => <TaskTable tasks={status.tasks} at={at} />}
        </Unfold>
      ) : null}
      {shown.map((node) => (
        <Lane key={node.name} cluster={cluster} node={node} axis={axis} at={at} />
      ))}
      {shown.length === 0 ? <p class="lane-none sub">No node matches.</p> : null}
    </div>
  );
}

/** A lane that draws what is inside only while it is open: a hundred closed tables cost nothing. */
function Unfold({
  name,
  summary,
  children,
}: {
  name?: string;
  summary: ComponentChildren;
  children: () => ComponentChildren;
}) {
  const open = useSignal(false);
  return (
    <details
      class="lane"
      data-node={name}
      onToggle={(event) => {
        open.value = event.currentTarget.open;
      }}
    >
      <summary>{summary}</summary>
      {open.value ? children() : null}
    </details>
  );
}

function Lane({ cluster, node, axis, at }: { cluster: Cluster; node: NodeStatus; axis: Axis; at: number }) {
  const place = [node.hostname, node.zone, node.addresses[0]].filter(Boolean).join(' · ');
  return (
    <Unfold
      name={node.name}
      summary={
        <>
          <span class="lane-name">
            <strong>{node.name}</strong>
            <NodeBadge node={node} stale={cluster.stale} />
            {node.maintenance ? <span class="tag">maintenance</span> : null}
            <span class="sub">{place || `${node.role}, no machine yet`}</span>
            <span class="sub now">{node.error ? node.error.message : current(node.tasks, at)}</span>
          </span>
          <Track tasks={node.tasks} axis={axis} at={at} />
        </>
      }
    >
      {() => (
        <>
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
          <NodeActions cluster={cluster} node={node} />
        </>
      )}
    </Unfold>
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
        if (end < axis.from) return null;
        const left = Math.max(0, ((start - axis.from) / span) * 100);
        const right = ((end - axis.from) / span) * 100;
        const width = Math.min(100 - left, Math.max(BAR_MIN, right - left));
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
                {task.etaAt && !task.finishedAt ? (
                  <>
                    expected {relative(task.etaAt, at)} ({clockTime(task.etaAt)}){' '}
                  </>
                ) : null}
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
  const left = task.etaAt && Date.parse(task.etaAt) > at ? `, done ${relative(task.etaAt, at)}` : '';
  return `${what} · ${took(task, at)}${attempt}${left}${slow}`;
}

/**
 * From the first task that still matters to now. Long ago and now do not fit into one picture: what lies before
 * a quiet time that is longer than everything else is cut off, and stays in the tables.
 */
function axisOf(tasks: readonly Task[], at: number): Axis {
  const spans = tasks
    .flatMap(({ startedAt, finishedAt }) =>
      startedAt ? [{ from: Date.parse(startedAt), to: finishedAt ? Date.parse(finishedAt) : at }] : [],
    )
    .sort((a, b) => a.from - b.from);
  let first = spans[0];
  if (!first) return { from: at - 60_000, to: at };
  const end = Math.max(...spans.map(({ to }) => to));
  let seenUntil = first.to;
  for (const span of spans) {
    const quiet = span.from - seenUntil;
    if (quiet > (end - first.from) / 2) first = span;
    seenUntil = Math.max(seenUntil, span.to);
  }
  // Its end moves in steps, so that each second redraws the bars that grow and not all of them.
  const span = Math.max(1000, end - first.from);
  const step = 1000 * 2 ** Math.max(0, Math.floor(Math.log2(span / AXIS_STEPS / 1000)));
  return { from: first.from, to: first.from + Math.ceil(span / step) * step };
}
