/** `pcg orphans`: machines in MAAS that nobody claims, and their release. */
import type { Command } from 'commander';
import { z } from 'zod';
import { OrphanSchema } from '../contract/api.ts';
import { type AccountFlags, agentQuestions, withAgent } from './agent-questions.ts';
import type { CliContext } from './context.ts';

export function orphansCommand(program: Command, context: CliContext): void {
  const { ask, account } = agentQuestions(context);
  withAgent(
    program
      .command('orphans')
      .description('Machines in MAAS that this gateway or its user holds and no cluster claims.'),
  )
    .option('--release <system-id>', "release one that carries this gateway's stamp")
    .action(async (flags: AccountFlags & { release?: string }) => {
      const path = `/v1/accounts/${await account(flags)}/orphans`;
      if (flags.release !== undefined)
        await ask(flags, 'POST', `${path}/${encodeURIComponent(flags.release)}/release`);
      for (const orphan of z.array(OrphanSchema).parse(await ask(flags, 'GET', path))) {
        if (context.json) context.event(orphan);
        else context.out(`${orphan.systemId}  ${orphan.hostname}  ${orphan.status}  ${orphan.reason}`);
      }
    });
}
