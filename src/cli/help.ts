/** `pcg help`: of a command, or one of the topics that are tables. */
import type { Command } from 'commander';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { CLIENT_SETTINGS, PAIR_SETTINGS, PORTAL_SETTINGS } from '../config/portal-settings.ts';
import { nearest, type SettingDefinitions } from '../config/settings.ts';
import { PcgError } from '../base/errors.ts';
import type { CliContext } from './context.ts';
import { EXIT_CODES } from './exit-codes.ts';

export function helpCommand(program: Command, context: CliContext): void {
  program
    .command('help [topic]')
    .description('Help for a command, or the topics exit-codes and environment.')
    .action((topic: string | undefined) => {
      const table = topic === undefined ? undefined : TOPICS[topic];
      if (table) return table(context);
      if (topic === undefined) return context.out(program.helpInformation());
      const command = program.commands.find((candidate) => candidate.name() === topic);
      if (command) return context.out(command.helpInformation());
      const known = [...program.commands.map((candidate) => candidate.name()), ...Object.keys(TOPICS)];
      const near = nearest(topic, known);
      throw new PcgError('INVALID_INPUT', `there is no command or topic "${topic}"`, {
        field: 'topic',
        fix: near === undefined ? '`pcg help` lists the commands.' : `Did you mean "${near}"?`,
      });
    });
}

const TOPICS: Record<string, (context: CliContext) => void> = {
  'exit-codes': (context) => {
    for (const { code, meaning } of EXIT_CODES) {
      if (context.json) context.event({ code, meaning });
      else context.out(`${String(code).padStart(4)}  ${meaning}`);
    }
  },
  environment: (context) => {
    for (const [program, settings] of Object.entries(PROGRAMS)) {
      if (!context.json) context.out(`${program}:`);
      for (const [setting, { env, doc, format }] of Object.entries(settings)) {
        const file = format === 'secret' ? `${env}_FILE` : undefined;
        if (context.json) context.event({ program, variable: env, file, setting, doc });
        else
          context.out(
            `  ${env.padEnd(24)} ${doc}${file && !doc.includes(file) ? ` Or in a file: ${file}.` : ''}`,
          );
      }
    }
  },
};

const PROGRAMS: Record<string, SettingDefinitions> = {
  agent: AGENT_SETTINGS,
  pair: PAIR_SETTINGS,
  portal: PORTAL_SETTINGS,
  clusters: CLIENT_SETTINGS,
};
