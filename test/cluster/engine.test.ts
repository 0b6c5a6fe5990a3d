/** The life of a cluster on a fake site: create, delete, abort, crashes, failures. */
import { describe, expect, it } from 'vitest';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';

const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;

describe('create and delete', () => {
  it('brings 3 + 3 machines to Running and gives every one of them back', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const running = await harness.phase('Running');
    expect(running.nodes.map((node) => node.phase)).toEqual(Array(6).fill('Ready'));
    expect(running.progress.done).toBe(running.progress.total);
    expect(running.conditions.filter(({ status }) => status !== 'True').map(({ type }) => type)).toEqual([
      'Deleting',
    ]);
    expect(site.owned()).toHaveLength(6);
    expect(site.reserved.size).toBe(1);

    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    expect(site.owned()).toEqual([]);
    expect(site.reserved.size).toBe(0);
    expect(site.violations).toEqual([]);
  });
});
