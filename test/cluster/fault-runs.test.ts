/**
 * Five clusters live and die at the same time on a site where everything goes wrong by chance: no machine is lost,
 * taken twice or touched although it is somebody else's, and every cluster ends. `PCG_FAULT_SEEDS=1000` runs that
 * many seeds, `PCG_FAULT_FIRST=17` starts there; every eighth runs on the whole simulated Kubernetes. The time of
 * these runs is their own: a busy machine only makes them longer.
 */
import { describe, expect, it } from 'vitest';
import { CLEAN, type FaultRun, faultRun } from '../support/fault-run.ts';

const SEEDS = Number(process.env['PCG_FAULT_SEEDS'] ?? 8);
const FIRST = Number(process.env['PCG_FAULT_FIRST'] ?? 1);

const runs: FaultRun[] = [];

/** What became of the clusters that were watched to their end, in one kind of run. */
function statistics(full: boolean) {
  const these = runs.filter((run) => run.full === full);
  const count = (of: readonly FaultRun[], test: (end: string) => boolean) =>
    of.flatMap(({ ends }) => ends.filter(test)).length;
  const watched = (end: string) => end !== 'aborted';
  return {
    runs: these.length,
    aborted: count(these, (end) => !watched(end)),
    running: count(these, (end) => end === 'Running'),
    failed: count(these, (end) => end.startsWith('Failed')),
    /** Watched where too few machines were struck to fail a cluster. */
    hopeful: count(
      these.filter(({ exhausting }) => !exhausting),
      watched,
    ),
  };
}

describe('whatever goes wrong', () => {
  const seeds = Array.from({ length: SEEDS }, (_, index) => FIRST + index);
  it.each(seeds)('no machine is lost, shared or stolen (seed %i)', async (seed) => {
    const run = await faultRun(seed);
    const { faults, verdict } = run;
    runs.push(run);
    expect({ faults, ...verdict }).toEqual({ faults, ...CLEAN });
  });

  it.each([
    ['the simulated Kubernetes', true],
    ['Kubernetes in memory', false],
  ])('clusters also reach Running, on %s', (name, full) => {
    const ends = statistics(full);
    process.stdout.write(`fault runs on ${name}: ${JSON.stringify(ends)}\n`);
    expect(ends).toSatisfy(({ running, hopeful }) => running > 0 || hopeful === 0);
  });
});
