#!/usr/bin/env -S node --max-semi-space-size=1 --initial-old-space-size=64
/**
 * The one command `pcg`. The only file that reads argv, environment and signals and that sets the exit code:
 * the first SIGINT or SIGTERM stops gracefully, the second ends at once; SIGHUP means what the command says.
 */
import { Command, CommanderError } from 'commander';
import { systemClock } from './base/clock.ts';
import { type CliContext, formatError } from './cli/context.ts';
import { exitCodeOf, SignalError } from './cli/exit-codes.ts';
import { holdLifeline } from './cli/lifeline.ts';

type Register = (program: Command, context: CliContext) => void;

/** Each command's room is loaded only when it is called: `pcg status` does not wait for the portal's code. */
const COMMANDS: Record<string, () => Promise<Register>> = {
  demo: async () => (await import('./cli/demo.ts')).demoCommand,
  agent: async () => (await import('./cli/agent.ts')).agentCommand,
  portal: async () => (await import('./cli/portal.ts')).portalCommand,
  simulate: async () => (await import('./cli/simulate.ts')).simulateCommand,
  pair: async () => (await import('./cli/pair.ts')).pairCommand,
  status: async () => (await import('./cli/status.ts')).statusCommand,
  clusters: async () => (await import('./cli/clusters.ts')).clustersCommand,
  machines: async () => (await import('./cli/machines.ts')).machinesCommand,
  queue: async () => (await import('./cli/queue.ts')).queueCommand,
  orphans: async () => (await import('./cli/orphans.ts')).orphansCommand,
  doctor: async () => (await import('./cli/doctor.ts')).doctorCommand,
  config: async () => (await import('./cli/config.ts')).configCommand,
  version: async () => (await import('./cli/version.ts')).versionCommand,
  help: async () => (await import('./cli/help.ts')).helpCommand,
};

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
holdLifeline(process.env, systemClock, () => stop.abort(new SignalError('SIGTERM')));
// A reader that went away (`pcg ... | head`) is no failure of ours, but what follows events for ever has no more to do.
const readerGone = new Error('nobody reads the output any more');
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  stop.abort(readerGone);
});

const context = createContext();
const program = new Command('pcg');
program
  .description(
    'Private cloud gateway for Canonical MAAS: bare-metal Kubernetes clusters through one outbound WebSocket.',
  )
  .option('--json', 'one JSON object a line on stdout')
  .option('--quiet', 'no messages, data only')
  .option('--verbose', 'causes and stack traces of errors')
  .option('--no-color', 'plain text')
  .helpCommand(false)
  .showSuggestionAfterError()
  .exitOverride();

/** Global flags may stand anywhere: before or after the command. */
const GLOBAL_FLAGS = new Set(['--json', '--quiet', '--verbose', '--no-color']);

try {
  const words = argv.filter((word) => !GLOBAL_FLAGS.has(word));
  const load = COMMANDS[words[0] ?? ''];
  // Without a known command everything is loaded: the list of commands, and the nearest name of a mistyped one.
  const wanted = load && words[0] !== 'help' ? [load] : Object.values(COMMANDS);
  for (const register of await Promise.all(wanted.map((one) => one()))) register(program, context);
  if (words.length === 0) context.out(program.helpInformation());
  else await program.parseAsync(words[0] === '--version' ? ['version'] : words, { from: 'user' });
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else if (stop.signal.reason !== readerGone) {
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
    onHangup(run) {
      process.on('SIGHUP', run);
      return { [Symbol.dispose]: () => void process.off('SIGHUP', run) };
    },
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
