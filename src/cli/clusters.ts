/** `pcg clusters`: look at clusters, through a portal or on the gateway itself; changes are in cluster-changes.ts. */
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { clusterChanges } from './cluster-changes.ts';
import { listProfiles } from './cluster-spec.ts';
import { clusterSource, findCluster, type SourceFlags } from './cluster-source.ts';
import type { CliContext } from './context.ts';
import { integerOption } from './options.ts';
import { mustOpenPortal, type PortalFlags, withPortal } from './portal-access.ts';
import { withSocket } from './status.ts';

const FOLLOW_INTERVAL_MS = 1_000;
const EVENTS_MAX = 1_000;

export function clustersCommand(program: Command, context: CliContext): void {
  const clusters = program
    .command('clusters')
    .description(
      'Clusters. With --portal-url or PCG_PORTAL_URL: as the portal knows them; without: as the agent on this host does.',
    );
  const reading = (command: Command) => withSocket(withPortal(command));
  reading(clusters.command('list').description('List clusters.')).action(async (flags: SourceFlags) => {
    await using source = clusterSource(context, flags);
    for (const cluster of await source.list()) {
      if (context.json) context.event(cluster);
      else
        context.out(
          `${cluster.id}  ${cluster.name}  ${cluster.phase}  ${cluster.done}/${cluster.total} ${cluster.message}`,
        );
    }
  });
  reading(
    clusters.command('show <cluster>').description('Show one cluster with its conditions, nodes and tasks.'),
  ).action(async (wanted: string, flags: SourceFlags) => {
    await using source = clusterSource(context, flags);
    const cluster = await source.show(wanted);
    if (context.json) return context.event(cluster);
    context.out(`${cluster.name} (${cluster.id}) ${cluster.phase} ${cluster.message}`);
    if (cluster.status?.queue)
      context.out(`  position ${cluster.status.queue.position} in the queue: ${cluster.status.queue.reason}`);
    for (const condition of cluster.status?.conditions ?? [])
      context.out(
        `  ${condition.type.padEnd(24)} ${condition.status.padEnd(8)} ${condition.reason} ${condition.message}`,
      );
    for (const node of cluster.status?.nodes ?? []) {
      context.out(
        `  ${node.name.padEnd(32)} ${node.role.padEnd(14)} ${node.phase.padEnd(14)} ${node.hostname ?? ''} ${node.addresses.join(',')}`,
      );
      for (const task of node.tasks)
        context.out(
          `    ${task.name.padEnd(16)} ${task.state} (attempt ${task.attempt})${task.waitingFor ? ` waits for ${task.waitingFor}` : ''}${task.error ? ` ${task.error.code}: ${task.error.message}` : ''}`,
        );
    }
    for (const step of cluster.status?.rollout?.steps ?? [])
      context.out(`  ${cluster.status?.rollout?.state}: ${step.action} ${step.node}: ${step.reason}`);
  });
  reading(
    clusters
      .command('kubeconfig <cluster>')
      .description(
        'Print a kubeconfig: as the user through the portal, or on the gateway one to break the glass (24 hours, administrator, without portal).',
      ),
  ).action(async (wanted: string, flags: SourceFlags) => {
    await using source = clusterSource(context, flags);
    const kubeconfig = await source.kubeconfig(wanted);
    if (context.json) context.event({ cluster: wanted, kubeconfig });
    else context.out(kubeconfig.trimEnd());
  });
  reading(
    clusters
      .command('events [cluster]')
      .description('Print events, oldest first.')
      .option('-f, --follow', 'keep printing new ones')
      .option('--limit <n>', 'how many of the newest', integerOption(1, EVENTS_MAX), 100),
  ).action(async (wanted: string | undefined, flags: SourceFlags & { follow?: boolean; limit: number }) => {
    await using source = clusterSource(context, flags);
    let after: number | undefined;
    for (let limit = flags.limit; ; limit = EVENTS_MAX) {
      const page = await source.events(wanted, after, limit);
      after = page.next;
      for (const event of page.events) {
        if (context.json) context.event(event);
        else
          context.out(
            `${event.time} ${event.severity.padEnd(7)} ${event.reason}${event.node ? ` ${event.node}` : ''} ${event.message}`,
          );
      }
      if (!flags.follow) return;
      await context.clock.sleep(FOLLOW_INTERVAL_MS, context.signal);
    }
  });
  withPortal(
    clusters
      .command('spec <cluster>')
      .description('Print the specification as YAML: edit it, then `pcg clusters update`.'),
  ).action(async (wanted: string, flags: PortalFlags) => {
    await using client = mustOpenPortal(context, flags);
    const { spec } = await findCluster(context, client, wanted);
    if (context.json) context.event(spec);
    else context.out(stringify(spec).trimEnd());
  });
  withPortal(clusters.command('profiles').description('List the profiles that clusters are made of.')).action(
    async (flags: PortalFlags) => {
      await using client = mustOpenPortal(context, flags);
      for (const profile of await listProfiles(context, client)) {
        if (context.json) context.event(profile);
        else
          context.out(
            `${profile.name.padEnd(24)} ${profile.packs.map(({ name, version }) => `${name} ${version}`).join(', ')}`,
          );
      }
    },
  );
  clusterChanges(clusters, context);
}
