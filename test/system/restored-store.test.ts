/** A gateway whose state directory is restored from a backup: what was deleted since is not built again. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { readStats } from '../../src/cli/simulator-client.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../../src/store/sqlite.ts';
import { DayTwo } from '../support/day-two.ts';
import { Site } from '../support/site.ts';

const HOUR_MS = 3_600_000;

describe('a gateway restored from a backup', () => {
  it('touches no machine until the portal has said what it wants, and then lets the deleted cluster be', async () => {
    await using site = await Site.start();
    const state = join(site.directory, 'agent');
    const backup = join(site.directory, 'backup');
    // None comes to its end before it is told to.
    const day = new DayTwo(site);
    await day.fault('deploy-stuck');
    const cluster = await site.createCluster(site.spec({ controlPlane: 1, workers: 1 }));
    await site.until('a first machine', async () => {
      const { status } = await site.cluster(cluster.id);
      return status?.nodes.some((node) => node.systemId !== undefined);
    });
    // the backup is of a gateway in the middle of its work: it would go on at once
    await site.killAgent();
    cpSync(state, backup, { recursive: true });
    await site.startAgent();
    await day.mend('deploy-stuck');
    await site.call('POST', `/api/v1/clusters/${cluster.id}/abort`, {});
    await site.waitForPhase(cluster.id, 'Deleted');
    await site.killAgent();

    rmSync(state, { recursive: true });
    cpSync(backup, state, { recursive: true });
    {
      // the backup is of yesterday
      using file = SqliteFile.open(join(state, 'agent.db'), RECORDS_SCHEMA);
      await new SqliteRecords(file).put(COLLECTIONS.settings, 'in-use', Date.now() - 24 * HOUR_MS);
    }
    await site.stopPortal();
    const changes = async (): Promise<number> => {
      const { byRoute } = await readStats(site.maasUrl, new AbortController().signal);
      return Object.entries(byRoute).reduce(
        (sum, [route, count]) => sum + (route.startsWith('GET') ? 0 : count),
        0,
      );
    };
    const before = await changes();
    await site.startAgent();
    const status = async () => {
      const program = await site.run('status', ['status']);
      await program.exited;
      return program.ready as { held?: { until: string } };
    };
    await site.until('the hold', async () => (await status()).held !== undefined);
    await systemClock.sleep(8_000);
    expect((await status()).held).toBeDefined();
    expect(await changes()).toBe(before);

    await site.startPortal();
    await site.until('the end of the hold', async () => (await status()).held === undefined);
    await systemClock.sleep(3_000);
    expect(await changes()).toBe(before);
    expect((await site.cluster(cluster.id)).deletedAt).toBeDefined();
    expect((await site.ledger()).leaked).toEqual([]);
    expect((await site.ledger()).doublyAllocated).toEqual([]);
  });
});
