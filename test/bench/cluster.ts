/**
 * What the life of clusters costs, measured through the whole product (simulator, portal and agent are
 * processes): the time that 3 + 100 nodes take beyond the hardware's critical path, requests to MAAS and to
 * Kubernetes per node, the agent's memory, and what 50 clusters that want nothing still cost.
 */
import { request } from 'undici';
import { systemClock } from '../../src/base/clock.ts';
import { readStats } from '../../src/cli/simulator-client.ts';
import type { Cluster } from '../../src/contract/cluster.ts';
import { Site } from '../support/site.ts';
import { actualTimes, criticalPathMs, type LedgerEntry, type Milestone } from './critical-path.ts';
import { cpuMs, loadSince, peakRssMb } from './processes.ts';
import type { BenchOptions } from './main.ts';
import type { Results } from './results.ts';

const CONTROL_PLANE = 3;
const WORKERS = 100;
const NODES = CONTROL_PLANE + WORKERS;
const MACHINES = 300;
/** Two cores carry simulator, portal and agent at this speed; faster, the share would be theirs, not the agent's. */
const CREATE_SPEED = 2;
/** Minutes each. */
const CREATE_RUNS = 1;
/** Measured on a real MAAS 3.5 without load: allocate 190 ms, deploy 750 ms besides the BMC. */
const ALLOCATE_MS = 190;
const DEPLOY_MS = 750;

const REST_CLUSTERS = 50;
const REST_MACHINES = 200;
const REST_BUILD_SPEED = 30;
const REST_SETTLE_MS = 45_000;
const REST_WINDOW_MS = 60_000;

/** The agent's defaults, divided by the speed as the demo does. */
const POLL_ACTIVE_MS = 5_000;
const POLL_IDLE_MS = 60_000;
const PATIENCE_MS = 20 * 60_000;
/** The user that the gateway is for an API server; nodes that join are others. */
const GATEWAY_USER = 'pcg-gateway';

export async function run(results: Results, options: BenchOptions): Promise<void> {
  const wanted = (name: string) =>
    options.cases.length === 0 || options.cases.some((some) => name.startsWith(some));
  if (['overhead-103', 'maas-requests-per-node', 'kube-requests-per-node', 'rss'].some(wanted))
    await measureCreate(results, Math.min(options.runs, CREATE_RUNS));
  if (['rest-50-requests', 'rest-50-cpu'].some(wanted)) await measureRest(results, options.runs);
}

const never = new AbortController().signal;

