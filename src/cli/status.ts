/** `pcg status`: what the agent on this host knows, asked over its unix socket. */
import type { Command } from 'commander';
import type { z } from 'zod';
import { AgentStatusSchema } from '../contract/api.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { loadSettings } from '../config/settings.ts';
import type { CliContext } from './context.ts';
import { askAgent } from './local-client.ts';

/** Path of the agent's socket from flags, environment and default. */
export function agentSocket(context: CliContext, given: { socket?: string; stateDir?: string }): string {
  const { socket, stateDir } = loadSettings(AGENT_SETTINGS, {
    flags: { socket: given.socket, stateDir: given.stateDir },
    environment: context.environment,
  }).values;
  return socket ?? `${stateDir}/agent.sock`;
}

export const withSocket = (command: Command) =>
  command
    .option('--socket <path>', AGENT_SETTINGS.socket.doc)
    .option('--state-dir <path>', AGENT_SETTINGS.stateDir.doc);

export interface SocketFlags {
  readonly socket?: string;
  readonly stateDir?: string;
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
    if (status.held)
      context.out(
        `held      clusters are left alone since ${status.held.since}, until the portal is heard or ${status.held.until}: the store may be a restored backup`,
      );
    if (status.queue)
      context.out(`queue     new clusters wait since ${status.queue.since}: ${status.queue.reason}`);
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
