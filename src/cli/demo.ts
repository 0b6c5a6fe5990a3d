/**
 * `pcg demo`: the whole product on one laptop. Portal, simulator and agent run as separate processes; the
 * agent is paired with a one-time code, a cluster is created through the portal's API and watched live.
 * The agent is restarted when it dies, as systemd would; with --once the cluster is deleted again and the
 * simulator's own ledger must show that no machine was lost.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import { type Cluster, ClusterSchema, type ClusterSpecInput } from '../contract/cluster.ts';
import { DEFAULT_PROFILE } from '../contract/default-profile.ts';
import { PairingCodeSchema } from '../contract/pairing.ts';
import type { CliContext } from './context.ts';
import { type ClusterWatch, watchCluster } from './cluster-watch.ts';
import { waitForAccount } from './demo-account.ts';
import { integerOption } from './options.ts';
import { untilStopped } from './portal.ts';
import { PortalClient } from './portal-client.ts';
import { type Program, startProgram } from './programs.ts';
import { superviseAgent } from './demo-agent.ts';
import { readLedger, readStats } from './simulator-client.ts';

const DEFAULT_MACHINES = 30;
const DEFAULT_SPEED = 100;
/** Generous: the default run takes well under half a minute. */
const PROVISION_TIMEOUT_MS = 1_800_000;
/**
 * The gateway's deadlines shrink this much less than the simulated hardware does: what it waits for also takes the time of
 * processes, of which a busy machine takes several times as much.
 */
const PATIENCE = 4;
const ADMIN_EMAIL = 'admin@demo.local';

interface DemoOptions {
  readonly once: boolean;
  readonly machines: number;
  readonly controlPlane: number;
  readonly workers: number;
  readonly speed: number;
  readonly port: number;
  readonly fault: string[];
  readonly stateDir: string | undefined;
}

export function demoCommand(program: Command, context: CliContext): void {
  program
    .command('demo')
    .description('Run portal, simulated MAAS and gateway agent here, pair them and provision a cluster.')
    .option('--once', 'delete the cluster again, check that every machine is Ready, and exit', false)
    .option('--machines <n>', 'machines in the simulated MAAS', integerOption(1, 2000), DEFAULT_MACHINES)
    .option('--control-plane <1|3|5>', 'control-plane nodes', integerOption(1, 5), 3)
    .option('--workers <n>', 'worker nodes', integerOption(0, 1000), 3)
    .option(
      '--speed <factor>',
      'how many times faster than real hardware',
      integerOption(1, 1000),
      DEFAULT_SPEED,
    )
    .option('--port <n>', 'port of the portal; 0 = any free one', integerOption(0, 65_535), 0)
    .option(
      '--fault <name>',
      'a fault of the simulator, repeatable (see pcg simulate --help)',
      (value, all: string[]) => [...all, value],
      [],
    )
    .option(
      '--state-dir <path>',
      'keep state and logs in a new directory below (default: a temporary one, removed at the end)',
    )
    .action((options: DemoOptions) => runDemo(options, context));
}

/** A connection may break some time before its process is seen to be gone. */
const EXIT_NOTICE_MS = 500;

/** The agent may die as often as it likes; without the portal or the simulator there is nothing to watch. */
async function runDemo(options: DemoOptions, outer: CliContext): Promise<void> {
  const broken = new AbortController();
  const context = { ...outer, signal: AbortSignal.any([outer.signal, broken.signal]) };
  await using stack = new AsyncDisposableStack();
  try {
    await playDemo(options, context, broken, stack);
  } catch (error) {
    if (!context.signal.aborted) await outer.clock.sleep(EXIT_NOTICE_MS, context.signal).catch(() => {});
    // Why it broke explains more than what broke first because of it. Asked before anything is taken down,
    // since then every program ends.
    throw broken.signal.aborted ? broken.signal.reason : error;
  }
}

