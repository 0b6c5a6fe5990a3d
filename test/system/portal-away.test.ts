/** The offline contract (X11): the gateway finishes without the portal and replays every fact once, in order. */
import { describe, expect, it } from 'vitest';
import { Site } from '../support/site.ts';

describe('the portal is away in mid-provisioning', () => {
  it('the cluster still completes, and the returned portal shows every event once and in order', async () => {
    await using site = await Site.start({ speed: 100 });
    const cluster = await site.createCluster();
    await site.until('a first allocated machine', async () => {
      const { status } = await site.cluster(cluster.id);
      return status?.nodes.some((node) => node.systemId !== undefined);
    });
    await site.stopPortal();
    await site.until('completion without the portal', async () => {
      const local = await site.run('clusters', ['clusters', 'show', cluster.id]);
      await local.exited;
      return (local.ready as { status?: { phase: string } }).status?.phase === 'Running';
    });
    await site.startPortal();
    await site.waitForPhase(cluster.id, 'Running');
    const events = await site.until('all events', async () => {
      const seen = await site.events(cluster.id);
      return seen.some((event) => event.reason === 'ClusterRunning') ? seen : undefined;
    });
    const numbers = events.map((event) => event.seq);
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    const local = await site.run('events', ['clusters', 'events', cluster.id, '--limit', '1000']);
    await local.exited;
    expect(local.ready['seq']).toBe(numbers[0]);
  });
});
