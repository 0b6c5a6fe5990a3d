/** `pcg machines explain|quarantine`: why machines are picked, and which are not to be. */
import type { Command } from 'commander';
import { z } from 'zod';
import { PlacementReportSchema, QuarantineEntrySchema } from '../contract/api.ts';
import { type AccountFlags, agentQuestions, withAgent } from './agent-questions.ts';
import { printPlacement, readSpec } from './cluster-spec.ts';
import type { CliContext } from './context.ts';

export function machinesCommand(program: Command, context: CliContext): void {
  const { ask, account } = agentQuestions(context);
  const machines = program.command('machines').description('Placement and quarantine of MAAS machines.');
  withAgent(
    machines
      .command('explain <spec-file>')
      .description(
        'For each pool of a cluster spec (YAML): which rule rejects which machine, and the nearest fix.',
      ),
  ).action(async (path: string, flags: AccountFlags) => {
    const report = PlacementReportSchema.parse(
      await ask(flags, 'POST', `/v1/accounts/${await account(flags)}/explain`, readSpec(path)),
    );
    printPlacement(context, report);
  });
  withAgent(
    machines
      .command('quarantine [machine]')
      .description('List machines that are not picked; with a system id or host name, add or remove one.'),
  )
    .option('--reason <text>', 'why it is not to be picked')
    .option('--remove', 'let it be picked again', false)
    .action(
      async (systemId: string | undefined, flags: AccountFlags & { reason?: string; remove: boolean }) => {
        if (systemId !== undefined) {
          const path = `/v1/accounts/${await account(flags)}/quarantine`;
          if (flags.remove) await ask(flags, 'DELETE', `${path}/${encodeURIComponent(systemId)}`);
          else await ask(flags, 'POST', path, { systemId, reason: flags.reason ?? 'by hand' });
        }
        for (const entry of z.array(QuarantineEntrySchema).parse(await ask(flags, 'GET', '/v1/quarantine'))) {
          if (context.json) context.event(entry);
          else context.out(`${entry.systemId}  ${entry.hostname}  until ${entry.until}  ${entry.reason}`);
        }
      },
    );
}
