/**
 * What the agent asks of MAAS and what it costs, measured through the whole product: portal, agent and
 * simulator are processes, the region has 1 000 machines of 30 KB and takes 30 ms for each that it lists.
 * Baseline `full-list-poll`: a client that lists all machines at the agent's own intervals.
 */
import { request } from 'undici';
import { systemClock } from '../../src/base/clock.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import { readStats, type SimulatorStats } from '../../src/cli/simulator-client.ts';
import type { Cluster } from '../../src/contract/cluster.ts';
import { createMaasClient } from '../../src/maas/rest-client.ts';
import { Site } from '../support/site.ts';
import { actualTimes, criticalPathMs, type LedgerEntry, type Milestone } from './critical-path.ts';
import type { BenchOptions } from './main.ts';
import { loadSince, peakRssMb } from './processes.ts';
import type { Results } from './results.ts';

const MACHINES = 1_000;
const MACHINE_KB = 30;
const LISTED_MACHINE_MS = 30;
/** Measured on a real MAAS 3.5 without load: allocate 190 ms, deploy 750 ms besides the BMC. */
const ALLOCATE_MS = 190;
const DEPLOY_MS = 750;

/** Hardware runs this much faster in the large create; MAAS's own latencies are never scaled. */
const CREATE_SPEED = 2;
/** A create of 100 nodes takes minutes. */
const CREATE_RUNS = 1;
const CONTROL_PLANE = 3;
const NODES = 100;
/** The bar, as a share of the hardware's own time: 2 %, or 1 s where that is more. */
const MOST_OVERHEAD_SHARE = 0.02;
const MOST_OVERHEAD_MS = 1_000;

/** The agent's defaults, divided by the speed as the demo does. */
const POLL_ACTIVE_MS = 5_000;
const POLL_IDLE_MS = 60_000;

const REST_SPEED = 30;
const REST_SETTLE_MS = 45_000;
const REST_WINDOW_MS = 60_000;
const PATIENCE_MS = 30 * 60_000;

export async function run(results: Results, options: BenchOptions): Promise<void> {
  const wanted = (name: string) =>
    options.cases.length === 0 || options.cases.some((some) => name.startsWith(some));
  if (['requests-per-node', 'bytes-per-node', 'rss', 'overhead-100'].some(wanted))
    await measureCreate(results, wanted, Math.min(options.runs, CREATE_RUNS));
  const counts = [1, 10, 100].filter((count) => wanted(`rest-requests-${count}`));
  if (counts.length > 0) await measureRest(results, counts, options.runs);
}

const never = new AbortController().signal;

async function startSite(speed: number): Promise<Site> {
  const site = await Site.withoutAgent({
    speed,
    machines: MACHINES,
    simulatorArgs: [
      ...['--machine-size', String(MACHINE_KB), '--list-latency-ms', String(LISTED_MACHINE_MS)],
      ...['--allocate-latency-ms', String(ALLOCATE_MS), '--deploy-latency-ms', String(DEPLOY_MS)],
    ],
  });
  try {
    await site.pair();
    await startAgent(site, speed);
    await site.waitForAccount();
    return site;
  } catch (error) {
    await site[Symbol.asyncDispose]();
    throw error;
  }
}

async function startAgent(site: Site, speed: number): Promise<void> {
  await site.startAgent({
    PCG_SIMULATED_SPEED: String(speed),
    PCG_POLL_ACTIVE_MS: String(Math.round(POLL_ACTIVE_MS / speed)),
    PCG_POLL_IDLE_MS: String(Math.round(POLL_IDLE_MS / speed)),
    PCG_LOG_LEVEL: 'warn',
  });
}

