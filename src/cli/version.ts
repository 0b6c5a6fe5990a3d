/** `pcg version`. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { CliContext } from './context.ts';

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
