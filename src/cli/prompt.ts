/** Questions to the person at the terminal; where nobody sits, an error names the flag that answers. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import type { CliContext } from './context.ts';

export interface ConsentFlags {
  readonly yes?: boolean;
  /** false: --no-input */
  readonly input?: boolean;
  /** The name, typed. */
  readonly confirm?: string;
}

export function withConsent(command: Command): Command {
  return command.option('--yes', 'do not ask').option('--no-input', 'never ask: what is missing is an error');
}

function maySpeak(context: CliContext, flags: ConsentFlags): boolean {
  return process.stdin.isTTY === true && !context.environment['CI'] && flags.input !== false;
}

/** Is somebody there to answer? */
export function canAsk(context: CliContext, flags: ConsentFlags): boolean {
  return flags.yes === true || maySpeak(context, flags);
}

/** Throws CANCELLED on any answer but yes, INVALID_INPUT when nobody can be asked. */
export async function consent(context: CliContext, flags: ConsentFlags, question: string): Promise<void> {
  if (flags.yes === true) return;
  if (!maySpeak(context, flags))
    throw new PcgError('INVALID_INPUT', `this needs a yes: ${question}`, {
      field: '--yes',
      fix: 'Add --yes.',
    });
  const answer = await ask(context, `${question} [y/N] `);
  if (!/^y(es)?$/i.test(answer)) throw new PcgError('CANCELLED', 'not confirmed: nothing was changed');
}

/** The name of what is given up, from --confirm or typed. The portal compares it. */
export async function typedName(context: CliContext, flags: ConsentFlags, name: string): Promise<string> {
  if (flags.confirm !== undefined) return flags.confirm;
  if (!maySpeak(context, flags))
    throw new PcgError('INVALID_INPUT', 'this needs the name of the cluster, typed', {
      field: '--confirm',
      fix: `Add --confirm ${name}.`,
    });
  const answer = await ask(context, `Type ${name} to confirm: `);
  if (answer !== name) throw new PcgError('CANCELLED', 'the name does not match: nothing was changed');
  return answer;
}

async function ask(context: CliContext, question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  // The terminal is in raw mode, so Ctrl-C is a key here; to the rest of the program it is the signal.
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    return (await lines.question(question, { signal: context.signal })).trim();
  } catch (cause) {
    if (context.signal.aborted) throw cause;
    throw new PcgError('CANCELLED', 'nobody answered: nothing was changed', { cause }); // Ctrl-D
  } finally {
    lines.close();
  }
}
