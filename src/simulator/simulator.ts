/**
 * The whole simulated site: MAAS, the machine network with its proxy, and whatever the machines run
 * (given as a MachineRuntime). One call starts it, disposing it stops everything.
 */
import type { Clock } from '../base/clock.ts';
import { systemClock } from '../base/clock.ts';
import { type Log, silentLog } from '../base/log.ts';
import { createControl } from './maas/control.ts';
import { type FaultRule, Faults, parseFault } from './maas/faults.ts';
import type { Ledger } from './maas/ledger.ts';
import { MachineLife } from './maas/life.ts';
import { MachineCache } from './maas/machine-cache.ts';
import { populate } from './maas/populate.ts';
import { Region } from './maas/region.ts';
import { MaasServer, type RequestStats } from './maas/server.ts';
import type { Latency, Site } from './maas/site.ts';
import { DEFAULT_VERSION, flavourOf } from './maas/version.ts';
import { startMachineProxy } from './machine-proxy.ts';
import { createSiteNetwork } from './network.ts';
import { createPace } from './pace.ts';
import type { MachineRuntime, Pace, SiteNetwork } from './ports.ts';
import { defaultScenario, type Scenario } from './scenario.ts';

/** A region's own: 4 workers with 4 slots each. */
const REAL_SLOTS = 16;

export interface SimulatorOptions {
  readonly scenario?: Scenario;
  readonly host?: string;
  /** 0 picks a free one. */
  readonly port?: number;
  readonly proxyPort?: number;
  /** 1 is real time; 60 makes a ten-minute installation ten seconds. */
  readonly speed?: number;
  /** As on the command line: `lost-reply:0.05`. Throws FaultSyntaxError. */
  readonly faults?: readonly string[];
  /** `3.3` to `3.7`, or with a patch level. */
  readonly version?: string;
  readonly slots?: number;
  /** How long an idle connection lives; 65 s as in MAAS's nginx unless a test is impatient. */
  readonly keepAliveMs?: number;
  readonly latency?: Latency;
  readonly clock?: Clock;
  readonly log?: Log;
  /** Decides faults and durations; the scenario has its own. */
  readonly seed?: number;
  /** What deployed machines do; given the network and pace that it shares with MAAS. Default: nothing. */
  readonly runtime?:
    | MachineRuntime
    | ((site: { network: SiteNetwork; pace: Pace; clock: Clock; log: Log }) => MachineRuntime);
}

export interface Simulator extends AsyncDisposable {
  /** `http://127.0.0.1:port/MAAS` */
  readonly maasUrl: string;
  /** `consumer:token:secret` of the first admin. */
  readonly adminKey: string;
  /** Of the first user without admin rights; empty when there is none. */
  readonly userKey: string;
  readonly machineProxyUrl: string;
  readonly network: SiteNetwork;
  readonly ledger: Ledger;
  readonly faults: Faults;
  readonly region: Region;
  stats(): RequestStats;
}

const idleRuntime: MachineRuntime = { boot() {}, stop() {} };

function keyOf(region: Region, admin: boolean): string {
  const user = [...region.users.values()].find((one) => one.admin === admin);
  const token = region.tokens.find((one) => one.username === user?.username);
  return token ? `${token.consumer}:${token.key}:${token.secret}` : '';
}

export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const clock = options.clock ?? systemClock;
  const log = options.log ?? silentLog;
  const host = options.host ?? '127.0.0.1';
  const scenario = options.scenario ?? defaultScenario();
  const seed = options.seed ?? scenario.seed;
  const rules: FaultRule[] = (options.faults ?? []).map(parseFault);

  const pace = createPace(clock, options.speed ?? 1);
  const network = createSiteNetwork();
  const region = new Region(scenario, flavourOf(options.version ?? DEFAULT_VERSION), clock);
  populate(region, scenario);
  const faults = new Faults(seed, rules);
  const runtime =
    typeof options.runtime === 'function'
      ? options.runtime({ network, pace, clock, log })
      : (options.runtime ?? idleRuntime);
  const cache = new MachineCache(region);

  await using building = new AsyncDisposableStack();
  const life = building.use(new MachineLife({ region, pace, runtime, network, faults, log, seed }));
  const site: Site = {
    life,
    faults,
    cache,
    latency: options.latency ?? {},
    allocating: { turn: Promise.resolve() },
    wait: (ms) => (ms > 0 ? clock.sleep(ms) : Promise.resolve()),
  };
  const proxy = building.use(await startMachineProxy(network, { host, port: options.proxyPort ?? 0 }));
  let server: MaasServer | undefined;
  const stats = (): RequestStats => {
    if (!server) throw new Error('the server has not started');
    return server.stats();
  };
  const control = createControl({ region, life, faults, stats, changed: () => cache.forgetAll() });
  server = building.use(
    await MaasServer.start({
      host,
      port: options.port ?? 0,
      region,
      site,
      faults,
      clock,
      log,
      slots: options.slots ?? REAL_SLOTS,
      ...(options.keepAliveMs === undefined ? {} : { keepAliveMs: options.keepAliveMs }),
      control,
    }),
  );
  const owned = building.move();
  return {
    maasUrl: `http://${host}:${server.port}/MAAS`,
    adminKey: keyOf(region, true),
    userKey: keyOf(region, false),
    machineProxyUrl: proxy.url,
    network,
    ledger: region.ledger,
    faults,
    region,
    stats,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
