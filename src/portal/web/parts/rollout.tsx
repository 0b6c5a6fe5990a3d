/** Which nodes a change replaces and why; nothing moves before somebody approves the plan. */
import { useSignal } from '@preact/signals';
import type { Cluster } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { plural } from '../format.ts';
import { canWrite, show } from '../state.ts';
import { ProblemBox } from './basics.tsx';
import { Icon } from './icons.tsx';
import { Badge } from './state.tsx';
import { useTask } from './task.ts';

const WORDS = {
  preview: { tone: 'warn', icon: 'wait', text: 'waits for approval' },
  running: { tone: 'busy', icon: 'run', text: 'running' },
  blocked: { tone: 'bad', icon: 'warn', text: 'blocked' },
} as const;

export function Rollout({ cluster }: { cluster: Cluster }) {
  const { busy, problem, run } = useTask();
  /** What was answered here, and the generation that the answer made. */
  const answered = useSignal<{ word: 'Approved' | 'Rejected'; generation: number } | undefined>(undefined);
  const rollout = cluster.status?.rollout;
  if (!rollout || cluster.intent.kind !== 'present') return null;
  const answer = (word: 'Approved' | 'Rejected', verb: string, body: object) =>
    run(async () => {
      const changed = await show(api<Cluster>('POST', `/clusters/${cluster.id}/${verb}`, body));
      answered.value = { word, generation: changed.generation };
    });
  const waits = rollout.state === 'preview' && !cluster.stale;
  const done = waits && answered.value && isComing(cluster, answered.value) ? answered.value.word : undefined;
  return (
    <section class="card plan" aria-labelledby="rollout">
      <div class="card-head">
        <h2 id="rollout">
          {waits && !done ? 'Approve the change?' : 'Change of nodes'}{' '}
          <span class="sub">{plural(rollout.steps.length, 'node')}</span>
        </h2>
        <Badge {...WORDS[rollout.state]} />
      </div>
      {rollout.error ? <ProblemBox problem={rollout.error} /> : null}
      <div class="scroll steps-scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">What</th>
              <th scope="col">Why</th>
            </tr>
          </thead>
          <tbody>
            {rollout.steps.map((step) => (
              <tr key={step.node}>
                <th scope="row">{step.node}</th>
                <td>{step.action}</td>
                <td>{step.reason}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {done ? (
        <p class="waiting" role="status">
          <Icon name="run" spin /> {done}; the gateway has not answered yet.
        </p>
      ) : waits && canWrite.value ? (
        <div class="actions end">
          <span class="sub grow">
            One node at a time, the control plane first. Workloads are drained as their budgets allow.
          </span>
          <button
            type="button"
            class="button"
            disabled={busy.value}
            onClick={() => answer('Rejected', 'reject-rollout', { plan: rollout.plan })}
          >
            Reject
          </button>
          <button
            type="button"
            class="button primary"
            disabled={busy.value}
            onClick={() => answer('Approved', 'actions', { kind: 'approve-rollout', plan: rollout.plan })}
          >
            <Icon name="ok" /> Approve and replace {plural(rollout.steps.length, 'node')}
          </button>
        </div>
      ) : null}
    </section>
  );
}

/** The answer was given, and the gateway's report does not show it yet. The same plan may come again later. */
function isComing(cluster: Cluster, { word, generation }: { word: string; generation: number }): boolean {
  const seen = (cluster.status?.observedGeneration ?? 0) >= generation;
  return word === 'Approved' ? cluster.generation === generation : !seen;
}
