/** `pcg status` and `pcg clusters`: what the agent on this host knows, asked over its unix socket. */
import type { Command } from 'commander';
import { z } from 'zod';
import { AgentStatusSchema } from '../contract/api.ts';
import { ClusterStatusSchema } from '../contract/cluster.ts';
import { EventSchema } from '../contract/events.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { loadSettings } from '../config/settings.ts';
import type { CliContext } from './context.ts';
import { askAgent } from './local-client.ts';

const FOLLOW_INTERVAL_MS = 1_000;

/** Path of the agent's socket from flags, environment and default. */
export function agentSocket(context: CliContext, given: { socket?: string; stateDir?: string }): string {
  const { socket, stateDir } = loadSettings(AGENT_SETTINGS, {
    flags: { socket: given.socket, stateDir: given.stateDir },
    environment: context.environment,
  }).values;
  return socket ?? `${stateDir}/agent.sock`;
}

const withSocket = (command: Command) =>
  command
    .option('--socket <path>', AGENT_SETTINGS.socket.doc)
    .option('--state-dir <path>', AGENT_SETTINGS.stateDir.doc);

interface SocketFlags {
  socket?: string;
  stateDir?: string;
}

export function statusCommand(program: Command, context: CliContext): void {
  withSocket(
    program
      .command('status')
      .description('Show tunnel, MAAS accounts and clusters of the agent on this host.'),
  ).action(async (flags: SocketFlags) => {
    const status = AgentStatusSchema.parse(
      await askAgent(agentSocket(context, flags), 'GET', '/v1/status', context.signal),
    );
    if (context.json) return context.event(status);
    context.out(
      `gateway   ${status.gateway ? `${status.gateway.name} (${status.gateway.id}), words: ${status.gateway.words}` : 'not paired: run pcg pair'}`,
    );
    context.out(`version   ${status.version}, up since ${status.startedAt}`);
    context.out(`tunnel    ${describeTunnel(status.tunnel)}`);
    for (const account of status.accounts) {
      const problem = account.problem
        ? `: ${account.problem.code} ${account.problem.message}; ${account.problem.fix}`
        : '';
      context.out(
        `maas      ${account.id} ${account.endpoint} ${account.state}${account.maasVersion ? ` (${account.maasVersion})` : ''}${problem}`,
      );
    }
    for (const cluster of status.clusters)
      context.out(
        `cluster   ${cluster.name} (${cluster.id}) ${cluster.phase} ${cluster.done}/${cluster.total} ${cluster.message}`,
      );
    context.out(
      `outbox    ${status.outbox.events} events, ${status.outbox.snapshots} snapshots waiting, ${status.outbox.dropped} dropped`,
    );
  });
}

function describeTunnel(tunnel: z.infer<typeof AgentStatusSchema>['tunnel']): string {
  switch (tunnel.state) {
    case 'unpaired':
      return 'not paired';
    case 'connecting':
      return `connecting (attempt ${tunnel.attempt}) since ${tunnel.since}`;
    case 'connected':
      return `connected since ${tunnel.since}${tunnel.rttMs === undefined ? '' : `, round trip ${Math.round(tunnel.rttMs)} ms`}`;
    case 'waiting':
      return `waiting, next attempt at ${tunnel.nextAttemptAt}: ${tunnel.cause.code} ${tunnel.cause.message}; ${tunnel.cause.fix}`;
    default:
      return tunnel satisfies never;
  }
}

const LocalClusterSchema = z.object({
  id: z.string(),
  name: z.string(),
  phase: z.string(),
  done: z.int(),
  total: z.int(),
  message: z.string(),
  status: ClusterStatusSchema.optional(),
});

export function clustersCommand(program: Command, context: CliContext): void {
  const clusters = program.command('clusters').description('Clusters as the agent on this host knows them.');
  withSocket(clusters.command('list').description('List clusters.')).action(async (flags: SocketFlags) => {
    const list = z
      .array(LocalClusterSchema)
      .parse(await askAgent(agentSocket(context, flags), 'GET', '/v1/clusters', context.signal));
    for (const cluster of list) {
      if (context.json) context.event(cluster);
      else
        context.out(
          `${cluster.id}  ${cluster.name}  ${cluster.phase}  ${cluster.done}/${cluster.total} ${cluster.message}`,
        );
    }
  });
  withSocket(
    clusters.command('show <cluster>').description('Show one cluster with its nodes and tasks.'),
  ).action(async (id: string, flags: SocketFlags) => {
    const cluster = LocalClusterSchema.parse(
      await askAgent(
        agentSocket(context, flags),
        'GET',
        `/v1/clusters/${encodeURIComponent(id)}`,
        context.signal,
      ),
    );
    if (context.json) return context.event(cluster);
    context.out(`${cluster.name} (${cluster.id}) ${cluster.phase} ${cluster.message}`);
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
  });
  withSocket(
    clusters
      .command('kubeconfig <cluster>')
      .description(
        'Print a break-glass kubeconfig: for 24 hours administrator, directly in this site, without portal.',
      ),
  ).action(async (wanted: string, flags: SocketFlags) => {
    const socket = agentSocket(context, flags);
    const list = z
      .array(LocalClusterSchema)
      .parse(await askAgent(socket, 'GET', '/v1/clusters', context.signal));
    const id = list.find((cluster) => cluster.name === wanted)?.id ?? wanted;
    const path = `/v1/clusters/${encodeURIComponent(id)}/kubeconfig`;
    const kubeconfig = z.string().parse(await askAgent(socket, 'GET', path, context.signal));
    if (context.json) context.event({ cluster: id, kubeconfig });
    else context.out(kubeconfig.trimEnd());
  });
  withSocket(
    clusters
      .command('events [cluster]')
      .description('Print events, oldest first.')
      .option('-f, --follow', 'keep printing new ones')
      .option('--limit <n>', 'how many old ones', '100'),
  ).action(async (id: string | undefined, flags: SocketFlags & { follow?: boolean; limit: string }) => {
    const socket = agentSocket(context, flags);
    let last = 0;
    for (let limit = Number(flags.limit); ; limit = 1000) {
      const query = new URLSearchParams({
        limit: String(limit),
        after: String(last),
        ...(id === undefined ? {} : { cluster: id }),
      });
      const events = z
        .array(EventSchema)
        .parse(await askAgent(socket, 'GET', `/v1/events?${query}`, context.signal));
      for (const event of events) {
        last = Math.max(last, event.seq);
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
}
