/** `pcg machines quarantine|explain` and `pcg orphans`: machines that are not picked, and machines nobody claims. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { PcgError } from '../base/errors.ts';
import {
  AgentStatusSchema,
  OrphanSchema,
  PlacementReportSchema,
  QuarantineEntrySchema,
} from '../contract/api.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import type { CliContext } from './context.ts';
import { askAgent } from './local-client.ts';
import { agentSocket } from './status.ts';

interface Flags {
  readonly socket?: string;
  readonly stateDir?: string;
  readonly account?: string;
}

export function machinesCommand(program: Command, context: CliContext): void {
  const withAgent = (command: Command) =>
    command
      .option('--socket <path>', AGENT_SETTINGS.socket.doc)
      .option('--state-dir <path>', AGENT_SETTINGS.stateDir.doc)
      .option('--account <id>', 'cloud account; default: the only one');
  const ask = (flags: Flags, method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown) =>
    askAgent(agentSocket(context, flags), method, path, context.signal, body);
  const account = async (flags: Flags): Promise<string> => {
    if (flags.account !== undefined) return flags.account;
    const { accounts } = AgentStatusSchema.parse(await ask(flags, 'GET', '/v1/status'));
    const [only] = accounts;
    if (accounts.length === 1 && only) return only.id;
    throw new PcgError('INVALID_INPUT', `there are ${accounts.length} cloud accounts`, {
      field: '--account',
      fix: `Name one: ${accounts.map(({ id }) => id).join(', ')}`,
    });
  };

  const machines = program.command('machines').description('Placement and quarantine of MAAS machines.');
  withAgent(
    machines
      .command('explain <spec-file>')
      .description(
        'For each pool of a cluster spec (YAML): which rule rejects which machine, and the nearest fix.',
      ),
  ).action(async (path: string, flags: Flags) => {
    const report = PlacementReportSchema.parse(
      await ask(flags, 'POST', `/v1/accounts/${await account(flags)}/explain`, readSpec(path)),
    );
    if (context.json) return context.event(report);
    for (const pool of report.pools) {
      context.out(`${pool.pool}: wants ${pool.wanted}, ${pool.matching} machines match`);
      for (const { rule, count, example } of pool.rejections)
        context.out(`  ${rule} rejects ${count}, e.g. ${example}`);
      if (pool.nearestFix !== undefined) context.out(`  nearest fix: ${pool.nearestFix}`);
    }
    for (const problem of report.problems) context.out(`${problem.code}: ${problem.message}; ${problem.fix}`);
  });
  withAgent(
    machines
      .command('quarantine [system-id]')
      .description('List machines that are not picked; with a system id, add or remove one.'),
  )
    .option('--reason <text>', 'why it is not to be picked')
    .option('--remove', 'let it be picked again', false)
    .action(async (systemId: string | undefined, flags: Flags & { reason?: string; remove: boolean }) => {
      if (systemId !== undefined) {
        const path = `/v1/accounts/${await account(flags)}/quarantine`;
        if (flags.remove) await ask(flags, 'DELETE', `${path}/${encodeURIComponent(systemId)}`);
        else await ask(flags, 'POST', path, { systemId, reason: flags.reason ?? 'by hand' });
      }
      for (const entry of z.array(QuarantineEntrySchema).parse(await ask(flags, 'GET', '/v1/quarantine'))) {
        if (context.json) context.event(entry);
        else context.out(`${entry.systemId}  ${entry.hostname}  until ${entry.until}  ${entry.reason}`);
      }
    });
  withAgent(
    program
      .command('orphans')
      .description('Machines in MAAS that this gateway or its user holds and no cluster claims.'),
  )
    .option('--release <system-id>', "release one that carries this gateway's stamp")
    .action(async (flags: Flags & { release?: string }) => {
      const path = `/v1/accounts/${await account(flags)}/orphans`;
      if (flags.release !== undefined)
        await ask(flags, 'POST', `${path}/${encodeURIComponent(flags.release)}/release`);
      for (const orphan of z.array(OrphanSchema).parse(await ask(flags, 'GET', path))) {
        if (context.json) context.event(orphan);
        else context.out(`${orphan.systemId}  ${orphan.hostname}  ${orphan.status}  ${orphan.reason}`);
      }
    });
}

function readSpec(path: string): unknown {
  try {
    return parseYaml(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new PcgError('INVALID_INPUT', `cannot read ${path} as YAML`, { field: 'spec-file', cause });
  }
}