async function playDemo(
  options: DemoOptions,
  context: CliContext,
  broken: AbortController,
  stack: AsyncDisposableStack,
): Promise<void> {
  const started = context.clock.monotonic();
  const parent = options.stateDir ?? tmpdir();
  mkdirSync(parent, { recursive: true });
  const directory = mkdtempSync(join(parent, 'pcg-demo-'));
  if (options.stateDir === undefined) stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  context.say(`Logs and state: ${directory}`);

  const simulator = stack.use(
    await launch(context, directory, broken, 'simulator', simulatorArguments(options)),
  );
  const maasUrl = field(simulator, 'maasUrl');
  const portal = stack.use(
    await launch(context, directory, broken, 'portal', [
      'portal',
      '--json',
      '--port',
      String(options.port),
      '--store',
      join(directory, 'portal.db'),
      '--admin-email',
      ADMIN_EMAIL,
    ]),
  );
  const portalUrl = field(portal, 'url');
  const password = field(portal, 'password');
  const shown = { url: portalUrl, email: ADMIN_EMAIL, password };
  announce(context, { event: 'portal', ...shown }, signInText(shown));
  const client = stack.use(new PortalClient(portalUrl, context.clock));
  await client.signIn(ADMIN_EMAIL, password, context.signal);

  const code = PairingCodeSchema.parse(
    await client.call('POST', '/api/v1/pairing-codes', { gatewayName: 'demo' }, context.signal),
  );
  const agent = stack.use(
    await superviseAgent({
      context,
      directory,
      portalUrl,
      pairingCode: code.code,
      environment: {
        PCG_MAAS_URL: maasUrl,
        PCG_MAAS_API_KEY: field(simulator, 'adminKey'),
        PCG_MACHINE_PROXY: field(simulator, 'machineProxyUrl'),
        PCG_SIMULATED_SPEED: String(Math.max(1, Math.round(options.speed / PATIENCE))),
        PCG_POLL_ACTIVE_MS: String(Math.max(100, Math.round(10_000 / options.speed))),
        PCG_POLL_IDLE_MS: String(Math.max(1_000, Math.round(60_000 / options.speed))),
      },
    }),
  );
  const account = await waitForAccount(client, context);
  context.say(
    `Paired ${agent.gatewayName}; the simulated MAAS answers, its ledger is at ${new URL('/simulator/', maasUrl)}`,
  );

  const provisioningStarted = context.clock.monotonic();
  const cluster = ClusterSchema.parse(
    await client.call('POST', '/api/v1/clusters', { spec: clusterSpec(account, options) }, context.signal),
  );
  announce(
    context,
    { event: 'cluster', cluster: cluster.id, name: cluster.spec.name, phase: 'Pending' },
    `Cluster ${cluster.spec.name} (${cluster.id}) requested: ${options.controlPlane} control-plane, ${options.workers} worker nodes.`,
  );
  const watch = {
    client,
    context,
    clusterId: cluster.id,
    timeoutMs: PROVISION_TIMEOUT_MS,
    after: 0,
  } satisfies ClusterWatch;
  const { after } = await watchCluster(watch, 'Running');
  const durationMs = Math.round(context.clock.monotonic() - provisioningStarted);

  announce(
    context,
    { event: 'running', cluster: cluster.id, durationMs, ...shown },
    `\nCluster is Running after ${(durationMs / 1000).toFixed(1)} s.\n${signInText(shown)}`,
  );
  if (!options.once) {
    context.say('Running until Ctrl-C.');
    await untilStopped(context.signal);
    broken.signal.throwIfAborted();
  } else {
    await client.call(
      'POST',
      `/api/v1/clusters/${cluster.id}/delete`,
      { confirm: cluster.spec.name },
      context.signal,
    );
    await watchCluster({ ...watch, after }, 'Deleted');
    const ledger = await readLedger(maasUrl, context.signal);
    const lost = [ledger.leaked, ledger.leakedAddresses, ledger.doublyAllocated, ledger.sharedAgentNames];
    if (lost.some((list) => list.length > 0)) {
      throw new PcgError('INTERNAL', 'the simulator still counts machines of the deleted cluster as taken', {
        details: { report: ledger },
      });
    }
    context.say('Deleted; every machine is Ready again.');
  }
  const { requests } = await readStats(maasUrl, new AbortController().signal);
  report(context, cluster, {
    durationMs,
    totalMs: Math.round(context.clock.monotonic() - started),
    maasRequests: requests,
    agentRestarts: agent.restarts(),
  });
}

function simulatorArguments(options: DemoOptions): string[] {
  const faults = options.fault.flatMap((fault) => ['--fault', fault]);
  return [
    'simulate',
    '--json',
    '--port',
    '0',
    '--machines',
    String(options.machines),
    '--speed',
    String(options.speed),
    ...faults,
  ];
}

async function launch(
  context: CliContext,
  directory: string,
  broken: AbortController,
  name: string,
  args: string[],
): Promise<Program> {
  const logFile = join(directory, `${name}.log`);
  const program = await startProgram({
    name,
    args,
    environment: context.environment,
    logFile,
    clock: context.clock,
    signal: context.signal,
  });
  // Its own end at the end of the demo comes too late to be an abort of anything.
  void program.exited.then(({ code, signal }) =>
    broken.abort(
      new PcgError('TEMPORARY', `the ${name} of the demo has ended (${signal ?? `exit code ${code}`})`, {
        fix: `Start the demo again with --state-dir to keep its log, ${name}.log.`,
      }),
    ),
  );
  announce(
    context,
    { event: 'process', name, pid: program.pid, log: logFile },
    `Started ${name} (pid ${program.pid}).`,
  );
  return program;
}

function field(program: Program, name: string): string {
  const value = program.ready[name];
  if (typeof value !== 'string') throw new PcgError('INTERNAL', `${program.name} did not say its ${name}`);
  return value;
}

function clusterSpec(cloudAccount: string, options: DemoOptions): ClusterSpecInput {
  const placement = { resourcePool: 'kubernetes', zones: [], minCpu: 4, minMemoryMiB: 8192, minDiskGb: 60 };
  return {
    name: 'demo',
    cloudAccount,
    profile: DEFAULT_PROFILE.id,
    pools: [
      { name: 'control', role: 'control-plane', size: options.controlPlane as 1 | 3 | 5, placement },
      { name: 'workers', role: 'worker', size: options.workers, placement },
    ],
  };
}

function signInText({ url, email, password }: { url: string; email: string; password: string }): string {
  return `\n  Page      ${url}\n  Sign in   ${email} / ${password}\n`;
}

function announce(context: CliContext, event: Record<string, unknown>, text: string): void {
  if (context.json) context.event({ time: new Date(context.clock.now()).toISOString(), ...event });
  context.say(text);
}

function report(context: CliContext, cluster: Cluster, numbers: Record<string, number>): void {
  if (context.json)
    context.event({ result: 'ok', cluster: cluster.spec.name, clusterId: cluster.id, ...numbers });
  else
    context.out(
      `ok: cluster ${cluster.spec.name}, ${((numbers['durationMs'] ?? 0) / 1000).toFixed(1)} s to Running, ${numbers['maasRequests']} MAAS requests`,
    );
}
