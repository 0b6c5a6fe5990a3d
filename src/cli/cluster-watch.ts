/**
 * Watches one cluster through the portal's feed until it reaches a phase: events as they come, and on a
 * terminal one line per node that is redrawn in place. Failed ends the watch with the cluster's own error.
 */
import { PcgError } from '../base/errors.ts';
import { type Cluster, ClusterSchema } from '../contract/cluster.ts';
import type { Event } from '../contract/events.ts';
import { readEvents } from './cluster-source.ts';
import type { CliContext } from './context.ts';
import type { PortalClient } from './portal-client.ts';

const POLL_MS = 150;
const EVENTS_PER_POLL = 500;

export interface ClusterWatch {
  readonly client: PortalClient;
  readonly context: CliContext;
  readonly clusterId: string;
  readonly timeoutMs: number;
  /** The change that is waited for: an older report of the gateway, or an unfinished rollout, does not count. */
  readonly generation?: number;
  /** Position in the cluster's events: what happened before it is not shown. */
  readonly after: number;
}

export interface Watched {
  readonly cluster: Cluster;
  /** Where the events of the next watch begin. */
  readonly after: number;
}

/** Position of the cluster's newest event, for a watch of what comes next. */
export async function eventsEnd(context: CliContext, client: PortalClient, clusterId: string) {
  return (await readEvents(context, client, clusterId, undefined, 1)).next;
}

export async function watchCluster(watch: ClusterWatch, until: 'Running' | 'Deleted'): Promise<Watched> {
  const { client, context, clusterId } = watch;
  const deadline = context.clock.monotonic() + watch.timeoutMs;
  const shown = new Map<string, string>();
  let { after } = watch;
  for (;;) {
    const path = `/api/v1/clusters/${clusterId}`;
    const cluster = ClusterSchema.parse(await client.call('GET', path, undefined, context.signal));
    const page = await readEvents(context, client, clusterId, after, EVENTS_PER_POLL);
    for (const event of page.events) printEvent(context, event);
    after = page.next;
    show(context, cluster, shown);
    const answered = (cluster.status?.observedGeneration ?? 0) >= (watch.generation ?? 0);
    if (until === 'Deleted' && cluster.deletedAt !== undefined) return { cluster, after };
    if (cluster.status?.phase === until && answered && !(watch.generation && cluster.status.rollout))
      return { cluster, after };
    const { error } = cluster.status ?? {};
    if (cluster.status?.phase === 'Failed' && error && answered) {
      throw new PcgError(error.code, error.message, {
        fix: error.fix,
        field: error.field,
        details: error.details,
      });
    }
    if (context.clock.monotonic() > deadline)
      throw new PcgError('DEADLINE', `the cluster did not become ${until} in time`);
    await context.clock.sleep(POLL_MS, context.signal);
  }
}

function printEvent(context: CliContext, event: Event): void {
  if (context.json) context.event({ event: 'event', ...event });
  if (context.interactive && event.severity === 'info') return;
  const where = event.node === undefined ? '' : ` ${event.node}`;
  context.say(`${event.time} ${event.reason}${where}: ${event.message}`);
}

function show(context: CliContext, cluster: Cluster, shown: Map<string, string>): void {
  const { status } = cluster;
  if (!status) return;
  const lines = [`${cluster.spec.name}: ${status.phase} ${status.progress.done}/${status.progress.total}`];
  for (const node of status.nodes) {
    const task = node.tasks.find(
      (candidate) =>
        candidate.state === 'running' || candidate.state === 'waiting' || candidate.state === 'retrying',
    );
    const doing = task ? `${task.name}${task.waitingFor ? `: waits for ${task.waitingFor}` : ''}` : '';
    lines.push(
      `  ${node.name.padEnd(24)} ${(node.hostname ?? '').padEnd(18)} ${node.phase.padEnd(14)} ${doing}`,
    );
    if (context.json && shown.get(node.name) !== node.phase) {
      context.event({
        event: 'node',
        cluster: cluster.id,
        node: node.name,
        machine: node.systemId,
        hostname: node.hostname,
        phase: node.phase,
      });
    }
    shown.set(node.name, node.phase);
  }
  if (context.json && shown.get('') !== status.phase)
    context.event({ event: 'phase', cluster: cluster.id, phase: status.phase, progress: status.progress });
  shown.set('', status.phase);
  context.draw(lines);
}
