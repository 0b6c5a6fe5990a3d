/** `pcg version` and the help topics that are tables. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import type { CliContext } from './context.ts';
import { EXIT_CODES } from './exit-codes.ts';

/** Version of this package. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

export function versionCommand(program: Command, context: CliContext): void {
  program
    .command('version')
    .description('Print the version.')
    .action(() => {
      const versions = { version: packageVersion(), node: process.version };
      if (context.json) context.event(versions);
      else context.out(`pcg ${versions.version} (node ${versions.node})`);
    });
}

export const HELP_TOPICS: Record<string, (context: CliContext) => void> = {
  'exit-codes': (context) => {
    for (const { code, meaning } of EXIT_CODES) {
      if (context.json) context.event({ code, meaning });
      else context.out(`${String(code).padStart(4)}  ${meaning}`);
    }
  },
  environment: (context) => {
    for (const [key, setting] of Object.entries(AGENT_SETTINGS)) {
      if (context.json) context.event({ variable: setting.env, setting: key, doc: setting.doc });
      else context.out(`${setting.env.padEnd(24)} ${setting.doc}`);
    }
  },
};
