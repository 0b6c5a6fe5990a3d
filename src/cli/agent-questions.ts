/** What commands that ask the agent about a cloud account share: socket, account, one question. */
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import { AgentStatusSchema } from '../contract/api.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import type { CliContext } from './context.ts';
import { askAgent } from './local-client.ts';
import { agentSocket } from './status.ts';

export interface AccountFlags {
  readonly socket?: string;
  readonly stateDir?: string;
  readonly account?: string;
}

export function withAgent(command: Command): Command {
  return command
    .option('--socket <path>', AGENT_SETTINGS.socket.doc)
    .option('--state-dir <path>', AGENT_SETTINGS.stateDir.doc)
    .option('--account <id>', 'cloud account; default: the only one');
}

export function agentQuestions(context: CliContext) {
  const ask = (flags: AccountFlags, method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown) =>
    askAgent(agentSocket(context, flags), method, path, context.signal, body);
  /** The account that was named, or the only one. */
  const account = async (flags: AccountFlags): Promise<string> => {
    if (flags.account !== undefined) return flags.account;
    const { accounts } = AgentStatusSchema.parse(await ask(flags, 'GET', '/v1/status'));
    const [only] = accounts;
    if (accounts.length === 1 && only) return only.id;
    throw new PcgError('INVALID_INPUT', `there are ${accounts.length} cloud accounts`, {
      field: '--account',
      fix: `Name one: ${accounts.map(({ id }) => id).join(', ')}`,
    });
  };
  return { ask, account };
}
