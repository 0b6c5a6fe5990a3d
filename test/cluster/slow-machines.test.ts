/** X13: when a task is expected to end, from what it took at this site, and that it takes longer. */
import { expect, it } from 'vitest';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';

it('a machine that installs longer than those before it is said to be slow, also after a restart', async () => {
  const site = new FakeSite(8);
  await using harness = new EngineHarness(site, { deployDeadlineMs: 60_000 });
  const { spec } = document();
  await harness.want(document());
  const running = await harness.phase('Running');
  const took = running.nodes
    .flatMap(({ tasks }) => tasks.filter(({ name }) => name === 'deploy'))
    .map(({ startedAt, finishedAt }) => Date.parse(finishedAt ?? '') - Date.parse(startedAt ?? ''))
    .sort((a, b) => a - b);
  expect(took).toHaveLength(6);
  site.faults.deployStuck = () => true;
  const pools = spec.pools.map((pool) => (pool.role === 'worker' ? { ...pool, size: pool.size + 1 } : pool));
  await harness.want(document({ spec: { ...spec, pools } }));
  const installing = async (slow: boolean) => {
    const status = await harness.until(slow ? 'slow' : 'expected', ({ nodes }) =>
      nodes.some(({ tasks }) =>
        tasks.some((task) => task.etaAt !== undefined && (task.slowerThanUsual === true) === slow),
      ),
    );
    const [task] = status.nodes.flatMap(({ tasks }) => tasks.filter(({ etaAt }) => etaAt !== undefined));
    if (!task) throw new Error('no task has an expected end');
    return { name: task.name, usualMs: Date.parse(task.etaAt ?? '') - Date.parse(task.startedAt ?? '') };
  };
  const usual = { name: 'deploy', usualMs: took[3] };
  expect(await installing(false)).toEqual(usual);
  expect(await installing(true)).toEqual(usual);
  harness.crash();
  expect(await installing(true)).toEqual(usual);
});
