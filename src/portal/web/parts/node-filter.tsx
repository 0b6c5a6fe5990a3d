/** Nodes by state, with counts; one state shows only those. Lives in the address, as every filter. */
import type { NodeStatus } from '../../../contract/cluster.ts';
import { setQuery } from '../router.ts';

/** From this many nodes on there is something to filter. */
export const FILTER_FROM = 8;

export function NodeFilter({ nodes, filter }: { nodes: readonly NodeStatus[]; filter: string }) {
  const counts = new Map<string, number>();
  for (const node of nodes) counts.set(node.phase, (counts.get(node.phase) ?? 0) + 1);
  const choices = [
    ['', 'All', nodes.length],
    ['attention', 'Need attention', nodes.filter(needsAttention).length],
    ...[...counts].map(([phase, count]) => [phase, phase, count] as const),
  ] as const;
  return (
    <div class="node-filter" role="group" aria-label="Which nodes are shown">
      {choices.map(([value, label, count]) => (
        <button
          key={value}
          type="button"
          class="button small"
          aria-pressed={filter === value}
          disabled={count === 0 && filter !== value}
          onClick={() => setQuery({ nodes: value })}
        >
          {label} {count}
        </button>
      ))}
    </div>
  );
}

export function matches(node: NodeStatus, filter: string): boolean {
  return filter === '' || (filter === 'attention' ? needsAttention(node) : node.phase === filter);
}

function needsAttention(node: NodeStatus): boolean {
  return (
    node.error !== undefined ||
    node.phase === 'Failed' ||
    node.phase === 'NotReady' ||
    node.tasks.some((task) => task.slowerThanUsual === true && task.finishedAt === undefined)
  );
}
