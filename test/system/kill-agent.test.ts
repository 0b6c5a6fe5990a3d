/**
 * kill -9 of the agent at random moments of a whole life of a cluster: the same cluster comes up and goes
 * away, and the simulator's own ledger counts no machine that was lost or given out twice.
 */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { Site } from '../support/site.ts';

const KILLS = 20;
const MAX_PAUSE_MS = 900;

describe('kill -9 of the agent', () => {
  it(`at ${KILLS} random moments ends in the same cluster, with nothing leaked and nothing allocated twice`, async () => {
    await using site = await Site.start({ speed: 100 });
    const cluster = await site.createCluster();
    let kills = 0;
    const chaos = (async () => {
      while (kills < KILLS) {
        await systemClock.sleep(Math.random() * MAX_PAUSE_MS);
        await site.killAgent();
        kills += 1;
        await site.startAgent();
      }
    })();
    await chaos;
    const running = await site.waitForPhase(cluster.id, 'Running');
    expect(running.status?.nodes.filter((node) => node.phase === 'Ready')).toHaveLength(6);
    const during = await site.ledger();
    expect(during.doublyAllocated).toEqual([]);
    expect(during.leaked).toHaveLength(6);

    await site.deleteCluster(cluster);
    await systemClock.sleep(Math.random() * MAX_PAUSE_MS);
    await site.killAgent();
    await site.startAgent();
    await site.waitForPhase(cluster.id, 'Deleted');
    const after = await site.ledger();
    expect(after.leaked).toEqual([]);
    expect(after.doublyAllocated).toEqual([]);
  });
});
