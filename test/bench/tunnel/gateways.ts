/** One portal process with thousands of idle gateways: what each costs at rest, and all of them coming back at once. */
import type { Results } from '../results.ts';
import { generateIdentity } from '../../../src/tunnel/identity.ts';
import { cpuSeconds, pause, rssMb, Worker } from './rpc.ts';

const GATEWAYS = 5000;
const REST_MS = 10_000;
const DEADLINE_MS = 120_000;

async function connected(portal: Worker, wanted: number): Promise<void> {
  const until = performance.now() + DEADLINE_MS;
  while ((await portal.ask<number>({ op: 'connected' })) < wanted) {
    if (performance.now() > until) throw new Error('not all gateways connect');
    await pause(50);
  }
}

/** Storms are repeated `runs` times on the same gateways; memory and rest are measured once. */
export async function gateways(results: Results, runs: number): Promise<void> {
  const keys = { portal: generateIdentity(), gateway: generateIdentity() };
  await using portal = new Worker('fleet.ts');
  await using fleet = new Worker('fleet.ts');
  const identity = (one: typeof keys.portal): string => one.serialize().reveal();
  const port = await portal.ask<number>({
    op: 'portal',
    identity: identity(keys.portal),
    gatewayKey: keys.gateway.publicKey,
  });
  await pause(500);
  const empty = rssMb(portal.pid);
  const settings = { identity: identity(keys.gateway), portalKey: keys.portal.publicKey };
  await fleet.ask({ op: 'fleet', port, count: GATEWAYS, ...settings }, DEADLINE_MS);
  await connected(portal, GATEWAYS);
  await pause(5000);
  const kb = ((rssMb(portal.pid) - empty) * 1024) / GATEWAYS;
  results.add({ case: 'gateways-5000-rss-each', subject: 'pcg', unit: 'KB', values: [kb] });
  const cpu = cpuSeconds(portal.pid);
  await pause(REST_MS);
  const share = ((cpuSeconds(portal.pid) - cpu) * 1000) / REST_MS;
  results.add({ case: 'gateways-5000-cpu-at-rest', subject: 'pcg', unit: 'cores', values: [share] });
  const storms: number[] = [];
  for (let n = 0; n < Math.min(3, runs); n += 1) {
    const started = performance.now();
    await portal.ask({ op: 'cut' });
    await connected(portal, GATEWAYS);
    storms.push((performance.now() - started) / 1000);
    await pause(2000);
  }
  results.add({ case: 'gateways-5000-absorb', subject: 'pcg', unit: 's', values: storms });
}
