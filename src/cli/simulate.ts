/** `pcg simulate`: a MAAS region, its machines and the Kubernetes that they form, for demos, tests and training. */
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import { createSteadyClock } from '../base/steady-clock.ts';
import { createLog } from '../base/log.ts';
import { createKubernetesRuntime } from '../simulator/kubernetes/runtime.ts';
import { FaultSyntaxError, faultCatalogue } from '../simulator/maas/faults.ts';
import { defaultScenario } from '../simulator/scenario.ts';
import { startSimulator } from '../simulator/simulator.ts';
import type { CliContext } from './context.ts';
import { integerOption, logLevelOption } from './options.ts';
import { untilStopped } from './portal.ts';

const MAAS_PORT = 5240;
const DEFAULT_MACHINES = 30;
/** The scenario knows two sizes of machines; above this the larger one is meant. */
const BIG_MACHINE_KB = 25;

interface SimulateOptions {
  readonly host: string;
  readonly port: number;
  readonly proxyPort: number;
  readonly machines: number;
  readonly speed: number;
  readonly seed: number;
  readonly maasVersion: string;
  readonly fault: string[];
  readonly machineSize: number;
  readonly listLatencyMs: number;
  readonly allocateLatencyMs: number;
  readonly deployLatencyMs: number;
  readonly logLevel: string;
}

export function simulateCommand(program: Command, context: CliContext): void {
  program
    .command('simulate')
    .description('Run a simulated MAAS with machines that install, boot and form Kubernetes clusters.')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <n>', 'port of MAAS; 0 = any free one', integerOption(0, 65_535), MAAS_PORT)
    .option(
      '--proxy-port <n>',
      'port of the proxy to the machine network; 0 = any free one',
      integerOption(0, 65_535),
      0,
    )
    .option('--machines <n>', 'number of machines', integerOption(1, 5_000), DEFAULT_MACHINES)
    .option('--speed <factor>', 'how many times faster than real hardware', integerOption(1, 10_000), 1)
    .option('--seed <n>', 'decides machines, faults and durations', integerOption(0, 2_147_483_647), 1)
    .option('--maas-version <version>', 'flavour: 3.3 to 3.7', '3.5')
    .option(
      '--fault <fault>',
      'name[=value][:probability-or-count][@filter], repeatable',
      (value, all: string[]) => [...all, value],
      [],
    )
    .option('--machine-size <KB>', 'JSON of one machine: about 20 or 30 KB', integerOption(20, 30), 20)
    .option(
      '--list-latency-ms <n>',
      'time that MAAS takes for each machine of a list (30 on a real one)',
      integerOption(0, 1_000),
      0,
    )
    .option(
      '--allocate-latency-ms <n>',
      'time that MAAS takes to allocate (200 on a real one)',
      integerOption(0, 60_000),
      0,
    )
    .option(
      '--deploy-latency-ms <n>',
      'time that MAAS takes to start a deployment, besides the BMC (750 on a real one)',
      integerOption(0, 60_000),
      0,
    )
    .option('--log-level <level>', 'trace, debug, info, warn, error', logLevelOption, 'info')
    .addHelpText(
      'after',
      () =>
        `\nFaults:\n${faultCatalogue()
          .map(({ name, what }) => `  ${name.padEnd(24)} ${what}`)
          .join('\n')}`,
    )
    .action(async (options: SimulateOptions) => {
      const log = createLog({ name: 'pcg-simulator', level: options.logLevel, destination: process.stderr });
      try {
        await using simulator = await startSimulator({
          scenario: defaultScenario({
            machines: options.machines,
            seed: options.seed,
            bigMachines: options.machineSize > BIG_MACHINE_KB,
          }),
          latency: {
            listedMachineMs: options.listLatencyMs,
            allocateMs: options.allocateLatencyMs,
            deployMs: options.deployLatencyMs,
          },
          host: options.host,
          port: options.port,
          proxyPort: options.proxyPort,
          speed: options.speed,
          seed: options.seed,
          version: options.maasVersion,
          faults: options.fault,
          // The simulated site stands still when its process does: no node of it is away because nobody could look.
          clock: createSteadyClock(context.clock),
          log,
          runtime: createKubernetesRuntime,
        });
        const ready = {
          maasUrl: simulator.maasUrl,
          adminKey: simulator.adminKey,
          userKey: simulator.userKey,
          machineProxyUrl: simulator.machineProxyUrl,
        };
        if (context.json) context.event({ event: 'ready', pid: process.pid, ...ready });
        else {
          context.out(
            `MAAS           ${ready.maasUrl}\nAdmin API key  ${ready.adminKey}\nUser API key   ${ready.userKey}\nMachine proxy  ${ready.machineProxyUrl}\nLedger         ${new URL('/simulator/', ready.maasUrl)}`,
          );
        }
        await untilStopped(context.signal);
      } catch (error) {
        if (error instanceof FaultSyntaxError)
          throw new PcgError('INVALID_INPUT', error.message, {
            field: '--fault',
            fix: '`pcg simulate --help` lists the faults.',
            cause: error,
          });
        if (error instanceof RangeError)
          throw new PcgError('INVALID_INPUT', error.message, { field: '--maas-version', cause: error });
        throw error;
      }
    });
}
