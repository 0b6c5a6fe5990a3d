/** `pcg config show|validate`: every setting with its value and where it came from. */
import type { Command } from 'commander';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { loadSettings } from '../config/settings.ts';
import type { CliContext } from './context.ts';

export function configCommand(program: Command, context: CliContext): void {
  const config = program
    .command('config')
    .description('Settings of the agent: flag > environment > file > default.');
  config
    .command('show')
    .description('Print each setting with its origin; secrets are hidden.')
    .option('-c, --config-file <path>', 'YAML file with settings')
    .action((options: { configFile?: string }) => {
      const loaded = loadSettings(AGENT_SETTINGS, {
        environment: context.environment,
        file: options.configFile,
      });
      for (const line of loaded.describe()) {
        if (context.json) context.event(line);
        else context.out(`${line.key.padEnd(16)} ${line.value.padEnd(40)} ${line.origin}`);
      }
    });
  config
    .command('validate')
    .description('Check the settings; exit code 78 names the first wrong one.')
    .option('-c, --config-file <path>', 'YAML file with settings')
    .action((options: { configFile?: string }) => {
      loadSettings(AGENT_SETTINGS, { environment: context.environment, file: options.configFile });
      if (context.json) context.event({ result: 'ok' });
      else context.out('ok');
    });
}
