/** Machines on their way back: an erase or a release that does not end costs its own deadline, and no machine. */
import { describe, expect, it } from 'vitest';
import { defaultScenario } from '../../src/simulator/scenario.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
const spec = clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: 1, placement }] });
const ERASED = wanted({ spec: { ...spec, policies: { ...spec.policies, erase: { mode: 'full' } } } });
const HOUR = 3_600_000;

describe('an erase that never ends', () => {
  it('is aborted after its deadline and said; the machine is released, the cluster Deleted', async () => {
    await using site = await SimulatedSite.start({
      speed: 1,
      seed: 3,
      faults: ['erase-stuck:1'],
      light: true,
      timings: { eraseDeadlineMs: HOUR, activeMs: 60_000 },
    });
    await site.want(ERASED);
    await site.phase('Running', { withinMs: 2 * HOUR });
    const asked = site.clock.now();
    await site.want({
      ...ERASED,
      intent: { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' },
    });
    await site.phase('Deleted', { withinMs: 3 * HOUR });
    expect(site.clock.now() - asked).toBeGreaterThan(HOUR);
    const events = await site.outbox.recentEvents({}, 200);
    expect(events.filter(({ reason }) => reason === 'EraseGivenUp')).toHaveLength(1);
    const { ledger } = site.simulator;
    expect([...ledger.leaked(), ...ledger.leakedAddresses(), ...ledger.doublyAllocated()]).toEqual([]);
  });
});

describe('a MAAS that erases disks at every release', () => {
  it('takes its time, and neither loses a machine nor has one given up', async () => {
    await using site = await SimulatedSite.start({
      speed: 1,
      scenario: { ...defaultScenario(), config: { enable_disk_erasing_on_release: true } },
      // Released without ever having been deployed: it is erased as well.
      faults: ['wrong-machine:1'],
      light: true,
    });
    const kept = wanted({ spec });
    await site.want(kept);
    await site.phase('Running', { withinMs: 4 * HOUR });
    await site.want({
      ...kept,
      intent: { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' },
    });
    let erasing = 0;
    await site.until(
      'Deleted',
      ({ phase, nodes }) => {
        erasing += nodes.filter(({ maasStatus }) => maasStatus === 'Disk erasing').length;
        return phase === 'Deleted';
      },
      { withinMs: 4 * HOUR },
    );
    expect(erasing).toBeGreaterThan(0);
    const reasons = (await site.outbox.recentEvents({}, 200)).map(({ reason }) => reason);
    expect(reasons).not.toContain('EraseGivenUp');
    const { ledger } = site.simulator;
    expect([...ledger.leaked(), ...ledger.leakedAddresses(), ...ledger.doublyAllocated()]).toEqual([]);
  });
});

describe('a release that MAAS does not finish', () => {
  it('says so after its own deadline, not that of an erase, and is tried again until the machine is free', async () => {
    const MINUTE = 60_000;
    await using site = await SimulatedSite.start({
      speed: 1,
      faults: ['release-stuck:1'],
      light: true,
      timings: { releaseDeadlineMs: 2 * MINUTE },
    });
    const kept = wanted({ spec });
    await site.want(kept);
    await site.phase('Running', { withinMs: 4 * HOUR });
    const asked = site.clock.now();
    await site.want({
      ...kept,
      intent: { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' },
    });
    const late = await site.until(
      'told that the release takes too long',
      ({ nodes }) => nodes.some(({ tasks }) => tasks.some(({ error }) => error?.code === 'RELEASE_TIMEOUT')),
      { withinMs: HOUR },
    );
    expect(late.phase).toBe('Deleting');
    expect(site.clock.now() - asked).toBeGreaterThan(2 * MINUTE);
    expect(site.clock.now() - asked).toBeLessThan(5 * MINUTE); // MAAS itself gives up only then
    await site.phase('Deleted', { withinMs: HOUR });
    const { ledger } = site.simulator;
    expect(ledger.entries().filter(({ action }) => action === 'release').length).toBeGreaterThan(1);
    expect([...ledger.leaked(), ...ledger.leakedAddresses()]).toEqual([]);
  });
});
