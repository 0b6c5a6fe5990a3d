/** What is done regularly, when it was done last and with what result; any of it can be done now. */
import type { Cluster, ClusterStatus } from '../../../contract/cluster.ts';
import { canWrite, show } from '../state.ts';
import { api } from '../api.ts';
import { Backups, backupsOf } from './backups.tsx';
import { ProblemBox, When } from './basics.tsx';
import { Icon } from './icons.tsx';
import { scheduleText } from './schedule-field.tsx';
import { TaskBadge } from './state.tsx';
import { useTask } from './task.ts';

type Result = ClusterStatus['policies'][number];

export function Policies({ cluster, onChange }: { cluster: Cluster; onChange: () => void }) {
  const { problem, busy, run } = useTask();
  const may = canWrite.value && cluster.intent.kind === 'present' && cluster.provisioned;
  return (
    <section class="card" aria-labelledby="policies">
      <div class="card-head">
        <h2 id="policies">Policies</h2>
        {may ? (
          <button type="button" class="button small" onClick={onChange}>
            <Icon name="edit" /> Change policies
          </button>
        ) : null}
      </div>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Policy</th>
              <th scope="col">When</th>
              <th scope="col">Last result</th>
              <th scope="col">Next</th>
              {may ? (
                <th scope="col">
                  <span class="visually-hidden">Now</span>
                </th>
              ) : null}
            </tr>
          </thead>
          <tbody>
            {kinds(cluster).map(({ policy, label, schedule }) => {
              const result = cluster.status?.policies.find((other) => other.policy === policy);
              return (
                <tr key={policy} data-policy={policy}>
                  <th scope="row">{label}</th>
                  <td>{schedule === undefined ? 'on request' : scheduleText(schedule)}</td>
                  <td>
                    <LastResult result={result} stale={cluster.stale} />
                    {policy === 'backup' && may ? (
                      <Backups cluster={cluster} backups={backupsOf(result)} />
                    ) : null}
                  </td>
                  <td>{result?.nextRunAt ? <When at={result.nextRunAt} /> : '–'}</td>
                  {may && schedule === undefined ? <td /> : null}
                  {may && schedule !== undefined ? (
                    <td>
                      <button
                        type="button"
                        class="button small"
                        aria-label={`Run ${label} now`}
                        disabled={busy.value}
                        onClick={() =>
                          run(async () => {
                            await show(
                              api<Cluster>('POST', `/clusters/${cluster.id}/actions`, {
                                kind: 'run-policy',
                                policy,
                              }),
                            );
                          })
                        }
                      >
                        <Icon name="play" /> Run now
                      </button>
                    </td>
                  ) : null}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function LastResult({ result, stale }: { result: Result | undefined; stale: boolean }) {
  if (!result) return <span class="sub">never run</span>;
  return (
    <>
      <TaskBadge state={stale ? 'unknown' : result.state} />{' '}
      {result.lastRunAt ? (
        <span class="sub">
          <When at={result.lastRunAt} />
        </span>
      ) : null}
      <Summary summary={result.summary} />
      {result.error ? (
        <span class="fix">
          {result.error.message} · {result.error.fix} <code>{result.error.code}</code>
        </span>
      ) : null}
    </>
  );
}

/** Numbers and words in a line; lists unfold. */
function Summary({ summary }: { summary: Record<string, unknown> }) {
  const entries = Object.entries(summary);
  const plain = entries.filter(([, value]) => typeof value !== 'object');
  const lists = entries.filter((entry): entry is [string, unknown[]] => Array.isArray(entry[1]));
  return (
    <>
      {plain.length > 0 ? (
        <div class="sub">{plain.map(([name, value]) => `${name} ${String(value)}`).join(' · ')}</div>
      ) : null}
      {lists
        .filter(([, items]) => items.length > 0)
        .map(([name, items]) => (
          <details key={name}>
            <summary>
              {name} ({items.length})
            </summary>
            <ul class="findings">
              {items.map((item, index) => (
                <li key={index}>{textOf(item)}</li>
              ))}
            </ul>
          </details>
        ))}
    </>
  );
}

/** A finding is an object of short texts, or a text. */
function textOf(item: unknown): string {
  return typeof item === 'object' && item !== null
    ? Object.values(item).map(textOf).join(': ')
    : JSON.stringify(item).replace(/^"|"$/g, '');
}

/** Without a schedule: what is only done on request, and shown when it was. */
function kinds({ spec, status }: Cluster): { policy: string; label: string; schedule?: string }[] {
  const { patching, scans, backups } = spec.policies;
  return [
    { policy: 'patching', label: 'OS patching', schedule: patching.schedule },
    { policy: 'cis', label: 'CIS benchmark', schedule: scans.cis },
    { policy: 'conformance', label: 'Conformance', schedule: scans.conformance },
    { policy: 'vulnerabilities', label: 'Vulnerabilities', schedule: scans.vulnerabilities },
    { policy: 'backup', label: 'Backup', schedule: backups.schedule },
    {
      policy: 'etcd-snapshot',
      label: 'Snapshot of etcd',
      schedule: backups.etcdSnapshots ? backups.schedule : 'never',
    },
    ...(status?.policies.some(({ policy }) => policy === 'restore')
      ? [{ policy: 'restore', label: 'Restore' }]
      : []),
    ...(status?.policies.some(({ policy }) => policy === 'delete-backup')
      ? [{ policy: 'delete-backup', label: 'Deletion of a backup' }]
      : []),
  ];
}