/** One large cluster: what it costs MAAS, what the agent adds to the time of the hardware, its memory. */
async function measureCreate(
  results: Results,
  wanted: (name: string) => boolean,
  runs: number,
): Promise<void> {
  const found = { requests: [], bytes: [], naiveBytes: [], rss: [], seconds: [], share: [] } as Record<
    'requests' | 'bytes' | 'naiveBytes' | 'rss' | 'seconds' | 'share',
    number[]
  >;
  for (let index = 0; index < runs; index += 1) {
    await using site = await startSite(CREATE_SPEED);
    const before = await stats(site);
    const load = loadSince(site);
    const startedAt = Date.now();
    const created = await site.createCluster(
      site.spec({ name: 'large', controlPlane: CONTROL_PLANE, workers: NODES - CONTROL_PLANE }),
    );
    const cluster = await site.waitForPhase(created.id, 'Running', PATIENCE_MS);
    const tookMs = Date.now() - startedAt;
    const shares = load();
    const after = await stats(site);
    found.rss.push(peakRssMb(site));
    found.requests.push((after.requests - before.requests) / NODES);
    found.bytes.push((after.bytesSent - before.bytesSent) / NODES);
    const timeline = {
      startedAt,
      allocateMs: ALLOCATE_MS,
      controlPlane: controlPlaneOf(cluster),
      ledger: (await ask<{ entries: LedgerEntry[] }>(site, 'ledger')).entries,
      milestones: await ask<Milestone[]>(site, 'milestones'),
    };
    const path = criticalPathMs(timeline);
    found.seconds.push((tookMs - path) / 1000);
    found.share.push((tookMs - path) / path);
    if (index === 0)
      results.expect({
        case: 'overhead-100',
        kind: 'at-most',
        value: Math.max(MOST_OVERHEAD_SHARE, MOST_OVERHEAD_MS / path),
      });
    process.stderr.write(
      `create of ${NODES} nodes: ${(tookMs / 1000).toFixed(1)} s, hardware alone ${(path / 1000).toFixed(1)} s; ${shares}\n` +
        `  ${JSON.stringify(difference(before, after))}\n  ${JSON.stringify(actualTimes(timeline))}\n`,
    );
    if (wanted('bytes-per-node')) {
      const list = await fullList(site);
      // It polls at the agent's interval, or as fast as MAAS answers when that is slower.
      const polls = Math.ceil(tookMs / Math.max(POLL_ACTIVE_MS / CREATE_SPEED, list.ms));
      found.naiveBytes.push((polls * list.bytes) / NODES);
    }
  }
  const add = (name: string, subject: string, unit: string, values: number[]) => {
    if (wanted(name) && values.length > 0) results.add({ case: name, subject, unit, values });
  };
  add('requests-per-node', 'pcg', 'requests', found.requests);
  add('bytes-per-node', 'pcg', 'bytes', found.bytes);
  add('bytes-per-node', 'full-list-poll', 'bytes', found.naiveBytes);
  add('rss', 'pcg', 'MB', found.rss);
  add('overhead-100', 'pcg', 'seconds', found.seconds);
  add('overhead-100', 'pcg', 'share', found.share);
}

/** Many small clusters that want nothing: each count on a site of its own, all watched at the same time. */
async function measureRest(results: Results, counts: readonly number[], windows: number): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const sites: { count: number; site: Site; requests: number[]; bytes: number[] }[] = [];
  for (const count of counts) {
    const site = stack.use(await startSite(REST_SPEED));
    sites.push({ count, site, requests: [], bytes: [] });
    const created: Cluster[] = [];
    for (let index = 0; index < count; index += 1)
      created.push(
        await site.createCluster(site.spec({ name: `rest-${index}`, controlPlane: 1, workers: 0 })),
      );
    for (const { id } of created) await site.waitForPhase(id, 'Running', PATIENCE_MS);
    process.stderr.write(`${count} clusters rest, agent peak ${peakRssMb(site).toFixed(0)} MB\n`);
    // From now on in real time: the intervals of a real site, not those of fast hardware.
    await site.killAgent();
    await startAgent(site, 1);
  }
  await systemClock.sleep(REST_SETTLE_MS, never);
  for (let window = 0; window < windows; window += 1) {
    const before = await Promise.all(sites.map(({ site }) => stats(site)));
    await systemClock.sleep(REST_WINDOW_MS, never);
    for (const [index, entry] of sites.entries()) {
      const after = await stats(entry.site);
      entry.requests.push(after.requests - (before[index]?.requests ?? 0));
      entry.bytes.push(after.bytesSent - (before[index]?.bytesSent ?? 0));
    }
  }
  for (const { count, site, requests, bytes } of sites) {
    results.add({ case: `rest-requests-${count}`, subject: 'pcg', unit: 'requests/min', values: requests });
    results.add({ case: `rest-bytes-${count}`, subject: 'pcg', unit: 'bytes/min', values: bytes });
    const list = await fullList(site);
    results.add({
      case: `rest-bytes-${count}`,
      subject: 'full-list-poll',
      unit: 'bytes/min',
      values: [(list.bytes * REST_WINDOW_MS) / POLL_IDLE_MS],
    });
  }
}

const stats = (site: Site): Promise<SimulatorStats> => readStats(site.maasUrl, never);

async function ask<T>(site: Site, what: string): Promise<T> {
  const answer = await request(new URL(`/simulator/${what}`, site.maasUrl));
  return (await answer.body.json()) as T;
}

function controlPlaneOf({ status }: Cluster): Set<string> {
  const nodes = status?.nodes.filter(({ role }) => role === 'control-plane') ?? [];
  return new Set(nodes.flatMap(({ systemId }) => systemId ?? []));
}

/** What one list of the whole fleet costs, measured. */
async function fullList(site: Site): Promise<{ bytes: number; ms: number }> {
  const { maasUrl, adminKey } = site.simulator.ready;
  await using client = createMaasClient({
    endpoint: String(maasUrl),
    apiKey: new Secret(String(adminKey)),
    clock: systemClock,
    log: silentLog,
  });
  const before = await stats(site);
  const started = performance.now();
  await client.machines.list({}, never);
  return { bytes: (await stats(site)).bytesSent - before.bytesSent, ms: performance.now() - started };
}

function difference(before: SimulatorStats, after: SimulatorStats): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after.byRoute)
      .map(([route, count]) => [route, count - (before.byRoute[route] ?? 0)] as const)
      .filter(([, count]) => count > 0)
      .sort(([, a], [, b]) => b - a),
  );
}
