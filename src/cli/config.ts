/** `pcg config show|validate`: every setting with its value and where it came from. */
import type { Command } from 'commander';
import { checkSettings } from '../agent/check-settings.ts';
import { Secret } from '../base/log.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { loadSettings } from '../config/settings.ts';
import { parseApiKey } from '../maas/api-key.ts';
import { normaliseEndpoint } from '../maas/endpoint.ts';
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
      const { values } = loadSettings(AGENT_SETTINGS, {
        environment: context.environment,
        file: options.configFile,
      });
      checkSettings(values);
      if (values.maasUrl !== undefined) normaliseEndpoint(values.maasUrl);
      if (values.maasApiKey !== undefined) parseApiKey(new Secret(values.maasApiKey));
      if (context.json) context.event({ result: 'ok' });
      else context.out('ok');
    });
}
