/** States by icon and word, never by colour alone. The words are those of the API and the command line. */
import type { Cluster, ClusterPhase, NodeStatus, Task } from '../../../contract/cluster.ts';
import type { Gateway } from '../../../contract/gateway.ts';
import { Icon, type IconName } from './icons.tsx';

export type Tone = 'good' | 'busy' | 'bad' | 'warn' | 'calm';

interface Look {
  readonly tone: Tone;
  readonly icon: IconName;
  readonly spin?: boolean;
}

const PHASES: Record<ClusterPhase, Look> = {
  Pending: { tone: 'calm', icon: 'pending' },
  Queued: { tone: 'calm', icon: 'wait' },
  Provisioning: { tone: 'busy', icon: 'run', spin: true },
  Running: { tone: 'good', icon: 'ok' },
  Updating: { tone: 'busy', icon: 'run', spin: true },
  Failed: { tone: 'bad', icon: 'bad' },
  Deleting: { tone: 'busy', icon: 'run', spin: true },
  Deleted: { tone: 'calm', icon: 'skip' },
  Unknown: { tone: 'warn', icon: 'unknown' },
};

/** For the filter; the contract's own list would bring its validator into the page. */
export const PHASE_NAMES = Object.keys(PHASES) as ClusterPhase[];

const NODES: Record<NodeStatus['phase'], Look> = {
  Pending: { tone: 'calm', icon: 'pending' },
  Allocated: { tone: 'busy', icon: 'run', spin: true },
  Deploying: { tone: 'busy', icon: 'run', spin: true },
  Bootstrapping: { tone: 'busy', icon: 'run', spin: true },
  Joining: { tone: 'busy', icon: 'run', spin: true },
  Ready: { tone: 'good', icon: 'ok' },
  NotReady: { tone: 'warn', icon: 'warn' },
  Draining: { tone: 'busy', icon: 'run', spin: true },
  Releasing: { tone: 'busy', icon: 'run', spin: true },
  Released: { tone: 'calm', icon: 'skip' },
  Failed: { tone: 'bad', icon: 'bad' },
  Unknown: { tone: 'warn', icon: 'unknown' },
};

export const TASKS: Record<Task['state'], Look> = {
  pending: { tone: 'calm', icon: 'pending' },
  running: { tone: 'busy', icon: 'run', spin: true },
  waiting: { tone: 'busy', icon: 'wait' },
  retrying: { tone: 'warn', icon: 'retry' },
  succeeded: { tone: 'good', icon: 'ok' },
  failed: { tone: 'bad', icon: 'bad' },
  skipped: { tone: 'calm', icon: 'skip' },
  cancelled: { tone: 'calm', icon: 'skip' },
  unknown: { tone: 'warn', icon: 'unknown' },
};

export function Badge({
  tone,
  icon,
  spin = false,
  text,
}: {
  tone: Tone;
  icon: IconName;
  spin?: boolean;
  text: string;
}) {
  return (
    <span class={`badge ${tone}`}>
      <Icon name={icon} spin={spin} />
      {text}
    </span>
  );
}

/** What is wanted wins over what was last reported: Deleting shows at once. */
export function phaseOf(cluster: Cluster): ClusterPhase {
  if (cluster.deletedAt !== undefined) return 'Deleted';
  if (cluster.stale && cluster.status) return 'Unknown';
  if (cluster.intent.kind !== 'present') return 'Deleting';
  return cluster.status?.phase ?? 'Pending';
}

export function PhaseBadge({ cluster }: { cluster: Cluster }) {
  const phase = phaseOf(cluster);
  const was = phase === 'Unknown' && cluster.lastKnownPhase ? ` (was ${cluster.lastKnownPhase})` : '';
  return <Badge {...PHASES[phase]} text={`${phase}${was}`} />;
}

export function NodeBadge({ node, stale }: { node: NodeStatus; stale: boolean }) {
  const look = stale ? NODES.Unknown : NODES[node.phase];
  return <Badge {...look} text={stale ? `Unknown (was ${node.phase})` : node.phase} />;
}

export function TaskBadge({ state }: { state: Task['state'] }) {
  return <Badge {...TASKS[state]} text={state} />;
}

export function ConnectionBadge({ gateway }: { gateway: Gateway }) {
  switch (gateway.connection.state) {
    case 'connected':
      return <Badge tone="good" icon="ok" text="Connected" />;
    case 'disconnected':
      return <Badge tone="bad" icon="bad" text="Disconnected" />;
    case 'never':
      return <Badge tone="calm" icon="wait" text="Never connected" />;
  }
}
