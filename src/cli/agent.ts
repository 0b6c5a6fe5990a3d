/** `pcg agent`: the gateway itself. Composition root: settings -> store -> agent; ends when the signal aborts. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { startAgent } from '../agent/agent.ts';
import { createLog } from '../base/log.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { loadSettings } from '../config/settings.ts';
import type { CliContext } from './context.ts';
import { packageVersion } from './version.ts';

export function agentCommand(program: Command, context: CliContext): void {
  program
    .command('agent')
    .description('Run the gateway agent: hold the tunnel to the portal and manage clusters on MAAS.')
    .option('-c, --config-file <path>', 'YAML file with settings')
    .option('--state-dir <path>', AGENT_SETTINGS.stateDir.doc)
    .option('--socket <path>', AGENT_SETTINGS.socket.doc)
    .option('--listen <host:port>', AGENT_SETTINGS.listen.doc)
    .option('--maas-url <url>', AGENT_SETTINGS.maasUrl.doc)
    .option('--log-level <level>', AGENT_SETTINGS.logLevel.doc)
    .addHelpText('after', '\nEvery setting has an environment variable: see `pcg help environment`.')
    .action(async (options: Record<string, string | undefined>) => {
      const { configFile, ...flags } = options;
      const settings = loadSettings(AGENT_SETTINGS, {
        flags,
        environment: context.environment,
        file: configFile,
      }).values;
      const log = createLog({ name: 'pcg-agent', level: settings.logLevel });
      await using agent = await startAgent({
        settings,
        clock: context.clock,
        log,
        environment: context.environment,
        hostname: hostname(),
        version: packageVersion(),
      });
      if (context.json)
        context.event({
          event: 'ready',
          pid: process.pid,
          socket: agent.socketPath,
          health: agent.healthUrl,
        });
      await agent.run(context.signal);
    });
}
