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
import { startRedirect } from './maas/redirect.ts';
import { Region } from './maas/region.ts';
import { MaasServer, type RequestStats } from './maas/server.ts';
import type { Latency, Site } from './maas/site.ts';
import { DEFAULT_VERSION, flavourOf } from './maas/version.ts';
import { startMachineProxy } from './machine-proxy.ts';
import type { KubernetesFaults } from './kubernetes/faults.ts';
import { createSiteNetwork } from './network.ts';
import { createPace } from './pace.ts';
import type { MachineRuntime, Pace, SiteNetwork } from './ports.ts';
import { seededRandom } from './random.ts';
import { defaultScenario, type Scenario } from './scenario.ts';

/** A region's own: 4 workers with 4 slots each. */
const REAL_SLOTS = 16;

/** What the machines' side gets to know of the site that it lives in. */
export interface RuntimeSite {
  readonly network: SiteNetwork;
  readonly pace: Pace;
  readonly clock: Clock;
  readonly log: Log;
  /** The faults of `--fault` that strike booted machines. */
  readonly faults: KubernetesFaults;
  /** Of the simulator's seed. */
  readonly random: () => number;
  /** MAAS's DNS: names of machines and of DNS resources. */
  readonly resolve: (host: string) => readonly string[];
}

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
  /** What deployed machines do. Default: nothing. One that is made here is also disposed here. */
  readonly runtime?: MachineRuntime | ((site: RuntimeSite) => MachineRuntime & Partial<AsyncDisposable>);
  /** Serves HTTPS with this certificate and key (PEM), as `maas config-tls enable` does. */
  readonly tls?: {
    readonly cert: string;
    readonly key: string /** Of the plain port that redirects. */;
    readonly plainPort?: number;
  };
}

export interface Simulator extends AsyncDisposable {
  /** `http://127.0.0.1:port/MAAS`, or https. */
  readonly maasUrl: string;
  /** With TLS: the plain port, which redirects. */
  readonly plainMaasUrl: string | undefined;
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

function startRuntime(
  wanted: SimulatorOptions['runtime'],
  owner: AsyncDisposableStack,
  site: RuntimeSite,
): MachineRuntime {
  if (typeof wanted !== 'function') return wanted ?? idleRuntime;
  const runtime = wanted(site);
  owner.defer(async () => {
    await runtime[Symbol.asyncDispose]?.();
  });
  return runtime;
}

/** What the filter of a machine's fault is compared with. */
function subjectOf(region: Region, at: { readonly hostname: string; readonly systemId: string }): string {
  const machine = region.machines.get(at.systemId);
  return machine ? region.faultSubject(machine) : `${at.hostname} ${at.systemId}`;
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
  const cache = new MachineCache(region);

  const chance = seededRandom(seed, 'machines');
  await using building = new AsyncDisposableStack();
  const runtime = startRuntime(options.runtime, building, {
    network,
    pace,
    clock,
    log,
    faults: { take: (name, machine) => faults.strikes(name, subjectOf(region, machine)) !== undefined },
    random: () => chance.next(),
    resolve: (host) => region.resolve(host),
  });
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
  const control = createControl({
    region,
    life,
    faults,
    stats,
    changed: () => cache.forgetAll(),
    milestones: () => runtime.milestones?.() ?? [],
    clusters: () => ({ clusters: runtime.clusters?.() ?? [], departures: runtime.departures?.() ?? [] }),
    moments: () => runtime.moments?.() ?? [],
  });
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
      ...(options.tls ? { tls: options.tls } : {}),
    }),
  );
  const origin = `${options.tls ? 'https' : 'http'}://${host}:${server.port}`;
  const plain = options.tls
    ? building.use(await startRedirect(host, options.tls.plainPort ?? 0, origin))
    : undefined;
  const owned = building.move();
  return {
    maasUrl: `${origin}/MAAS`,
    plainMaasUrl: plain ? `http://${host}:${plain.port}/MAAS` : undefined,
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
