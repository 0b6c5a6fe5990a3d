/** Everything that went wrong and has not been mended, each once, with cause, next step and whom it concerns. */
import type { Cluster, ClusterStatus } from '../../../contract/cluster.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { plural } from '../format.ts';
import { ProblemBox } from './basics.tsx';

/** Names that are listed before "and n more". */
const NAMES_SHOWN = 5;

export function Attention({ cluster }: { cluster: Cluster }) {
  const { status } = cluster;
  if (!status) return null;
  const failed = status.phase === 'Failed' || cluster.lastKnownPhase === 'Failed';
  return (
    <>
      {status.error ? (
        <ProblemBox problem={status.error} {...(failed ? { title: 'The cluster failed' } : {})} />
      ) : null}
      {distinct(status).map(({ problem, nodes }) => (
        <ProblemBox
          key={`${problem.code}${problem.message}`}
          problem={problem}
          {...(nodes.length > 0 ? { title: `${plural(nodes.length, 'node')}: ${listed(nodes)}` } : {})}
        />
      ))}
    </>
  );
}

interface Found {
  readonly problem: ProblemDetails;
  readonly nodes: string[];
}

function distinct(status: ClusterStatus): Found[] {
  const found = new Map<string, Found>();
  const shown = status.error ? keyOf(status.error) : '';
  const add = (problem: ProblemDetails | undefined, node?: string) => {
    if (!problem || keyOf(problem) === shown) return;
    const entry = found.get(keyOf(problem)) ?? { problem, nodes: [] };
    if (node !== undefined && !entry.nodes.includes(node)) entry.nodes.push(node);
    found.set(keyOf(problem), entry);
  };
  for (const task of status.tasks) if (isOpen(task.state)) add(task.error);
  for (const node of status.nodes) {
    add(node.error, node.name);
    for (const task of node.tasks) if (isOpen(task.state)) add(task.error, node.name);
  }
  return [...found.values()];
}

/** A task that succeeded at last keeps its old error as history. */
function isOpen(state: string): boolean {
  return state === 'failed' || state === 'retrying' || state === 'waiting';
}

function keyOf({ code, message }: ProblemDetails): string {
  return `${code} ${message}`;
}

function listed(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
