#!/usr/bin/env node
/**
 * The one command `pcg`. The only file that reads argv, environment and signals and that sets the exit code:
 * the first SIGINT or SIGTERM stops gracefully, the second ends at once.
 */
import { Command, CommanderError } from 'commander';
import { systemClock } from './base/clock.ts';
import { agentCommand } from './cli/agent.ts';
import { configCommand } from './cli/config.ts';
import { type CliContext, formatError } from './cli/context.ts';
import { demoCommand } from './cli/demo.ts';
import { exitCodeOf, SignalError } from './cli/exit-codes.ts';
import { machinesCommand } from './cli/machines.ts';
import { pairCommand } from './cli/pair.ts';
import { portalCommand } from './cli/portal.ts';
import { simulateCommand } from './cli/simulate.ts';
import { clustersCommand, statusCommand } from './cli/status.ts';
import { HELP_TOPICS, packageVersion, versionCommand } from './cli/version.ts';

const argv = process.argv.slice(2);
const flag = (...names: string[]) => names.some((name) => argv.includes(name));

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted) {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
    stop.abort(new SignalError(signal));
  });
}
// A reader that went away (`pcg ... | head`) is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

const context = createContext();
const program = new Command('pcg');
program
  .description(
    'Private cloud gateway for Canonical MAAS: bare-metal Kubernetes clusters through one outbound WebSocket.',
  )
  .version(packageVersion())
  .option('--json', 'one JSON object a line on stdout')
  .option('--quiet', 'no messages, data only')
  .option('--verbose', 'causes and stack traces of errors')
  .option('--no-color', 'plain text')
  .helpCommand(false)
  .showSuggestionAfterError()
  .exitOverride();
for (const register of [
  demoCommand,
  agentCommand,
  portalCommand,
  simulateCommand,
  pairCommand,
  statusCommand,
  clustersCommand,
  machinesCommand,
  configCommand,
  versionCommand,
]) {
  register(program, context);
}
program
  .command('help [topic]')
  .description('Help for a command, or the topics exit-codes and environment.')
  .action((topic: string | undefined) => {
    const table = topic === undefined ? undefined : HELP_TOPICS[topic];
    if (table) return table(context);
    const command = program.commands.find((candidate) => candidate.name() === topic) ?? program;
    context.out(command.helpInformation());
  });

/** Global flags may stand anywhere: before or after the command. */
const GLOBAL_FLAGS = new Set(['--json', '--quiet', '--verbose', '--no-color']);

try {
  await program.parseAsync(
    argv.filter((word) => !GLOBAL_FLAGS.has(word)),
    { from: 'user' },
  );
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    process.exitCode = exitCodeOf(stop.signal.aborted ? stop.signal.reason : error);
    if (!stop.signal.aborted) process.stderr.write(`${formatError(error, context.verbose)}\n`);
  }
}

function createContext(): CliContext {
  const environment = process.env;
  const terminal = process.stderr.isTTY && environment['TERM'] !== 'dumb';
  const quiet = flag('--quiet');
  let drawn = 0;
  return {
    clock: systemClock,
    environment,
    signal: stop.signal,
    json: flag('--json'),
    quiet,
    verbose: flag('--verbose'),
    color: terminal && !environment['NO_COLOR'] && !flag('--no-color'),
    interactive: terminal,
    out: (text) => void process.stdout.write(`${text}\n`),
    event: (event) => void process.stdout.write(`${JSON.stringify(event)}\n`),
    say: (text) => {
      drawn = 0;
      if (!quiet) process.stderr.write(`${text}\n`);
    },
    draw: (lines) => {
      if (quiet || !terminal) return;
      const up = drawn > 0 ? `\u001b[${drawn}A\u001b[0J` : '';
      process.stderr.write(`${up}${lines.join('\n')}\n`);
      drawn = lines.length;
    },
  };
}
