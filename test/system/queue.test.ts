/** R85 with real processes: while somebody works on the gateway, new clusters wait in line, through its restart. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { QueueSchema } from '../../src/contract/api.ts';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { Site } from '../support/site.ts';
import { ENTRY } from '../support/program.ts';

const AnswerSchema = QueueSchema.extend({ held: QueueSchema.shape.held.unwrap().nullable() });

describe('the queue of a gateway that is being worked on (R85)', () => {
  it('shows place and reason, survives kill -9, lets abort pass, and begins when it opens', async () => {
    await using site = await Site.start({ speed: 200 });
    const queue = (...args: string[]) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, 'queue', ...args, '--json'], {
        env: site.environment(),
        encoding: 'utf8',
        timeout: 3 * GIVE_UP_MS,
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      return AnswerSchema.parse(JSON.parse(stdout));
    };
    const placeOf = (id: string, position: number) =>
      site.until(`position ${position} of ${id}`, async (): Promise<ClusterStatus | false> => {
        const { status } = await site.cluster(id);
        return status?.queue?.position === position && status;
      });

    expect(queue('hold', 'new release')).toMatchObject({ held: { reason: 'new release' }, waiting: [] });
    const first = await site.createCluster(site.spec({ name: 'first' }));
    await placeOf(first.id, 1);
    const second = await site.createCluster(site.spec({ name: 'second', controlPlane: 1, workers: 1 }));
    expect(await placeOf(second.id, 2)).toMatchObject({
      phase: 'Queued',
      queue: { position: 2, reason: 'new release' },
    });

    await site.killAgent();
    await site.startAgent();
    expect(await site.until('the line', async () => queue('list').waiting.length === 2)).toBe(true);
    expect(queue('list').waiting.map(({ name }) => name)).toEqual(['first', 'second']);
    expect((await site.ledger()).leaked).toEqual([]); // nothing was allocated meanwhile

    await site.call('POST', `/api/v1/clusters/${first.id}/abort`, {});
    await site.waitForPhase(first.id, 'Deleted');
    await placeOf(second.id, 1);
    expect(queue('resume').held).toBeNull();
    await site.waitForPhase(second.id, 'Running');
  });
});
