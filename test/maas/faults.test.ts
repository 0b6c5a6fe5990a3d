/**
 * The client against the simulated region while replies get lost, connections break, proxies answer 504
 * after success and transactions conflict: whatever happens, the region's own books show no machine leaked,
 * none allocated twice, and every node has lived its life.
 */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import type { ActionOutcome, MaasClient } from '../../src/maas/client.ts';
import { createMaasClient } from '../../src/maas/rest-client.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { never } from '../support/maas-wire.ts';

const FAULTS = [
  'lost-reply:0.08',
  'reset-mid-body:0.05',
  'http-504-after-success:0.05',
  'http-409-retry-after:0.05',
  'http-503:0.03',
  'http-500:0.03',
  'http-502:0.03',
  'refused:0.03',
  'preseed-conflict:0.1',
  'power-failure:0.05',
];
const NODES = 6;
/** Steps of one node before the test gives up: far more than the faults above need. */
const MOST_STEPS = 400;

/** Waits in simulated haste. */
const hasty = { ...systemClock, sleep: (_ms: number, signal?: AbortSignal) => systemClock.sleep(1, signal) };

/** Retryable errors are the caller's to outlast; the others are a failed test. */
async function outlast<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PcgError && error.retryable) return undefined;
    throw error;
  }
}

/**
 * allocate -> stamp -> deploy -> release, decided only from outcomes and readings. A released machine may be
 * somebody else's in the next moment, so whatever does not carry our stamp is not touched any more.
 */
async function live(maas: MaasClient, agentName: string): Promise<'released'> {
  let systemId: string | undefined;
  let stamped = false;
  let leaving = false;
  for (let step = 0; step < MOST_STEPS; step += 1) {
    await systemClock.sleep(5);
    if (systemId === undefined) {
      const outcome = await outlast(() =>
        maas.machines.allocate({ agentName, comment: '', pool: 'kubernetes' }, never()),
      );
      if (outcome?.kind === 'allocated') systemId = outcome.machine.systemId;
      // Not certain: what was allocated meanwhile carries our name.
      else if (outcome?.kind === 'unknown') {
        systemId = (await outlast(() => maas.machines.list({ agentName }, never())))?.[0]?.systemId;
      }
      continue;
    }
    const id: string = systemId;
    if (!stamped) {
      const done = await outlast(() =>
        maas.machines.setAnnotations(id, { node: agentName }, never()).then(() => true),
      );
      stamped = done ?? false;
      continue;
    }
    const machine = await outlast(() => maas.machines.get(id, never()));
    if (machine === undefined) continue;
    if (machine.annotations['node'] !== agentName) {
      expect(leaving, `${agentName} lost ${id}`).toBe(true);
      return 'released';
    }
    if (machine.status === 'deployed' || machine.status === 'failed_deployment') leaving = true;
    if (
      leaving &&
      ['deployed', 'failed_deployment', 'allocated', 'failed_releasing'].includes(machine.status)
    ) {
      await outlast<ActionOutcome>(() => maas.machines.release(id, { erase: 'none', comment: '' }, never()));
    } else if (machine.status === 'allocated') {
      await outlast<ActionOutcome>(() =>
        maas.machines.deploy(id, { image: 'ubuntu/noble', userData: '#cloud-config\n' }, never()),
      );
    }
  }
  throw new Error(`${agentName} did not finish`);
}

describe.each([
  { version: '3.5', seeds: [1, 2, 3, 4, 5, 6] },
  { version: '3.7', seeds: [7, 8, 9, 10, 11, 12] },
])('MAAS $version in trouble', ({ version, seeds }) => {
  it.each(seeds)('seed %i leaks nothing and allocates nothing twice', async (seed) => {
    await using region = await startSimulator({ version, seed, faults: FAULTS, speed: 20_000 });
    await using maas = createMaasClient({
      endpoint: region.maasUrl,
      apiKey: new Secret(region.userKey),
      clock: hasty,
      log: silentLog,
    });
    const lives = Array.from({ length: NODES }, (_, index) => live(maas, `gw.c${index % 2}.n${index}.op`));
    expect(await Promise.all(lives)).toEqual(Array(NODES).fill('released'));
    expect(region.ledger.leaked()).toEqual([]);
    expect(region.ledger.doublyAllocated()).toEqual([]);
    expect(region.ledger.sharedAgentNames()).toEqual([]);
  });
});
