/** Trouble for changes of clusters on the simulator: the gateway killed between any two steps, MAAS failing by chance. */
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import type { SimulatedSite } from './simulated-site.ts';

/** One write in so many is the last one of its process. */
const KILL_CHANCE = 0.04;
const MAX_KILLS = 12;
export const MAAS_TROUBLE = [
  'http-502:0.05',
  'http-503:0.03',
  'lost-reply:0.03',
  'reset-mid-body:0.02',
  'http-409-retry-after:0.03',
];

export function trouble(site: SimulatedSite, seed: number, kinds: readonly ('kills' | 'maas')[]): void {
  if (kinds.includes('maas')) site.simulator.faults.replace(MAAS_TROUBLE.map(parseFault));
  if (!kinds.includes('kills')) return;
  const random = seededRandom(seed, 'kills');
  // The next write is always one: a change that needs few of them is not spared.
  let next = true;
  site.killOnWrites(() => {
    const strikes = site.kills < MAX_KILLS && (next || random.next() < KILL_CHANCE);
    next = false;
    if (!strikes) return undefined;
    return random.next() < 0.5 ? 'before' : 'after';
  });
}

export function calm(site: SimulatedSite): void {
  site.killOnWrites(undefined);
  site.simulator.faults.replace([]);
}