async function startSite(speed: number, machines: number): Promise<Site> {
  const site = await Site.withoutAgent({
    speed,
    machines,
    simulatorArgs: ['--allocate-latency-ms', String(ALLOCATE_MS), '--deploy-latency-ms', String(DEPLOY_MS)],
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

/** One large cluster, from the user's click to the last node's Ready. */
async function measureCreate(results: Results, runs: number): Promise<void> {
  const share: number[] = [];
  const maasRequests: number[] = [];
  const kubeRequests: number[] = [];
  const rss: number[] = [];
  for (let index = 0; index < runs; index += 1) {
    await using site = await startSite(CREATE_SPEED, MACHINES);
    const maasBefore = (await readStats(site.maasUrl, never)).requests;
    const load = loadSince(site);
    const startedAt = Date.now();
    const created = await site.createCluster(
      site.spec({ name: 'large', controlPlane: CONTROL_PLANE, workers: WORKERS }),
    );
    const cluster = await site.waitForPhase(created.id, 'Running', PATIENCE_MS);
    const tookMs = Date.now() - startedAt;
    const shares = load();
    maasRequests.push(((await readStats(site.maasUrl, never)).requests - maasBefore) / NODES);
    kubeRequests.push((await kubeRequestsSoFar(site)) / NODES);
    rss.push(peakRssMb(site));
    const timeline = {
      startedAt,
      allocateMs: ALLOCATE_MS,
      controlPlane: controlPlaneOf(cluster),
      ledger: (await ask<{ entries: LedgerEntry[] }>(site, 'ledger')).entries,
      milestones: await ask<Milestone[]>(site, 'milestones'),
    };
    const path = criticalPathMs(timeline);
    share.push((tookMs - path) / path);
    process.stderr.write(
      `create of ${NODES} nodes at speed ${CREATE_SPEED}: ${(tookMs / 1000).toFixed(1)} s, hardware alone ${(path / 1000).toFixed(1)} s; ` +
        `${shares}\n  ${JSON.stringify(actualTimes(timeline))}\n`,
    );
  }
  results.add({ case: 'overhead-103', subject: 'pcg', unit: 'share', values: share });
  results.add({ case: 'maas-requests-per-node', subject: 'pcg', unit: 'requests', values: maasRequests });
  results.add({ case: 'kube-requests-per-node', subject: 'pcg', unit: 'requests', values: kubeRequests });
  results.add({ case: 'rss', subject: 'pcg', unit: 'MB', values: rss });
}

/** Many small clusters that want nothing. Built on fast hardware, watched at the intervals of a real site. */
async function measureRest(results: Results, windows: number): Promise<void> {
  await using site = await startSite(REST_BUILD_SPEED, REST_MACHINES);
  const ids: string[] = [];
  for (let index = 0; index < REST_CLUSTERS; index += 1) {
    const spec = site.spec({ name: `rest-${index}`, controlPlane: 1, workers: 0 });
    ids.push((await site.createCluster(spec)).id);
  }
  for (const id of ids) await site.waitForPhase(id, 'Running', PATIENCE_MS);
  await site.killAgent();
  await startAgent(site, 1);
  await systemClock.sleep(REST_SETTLE_MS, never);
  const requests = { maas: [] as number[], kubernetes: [] as number[], sum: [] as number[] };
  const percent: number[] = [];
  for (let window = 0; window < windows; window += 1) {
    const before = await restReading(site);
    await systemClock.sleep(REST_WINDOW_MS, never);
    const after = await restReading(site);
    const minutes = (after.at - before.at) / 60_000;
    requests.maas.push((after.maas - before.maas) / minutes);
    requests.kubernetes.push((after.kubernetes - before.kubernetes) / minutes);
    requests.sum.push((after.maas + after.kubernetes - before.maas - before.kubernetes) / minutes);
    percent.push((100 * (after.cpuMs - before.cpuMs)) / (after.at - before.at));
  }
  const unit = 'requests/min';
  results.add({ case: 'rest-50-requests', subject: 'pcg', unit, values: requests.sum });
  results.add({ case: 'rest-50-requests', subject: 'pcg-maas', unit, values: requests.maas });
  results.add({ case: 'rest-50-requests', subject: 'pcg-kubernetes', unit, values: requests.kubernetes });
  results.add({ case: 'rest-50-cpu', subject: 'pcg', unit: 'percent', values: percent });
  process.stderr.write(`${REST_CLUSTERS} clusters rest, agent peak ${peakRssMb(site).toFixed(0)} MB\n`);
}

async function restReading(site: Site) {
  const [maas, kubernetes] = await Promise.all([readStats(site.maasUrl, never), kubeRequestsSoFar(site)]);
  return { at: performance.now(), maas: maas.requests, kubernetes, cpuMs: cpuMs(site.agent) };
}

async function ask<T>(site: Site, what: string): Promise<T> {
  const answer = await request(new URL(`/simulator/${what}`, site.maasUrl));
  return (await answer.body.json()) as T;
}

/** What the gateway asked of the API servers that exist now. */
async function kubeRequestsSoFar(site: Site): Promise<number> {
  const { clusters } = await ask<{
    clusters: { controlPlanes: { requestsBy: Record<string, number> }[] }[];
  }>(site, 'clusters');
  return clusters
    .flatMap(({ controlPlanes }) => controlPlanes)
    .reduce((sum, { requestsBy }) => sum + (requestsBy[GATEWAY_USER] ?? 0), 0);
}

function controlPlaneOf({ status }: Cluster): Set<string> {
  const nodes = status?.nodes.filter(({ role }) => role === 'control-plane') ?? [];
  return new Set(nodes.flatMap(({ systemId }) => systemId ?? []));
}
