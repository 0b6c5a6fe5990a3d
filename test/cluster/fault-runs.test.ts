/**
 * Five clusters live and die at the same time on a site where everything goes wrong by chance: no machine is lost,
 * taken twice or touched although it is somebody else's, and every cluster ends. `PCG_FAULT_SEEDS=1000` runs that
 * many seeds, `PCG_FAULT_FIRST=17` starts there. The time of these runs is their own: a busy machine only makes
 * them longer.
 */
import { describe, expect, it } from 'vitest';
import { CLEAN, faultRun } from '../support/fault-run.ts';

const SEEDS = Number(process.env['PCG_FAULT_SEEDS'] ?? 8);
const FIRST = Number(process.env['PCG_FAULT_FIRST'] ?? 1);

describe('whatever goes wrong', () => {
  const seeds = Array.from({ length: SEEDS }, (_, index) => FIRST + index);
  it.each(seeds)('no machine is lost, shared or stolen (seed %i)', { timeout: 300_000 }, async (seed) => {
    const { faults, verdict } = await faultRun(seed);
    expect({ faults, ...verdict }).toEqual({ faults, ...CLEAN });
  });
});
