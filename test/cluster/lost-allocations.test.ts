/**
 * Allocations whose answer was lost, came late or named another machine: whatever MAAS took under the agent name of
 * a claim is found again, while the node goes on, after it was given up, and before its cluster counts as deleted.
 */
import { describe, expect, it } from 'vitest';
import type { ClusterRecord } from '../../src/cluster/model.ts';
import { DEFAULT_TIMINGS, type Timings } from '../../src/cluster/timings.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

/** Most other machines do not fit. */
const placement = { resourcePool: 'kubernetes', zones: ['rack-b'] };
const ONE_NODE = wanted({
  spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: 1, placement }] }),
});
const DELETE = {
  ...ONE_NODE,
  intent: { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' },
} as const;
const MINUTE = 60_000;
/** Of the simulated MAAS: from the closed connection to the allocation. */
const LATE_MS = MINUTE;
const EVENTUALLY = { withinMs: 180 * MINUTE };

/** In the product's own times. */
const start = (faults: string[], timings: Partial<Timings> = {}) =>
  SimulatedSite.start({
    speed: 1,
    seed: 3,
    faults,
    light: true,
    timings: { claimSettleMs: DEFAULT_TIMINGS.claimSettleMs, ...timings },
  });

/** Looks several times a second: no state that lasts is missed. */
async function eventually(site: SimulatedSite, check: () => Promise<void> | void): Promise<void> {
  const end = site.clock.monotonic() + EVENTUALLY.withinMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (site.clock.monotonic() > end) throw error;
    }
    await site.clock.sleep(100);
  }
}

const record = async (site: SimulatedSite): Promise<ClusterRecord | undefined> =>
  (await site.records.get<ClusterRecord>(COLLECTIONS.clusters, 'cl-demo'))?.value;

const taken = (site: SimulatedSite) =>
  site.simulator.ledger.entries().filter(({ action }) => action === 'allocate').length;

/** The machines that MAAS counts as ours are those of the cluster's nodes; nothing is in doubt any more. */
async function expectOnlyItsOwn(site: SimulatedSite): Promise<void> {
  await eventually(site, async () => {
    const now = await record(site);
    const held = now?.nodes.flatMap(({ claim }) => (claim.kind === 'held' ? claim.systemId : []));
    expect(site.simulator.ledger.leaked().map(({ systemId }) => systemId)).toEqual(held);
    expect(now?.doubts ?? []).toEqual([]);
  });
}

describe('an allocation that was not answered', () => {
  it('and took another machine is not asked for a second time', async () => {
    await using site = await start(['wrong-machine:1', 'lost-reply:1@op=allocate']);
    await site.want(ONE_NODE);
    await site.phase('Running', EVENTUALLY);
    expect(site.simulator.ledger.sharedAgentNames()).toEqual([]);
    await expectOnlyItsOwn(site);
  });

  it('is not forgotten when the cluster is deleted before MAAS carries it out', async () => {
    await using site = await start([`lands-late=${LATE_MS}:1@op=allocate`]);
    await site.want(ONE_NODE);
    await eventually(site, async () => expect((await record(site))?.nodes[0]?.claim.kind).toBe('held'));
    await site.want(DELETE);
    await site.phase('Deleted', EVENTUALLY);
    expect(taken(site)).toBe(2);
    expect(site.simulator.ledger.leaked()).toEqual([]);
  });

  it('is not forgotten by a process that was killed meanwhile', async () => {
    await using site = await start([`lands-late=${LATE_MS}:1@op=allocate`, 'slow=3000@op=allocate']);
    await site.want(ONE_NODE);
    await eventually(site, async () => expect((await record(site))?.nodes[0]?.claim.kind).toBe('claiming'));
    site.crash();
    await site.want(DELETE);
    await site.phase('Deleted', EVENTUALLY);
    expect(taken(site)).toBe(1);
    expect(site.simulator.ledger.leaked()).toEqual([]);
  });

  it('may take its machine after the node went on with another one', async () => {
    await using site = await start([`lands-late=${LATE_MS}:1@op=allocate`]);
    const { machines } = site.simulator.region;
    await site.want(ONE_NODE);
    await eventually(site, async () => expect((await record(site))?.nodes[0]?.claim.kind).toBe('claiming'));
    const claim = (await record(site))?.nodes[0]?.claim;
    const asked = machines.get(claim?.kind === 'claiming' ? claim.systemId : '');
    if (!asked) throw new Error('the claim names no machine');
    asked.owner = 'operator';
    await eventually(site, async () => {
      const now = (await record(site))?.nodes[0]?.claim;
      expect(now).toMatchObject({ kind: 'held', systemId: expect.not.stringContaining(asked.systemId) });
    });
    asked.owner = null;
    await site.phase('Running', EVENTUALLY);
    await eventually(site, () => expect(taken(site)).toBe(2));
    await expectOnlyItsOwn(site);
  });
});

describe('a machine that was not asked for', () => {
  it.each([
    ['whose release gets no answer', 'http-502:1@op=release'],
    ['whose release MAAS refuses for the moment', 'http-409-retry-after:1@op=release'],
    ['whose release was answered by nobody although it worked', 'lost-reply:1@op=release'],
  ])('%s is given back all the same', async (_what, fault) => {
    await using site = await start(['wrong-machine:1', fault]);
    await site.want(ONE_NODE);
    await site.phase('Running', EVENTUALLY);
    expect(taken(site)).toBe(2);
    await expectOnlyItsOwn(site);
  });

  it('and is in use by another node stays with that node', async () => {
    await using site = await start(['image-missing:1', 'double-allocation:1@cl-other'], {
      blockedRetryMs: 20 * MINUTE,
      retryCapMs: 20 * MINUTE,
      retryBaseMs: 20 * MINUTE,
    });
    await site.want(ONE_NODE);
    const held = await site.until(
      'a refused deployment',
      ({ nodes }) =>
        nodes.some(({ tasks }) => tasks.some(({ name, error }) => name === 'deploy' && error !== undefined)),
      EVENTUALLY,
    );
    const other = { ...ONE_NODE, id: 'cl-other', spec: { ...ONE_NODE.spec, name: 'other' } };
    await site.want(other);
    const elsewhere = await site.phase('Running', { cluster: 'cl-other', ...EVENTUALLY });
    const running = await site.phase('Running', EVENTUALLY);
    expect(site.simulator.ledger.doublyAllocated()).toHaveLength(1);
    expect(running.nodes[0]?.systemId).toBe(held.nodes[0]?.systemId);
    expect(elsewhere.nodes[0]?.systemId).not.toBe(held.nodes[0]?.systemId);
    await site.want({ ...other, intent: DELETE.intent });
    await site.phase('Deleted', { cluster: 'cl-other', ...EVENTUALLY });
    expect(site.simulator.ledger.leaked().map(({ systemId }) => systemId)).toEqual([
      running.nodes[0]?.systemId,
    ]);
    await site.want(DELETE);
    await site.phase('Deleted', EVENTUALLY);
    expect(site.simulator.ledger.leaked()).toEqual([]);
  });
});
