/** How often a site is listed, and what is done while a large one is: against the simulated region. */
import { describe, expect, it } from 'vitest';
import { Secret, silentLog } from '../../src/base/log.ts';
import { CandidateList } from '../../src/cluster/candidates.ts';
import { createMaasClient } from '../../src/maas/rest-client.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { clusterSpec } from '../support/node-input.ts';

const never = new AbortController().signal;
const KEPT_MS = 60_000;
const UNKNOWN = { quarantined: new Map<string, string>(), architectures: [] };
const [POOL] = clusterSpec({
  pools: [{ role: 'control-plane', name: 'cp', size: 1, placement: { resourcePool: 'kubernetes' } }],
}).pools;

/** 30 machines; each that is listed takes `listedMachineMs`. */
async function region(listedMachineMs: number) {
  const stack = new AsyncDisposableStack();
  const clock = stack.use(new LeapingClock());
  const simulator = stack.use(await startSimulator({ latency: { listedMachineMs }, clock }));
  const maas = stack.use(
    createMaasClient({
      endpoint: simulator.maasUrl,
      apiKey: new Secret(simulator.adminKey),
      clock,
      log: silentLog,
    }),
  );
  if (!POOL) throw new Error('the spec has no pool');
  return {
    pool: POOL,
    clock,
    candidates: new CandidateList(maas, clock, KEPT_MS),
    lists: () => simulator.stats().byRoute['GET machines'] ?? 0,
    looks: () => simulator.stats().byRoute['POST machines allocate'] ?? 0,
    ledger: simulator.ledger,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

describe('a site is listed', () => {
  it('once for all who ask, until something becomes Ready again', async () => {
    await using site = await region(0);
    const ask = () => site.candidates.ordered(site.pool, UNKNOWN, new Map(), never);
    const [first] = await Promise.all([
      ask(),
      ask(),
      site.candidates.next(site.pool, UNKNOWN, new Map(), never),
    ]);
    expect(first.length).toBeGreaterThan(10);
    expect(site.lists()).toBe(1);
    site.candidates.forget();
    await site.candidates.next(site.pool, UNKNOWN, new Map(), never);
    expect(site.lists()).toBe(1);
    await ask();
    expect(site.lists()).toBe(2);
  });

  it('anew when the question before was given up', async () => {
    await using site = await region(100);
    const impatient = new AbortController();
    const given = site.candidates
      .ordered(site.pool, UNKNOWN, new Map(), impatient.signal)
      .catch(() => 'gone');
    impatient.abort(new Error('deleted'));
    expect(await given).toBe('gone');
    expect((await site.candidates.ordered(site.pool, UNKNOWN, new Map(), never)).length).toBeGreaterThan(10);
  });
});

describe('a list that several wait for', () => {
  it('goes on for the others when the one who began it leaves', async () => {
    await using site = await region(60);
    const first = new AbortController();
    const begun = site.candidates
      .ordered(site.pool, UNKNOWN, new Map(), first.signal)
      .catch((error: Error) => error.message);
    const other = site.candidates.ordered(site.pool, UNKNOWN, new Map(), never);
    const soon = site.candidates.readySoon(['kubernetes'], never);
    first.abort(new Error('its cluster is deleted'));
    expect(await begun).toBe('its cluster is deleted');
    expect((await other).length).toBeGreaterThan(10);
    await soon;
  });

  it('is too long for all who asked for it soon', async () => {
    await using site = await region(150);
    const soon = () => site.candidates.readySoon(['kubernetes'], never);
    const asked = [soon(), soon()];
    await site.clock.sleep(5);
    asked.push(soon());
    expect(await Promise.all(asked)).toEqual([undefined, undefined, undefined]);
  });
});

describe('while a large site is listed', () => {
  it('MAAS picks the next machine, in the zone with the fewest nodes, and takes none', async () => {
    await using site = await region(150);
    const whole = site.candidates.ordered(site.pool, UNKNOWN, new Map(), never);
    const nodes = new Map([
      ['rack-a', 1],
      ['rack-c', 1],
    ]);
    const picked = await site.candidates.next(site.pool, UNKNOWN, nodes, never);
    expect(picked.map(({ zone }) => zone)).toEqual(['rack-b']);
    expect(await site.candidates.readySoon(['kubernetes'], never)).toBeUndefined();
    expect(site.ledger.entries()).toEqual([]);
    // Taken while the list was under way: the list must not offer it again.
    const [taken] = picked;
    site.candidates.remove(taken?.systemId ?? '');
    expect((await whole).map(({ systemId }) => systemId)).not.toContain(taken?.systemId);
  });

  it('a machine in quarantine is not picked: the list decides', async () => {
    await using site = await region(100);
    const all = await site.candidates.ordered(site.pool, UNKNOWN, new Map(), never);
    const best = all[0]?.systemId ?? '';
    const wary = { quarantined: new Map([[best, 'failed yesterday']]), architectures: [] };
    await using again = await region(100);
    const next = await again.candidates.next(again.pool, wary, new Map(), never);
    expect(next.length).toBeGreaterThan(0);
    expect(next.map(({ systemId }) => systemId)).not.toContain(best);
  });

  it('a zone that has nothing is not asked again until something becomes Ready', async () => {
    await using site = await region(150);
    const busy = new Map(['rack-a', 'rack-b', 'rack-c'].map((zone) => [zone, 3] as const));
    const next = () => site.candidates.next(site.pool, UNKNOWN, busy, never);
    // Zone `default` has the fewest nodes, and no machine.
    const [first] = await next();
    expect(first?.zone).toMatch(/^rack-/);
    const before = site.looks();
    site.candidates.remove(first?.systemId ?? '');
    await next();
    expect(site.looks() - before).toBe(1);
    site.candidates.forget();
    site.candidates.remove(first?.systemId ?? '');
    await next();
    expect(site.looks() - before).toBe(3);
  });

  it('the look of the site check serves the first claim, unless its machine was taken', async () => {
    await using site = await region(150);
    const seen = await site.candidates.sample(site.pool, UNKNOWN, never);
    const next = async () => (await site.candidates.next(site.pool, UNKNOWN, new Map(), never))[0]?.systemId;
    expect(await next()).toBe(seen?.systemId);
    expect(site.looks()).toBe(1);
    site.candidates.remove(seen?.systemId ?? '');
    await next();
    expect(site.looks()).toBe(2);
  });

  it('behind a machine in quarantine the other zones are still looked at', async () => {
    await using site = await region(150);
    const best = await site.candidates.sample(site.pool, UNKNOWN, never);
    const wary = { quarantined: new Map([[best?.systemId ?? '', 'failed']]), architectures: [] };
    const picked = await site.candidates.sample(site.pool, wary, never);
    expect(picked).toBeDefined();
    expect(picked?.zone).not.toBe(best?.zone);
  });
});
