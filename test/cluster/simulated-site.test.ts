/** The engine against the full doubles: MAAS over HTTP, Kubernetes over TLS, machines that read their user-data. */
import { describe, expect, it } from 'vitest';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;

const placement = { resourcePool: 'kubernetes' };
const SPEC = clusterSpec({
  pools: [
    { role: 'control-plane', name: 'cp', size: 3, placement },
    { role: 'worker', name: 'workers', size: 3, placement },
  ],
});
const document = (changes = {}) => wanted({ spec: SPEC, ...changes });

function expectClean(site: SimulatedSite): void {
  expect(site.simulator.ledger.leaked()).toEqual([]);
  expect(site.simulator.ledger.doublyAllocated()).toEqual([]);
  expect(site.simulator.ledger.sharedAgentNames()).toEqual([]);
  expect(site.simulator.ledger.leakedAddresses()).toEqual([]);
}

/** Deterministic draws, so that a failing run can be repeated. */
function seeded(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    return ((state >>> 0) % 100_000) / 100_000;
  };
}

describe('on the simulator', () => {
  it('3 + 3 machines become a cluster, with the keys that kubeadm would make, and go back to Ready', async () => {
    await using site = await SimulatedSite.start({ speed: 200, keyAlgorithm: 'rsa-2048' });
    await site.want(document());
    const running = await site.phase('Running');
    expect(running.nodes.map((node) => node.phase)).toEqual(Array(6).fill('Ready'));
    const [cluster] = site.kubernetes.clusters();
    expect(cluster?.etcd.members.filter(({ learner }) => !learner)).toHaveLength(3);
    expect(cluster?.nodes.filter(({ ready }) => ready)).toHaveLength(6);
    await site.want(document({ intent: DELETE }));
    await site.phase('Deleted');
    expectClean(site);
  });

  it.each([1, 2])('killed at random moments (seed %i) ends in the same cluster', async (seed) => {
    const random = seeded(seed);
    await using site = await SimulatedSite.start({ speed: 200 });
    await site.want(document());
    for (let crash = 0; crash < 10; crash += 1) {
      await site.clock.sleep(random() * 500);
      site.crash();
    }
    const running = await site.phase('Running');
    expect(site.simulator.ledger.doublyAllocated()).toEqual([]);
    expect(
      site.simulator.ledger
        .leaked()
        .map(({ systemId }) => systemId)
        .sort(),
    ).toEqual(running.nodes.map(({ systemId }) => systemId).sort());
    await site.want(document({ intent: DELETE }));
    for (let crash = 0; crash < 4; crash += 1) {
      await site.clock.sleep(random() * 150);
      site.crash();
    }
    await site.phase('Deleted');
    expectClean(site);
  });

  it.each([100, 700, 1500, 2500])('aborted after %i ms leaves nothing', async (ms) => {
    await using site = await SimulatedSite.start({ speed: 200 });
    await site.want(document());
    await site.clock.sleep(ms);
    site.crash();
    await site.want(document({ intent: { ...DELETE, reason: 'abort' } }));
    await site.phase('Deleted');
    expectClean(site);
  });
});
