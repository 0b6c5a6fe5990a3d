/** The observer against a tiny region, on a manual clock: what it asks, whom it wakes, what it believes. */
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createMaasObserver, type MaasObserver } from '../../src/maas/observer.ts';
import { clientOf, never } from '../support/maas-wire.ts';
import { tinyRegion, type TinyRegion } from '../support/maas-region.ts';
import { ManualClock } from '../support/manual-clock.ts';

const READY = 4;
const DEPLOYED = 6;
const DEPLOYING = 9;
const ALLOCATED = 10;
const MINUTE = 60_000;

interface Watch extends AsyncDisposable {
  readonly region: TinyRegion;
  readonly observer: MaasObserver;
  readonly clock: ManualClock;
  /** Keys of each wake-up so far. */
  readonly woken: string[][];
  /** Moves time in steps, each poll running to its end. */
  pass(ms: number): Promise<void>;
}

async function watch(idleMs = 30_000): Promise<Watch> {
  const region = await tinyRegion();
  const client = clientOf(region, { limits: { attempts: 1 } });
  const clock = new ManualClock();
  const observer = createMaasObserver({
    client,
    clock,
    log: silentLog,
    intervals: { activeMs: 5_000, idleMs },
  });
  const woken: string[][] = [];
  observer.onChange((keys) => woken.push([...keys].sort()));
  const stop = new AbortController();
  let running: Promise<void> | undefined;
  /** A poll uses real sockets; it is over when the observer sleeps again. */
  const asleep = async (): Promise<void> => {
    for (let quiet = 0; quiet < 3; quiet = clock.pending > 0 ? quiet + 1 : 0) await new Promise(setImmediate);
  };
  return {
    region,
    observer,
    clock,
    woken,
    async pass(ms) {
      running ??= observer.run(stop.signal);
      await asleep();
      for (let left = ms; left > 0; left -= 100) {
        await clock.advance(Math.min(100, left));
        await asleep();
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      await client[Symbol.asyncDispose]();
      await region[Symbol.asyncDispose]();
    },
  };
}

/** Every machine gets an address that MAAS keeps for it. */
function address({ region }: Watch): void {
  for (const [index, id] of [...region.machines.keys()].entries())
    region.addresses.set(id, `10.0.0.${index + 1}`);
}

/** Clusters c1..cN of six deployed machines each. */
function populate({ region, observer }: Watch, clusters: number): void {
  for (let cluster = 1; cluster <= clusters; cluster += 1) {
    const ids = Array.from({ length: 6 }, (_, node) => `m${cluster}x${node}`);
    for (const id of ids) region.machines.set(id, DEPLOYED);
    observer.track(`c${cluster}`, ids);
  }
}

describe('what it asks', () => {
  it('reads tracked machines by id at once and never lists the fleet', async () => {
    await using at = await watch();
    populate(at, 2);
    await at.pass(100);
    expect(at.observer.machines('c1').map((sighting) => sighting.machine?.status)).toEqual(
      Array(6).fill('deployed'),
    );
    expect(at.region.count('machines/')).toBe(1);
    expect(at.observer.state.kind).toBe('ok');
  });

  it('asks as often for 100 clusters at rest as for one', async () => {
    const perHour = async (clusters: number): Promise<number> => {
      await using at = await watch(MINUTE); // as the agent
      populate(at, clusters);
      address(at);
      await at.pass(MINUTE);
      const before = at.region.seen.length;
      await at.pass(30 * MINUTE);
      return (at.region.seen.length - before) * 2;
    };
    const [one, hundred] = [await perHour(1), await perHour(100)];
    expect(hundred).toBe(one);
    expect(one).toBeLessThanOrEqual(160); // a tail and a look at the addresses a minute, a slice every 150 s, the end of the log at times
  });

  it('leaves a slow region alone for longer than it keeps it busy', async () => {
    await using at = await watch();
    populate(at, 1);
    at.observer.active('c1', true);
    await at.pass(1_000);
    at.region.beforeEventsAnswer = () => at.clock.jump(0, 4_000);
    await at.pass(6_000); // one slow query
    const before = at.region.count('events/');
    await at.pass(19_000);
    expect(at.region.count('events/') - before).toBeLessThanOrEqual(1);
  });

  it('asks only for the user when nothing is tracked', async () => {
    await using at = await watch();
    await at.pass(MINUTE);
    expect(new Set(at.region.seen.map((seen) => seen.path))).toEqual(new Set(['users/']));
    expect(at.observer.state.kind).toBe('ok');
  });

  it('answers forty refreshes made at once with two rounds of reads, each begun after its wish', async () => {
    await using at = await watch();
    populate(at, 40);
    await at.pass(100);
    const before = at.region.seen.length;
    await Promise.all(
      Array.from({ length: 40 }, (_, index) => at.observer.refresh(`c${index + 1}`, never())),
    );
    const reads = at.region.seen.slice(before).map((seen) => seen.query.getAll('id').length);
    expect(reads.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(2 * 240);
    expect(reads.length).toBeLessThanOrEqual(2 * 5);
  });
});

describe('what it does not read', () => {
  it('machines that go on installing: it only asks whether one stopped to', async () => {
    await using at = await watch();
    populate(at, 5);
    for (const id of at.region.machines.keys()) at.region.machines.set(id, DEPLOYING);
    at.observer.active('c1', true);
    await at.pass(1_000);
    expect(at.region.listed).toBe(30);
    await at.pass(115_000);
    expect(at.region.listed).toBe(30);
    const sightings = at.observer.machines('c1');
    const oldest = Math.min(...sightings.map(({ observedAt }) => observedAt ?? 0));
    expect(at.clock.now() - oldest).toBeLessThanOrEqual(36_000);
    const looks = at.region.seen.filter((seen) => seen.query.has('status'));
    expect(looks.length).toBeLessThanOrEqual(4);
  });

  it('a machine whose action has just answered with what the event says', async () => {
    await using at = await watch();
    populate(at, 1);
    at.region.machines.set('m1x0', ALLOCATED);
    at.observer.active('c1', true);
    await at.pass(1_000);
    const answer = at.observer.machines('c1')[0]?.machine;
    if (answer === undefined) throw new Error('not read');
    at.region.move('m1x0', DEPLOYING);
    at.observer.saw({ ...answer, status: 'deploying', statusName: `S${DEPLOYING}` });
    const before = at.region.listed;
    await at.pass(10_000);
    expect(at.region.listed).toBe(before);
    // To and fro: the names at both ends are the same, what happened between is not.
    at.region.move('m1x0', ALLOCATED);
    at.region.move('m1x0', DEPLOYING);
    await at.pass(10_000);
    expect(at.region.listed).toBe(before + 1);
  });

  it('a machine for the message that its event brings', async () => {
    await using at = await watch();
    populate(at, 1);
    at.observer.active('c1', true);
    await at.pass(1_000);
    const before = at.region.listed;
    at.region.log('m1x0', 'INFO', 'Configuring storage');
    at.region.log('m1x0', 'DEBUG', 'HTTP Request');
    await at.pass(10_000);
    expect(at.observer.machines('c1')[0]?.machine?.statusMessage).toBe('Configuring storage');
    expect(at.region.listed).toBe(before);
  });
});

describe('whom it wakes', () => {
  it('wakes only the cluster whose machine changed, within the active interval', async () => {
    await using at = await watch();
    populate(at, 3);
    at.observer.active('c2', true);
    await at.pass(1_000);
    at.woken.length = 0;
    at.region.move('m2x3', DEPLOYING);
    const before = at.region.seen.length;
    await at.pass(5_000);
    expect(at.woken).toEqual([['c2']]);
    expect(at.observer.machines('c2')[3]?.machine?.status).toBe('deploying');
    const reads = at.region.seen.slice(before).filter((seen) => seen.path === 'machines/');
    expect(reads.map((seen) => seen.query.getAll('id'))).toEqual([['m2x3']]);
  });

  it('hands on the events of a machine and wakes its cluster for those of level INFO', async () => {
    await using at = await watch();
    populate(at, 2);
    await at.pass(1_000);
    at.woken.length = 0;
    at.region.log('m1x0', 'INFO', 'Installing OS');
    at.region.log('m2x0', 'DEBUG', 'PXE Request');
    await at.pass(30_000);
    expect(at.woken).toEqual([['c1']]);
    expect(at.observer.eventsFor('m1x0').map((event) => event.type)).toEqual(['Installing OS']);
    expect(at.observer.eventsFor('m2x0').map((event) => event.type)).toEqual(['PXE Request']);
  });

  it('survives a listener that throws', async () => {
    await using at = await watch();
    at.observer.onChange(() => {
      throw new Error('listener');
    });
    const late: string[] = [];
    at.observer.onChange((keys) => late.push(...keys));
    populate(at, 1);
    await at.pass(100);
    expect(late).toContain('c1');
  });
});

describe('what it finds without an event', () => {
  it('re-reads a moving machine', async () => {
    await using at = await watch();
    populate(at, 1);
    at.region.machines.set('m1x0', DEPLOYING);
    await at.pass(1_000);
    at.region.machines.set('m1x0', DEPLOYED); // written straight into the database, as 3.6 does
    await at.pass(36_000);
    expect(at.observer.machines('c1')[0]?.machine?.status).toBe('deployed');
  });

  it('sees within two minutes and a bit that an installing machine was deleted', async () => {
    await using at = await watch();
    populate(at, 1);
    at.region.machines.set('m1x0', DEPLOYING);
    at.observer.active('c1', true);
    await at.pass(1_000);
    at.region.machines.delete('m1x0');
    await at.pass(130_000);
    expect(at.observer.machines('c1')[0]).toMatchObject({ systemId: 'm1x0', machine: undefined });
    expect(at.woken.at(-1)).toEqual(['c1']);
  });

  it.each([
    ['at rest', false],
    ['while its cluster waits for something', true],
  ])('sees within a minute and a bit that a deployed machine was deleted %s', async (_when, active) => {
    await using at = await watch();
    populate(at, 20);
    address(at);
    at.observer.active('c3', active);
    await at.pass(MINUTE);
    const before = at.region.listed;
    at.woken.length = 0;
    at.region.machines.delete('m3x2');
    await at.pass(40_000);
    expect(at.observer.machines('c3')[2]).toMatchObject({ systemId: 'm3x2', machine: undefined });
    expect(at.woken).toEqual([['c3']]);
    expect(at.region.listed).toBe(before); // nobody else was read for it
  });

  it('sees a release by hand within a poll at rest', async () => {
    await using at = await watch();
    populate(at, 20);
    address(at);
    await at.pass(MINUTE);
    at.region.move('m3x2', READY);
    await at.pass(31_000);
    expect(at.observer.machines('c3')[2]?.machine?.status).toBe('ready');
  });

  it('reads a machine whose address went once, and does not take that for its end', async () => {
    await using at = await watch();
    populate(at, 1);
    address(at);
    await at.pass(MINUTE);
    at.region.addresses.set('m1x4', '10.0.0.99'); // somebody changed it by hand
    const before = at.region.listed;
    await at.pass(31_000);
    expect(at.region.listed).toBe(before + 1);
    expect(at.observer.machines('c1')[4]?.machine?.status).toBe('deployed');
    await at.pass(3 * MINUTE);
    const slices = at.region.listed - before - 1;
    expect(slices).toBeLessThanOrEqual(4); // those of the regular renewal
  });

  it('goes without the addresses of a subnet that MAAS does not show', async () => {
    await using at = await watch();
    populate(at, 1);
    address(at);
    at.region.refuseSubnets = true;
    await at.pass(5 * MINUTE);
    expect(at.observer.state.kind).toBe('ok');
    expect(at.region.count('subnets/7/')).toBe(1);
    at.region.refuseSubnets = false;
    await at.pass(10 * MINUTE);
    expect(at.region.count('subnets/7/')).toBeGreaterThan(5);
  });

  it('re-reads every machine at rest within ten minutes and a bit', async () => {
    await using at = await watch();
    populate(at, 30);
    await at.pass(1_000);
    for (const id of at.region.machines.keys()) at.region.machines.set(id, ALLOCATED);
    await at.pass(13 * MINUTE);
    const statuses = Array.from({ length: 30 }, (_, index) => at.observer.machines(`c${index + 1}`)).flat();
    expect(new Set(statuses.map((sighting) => sighting.machine?.status))).toEqual(new Set(['allocated']));
  });
});

describe('what it believes', () => {
  it('does not take a machine for gone because a list came back short', async () => {
    await using at = await watch();
    populate(at, 1);
    await at.pass(1_000);
    at.region.hiddenFromLists.add('m1x0');
    await expect(at.observer.refresh('c1', never())).rejects.toMatchObject({ code: 'MAAS_PROTOCOL' });
    expect(at.observer.machines('c1')[0]?.machine?.status).toBe('deployed');
  });

  it('reports a machine that is really gone', async () => {
    await using at = await watch();
    populate(at, 1);
    await at.pass(1_000);
    at.region.machines.delete('m1x0');
    const sightings = await at.observer.refresh('c1', never());
    expect(sightings[0]).toMatchObject({ systemId: 'm1x0', machine: undefined });
    expect(sightings[0]?.observedAt).toBeDefined();
    expect(at.woken.at(-1)).toEqual(['c1']);
  });

  it('keeps what it knows while MAAS is down, says so once, and tells everybody when it is back', async () => {
    await using at = await watch();
    populate(at, 2);
    await at.pass(1_000);
    at.woken.length = 0;
    at.region.down = true;
    await at.pass(5 * MINUTE);
    expect(at.observer.state).toMatchObject({ kind: 'failing', error: { code: 'MAAS_UNREACHABLE' } });
    const [outage] = at.observer.outages();
    expect((outage?.until ?? 0) - (outage?.from ?? 0)).toBeGreaterThan(3 * MINUTE);
    expect(at.observer.machines('c1')[0]?.machine?.status).toBe('deployed');
    expect(at.woken).toEqual([['c1', 'c2']]);
    at.region.down = false;
    await at.pass(MINUTE);
    expect(at.observer.state.kind).toBe('ok');
    expect(at.woken.at(-1)).toEqual(['c1', 'c2']);
    const ended = at.observer.outages();
    await at.pass(5 * MINUTE);
    expect(ended).toHaveLength(1);
    expect(at.observer.outages()).toEqual(ended);
  });

  it('does not overwrite the answer of an action with a reading that began before it', async () => {
    await using at = await watch();
    populate(at, 1);
    at.region.machines.set('m1x0', ALLOCATED);
    await at.pass(1_000);
    const answer = at.observer.machines('c1')[0]?.machine;
    if (answer === undefined) throw new Error('not read');
    at.region.beforeListAnswer = async () => {
      at.clock.jump(0, 10);
      at.observer.saw({ ...answer, status: 'deploying' });
    };
    await at.observer.refresh('c1', never());
    expect(at.observer.machines('c1')[0]?.machine?.status).toBe('deploying');
  });

  it('forgets machines that nobody tracks any more', async () => {
    await using at = await watch();
    populate(at, 2);
    at.observer.track('also', ['m1x0']);
    await at.pass(1_000);
    at.observer.untrack('c1');
    at.observer.untrack('c2');
    expect(at.observer.machines('c1')).toEqual([]);
    expect(at.observer.machines('also')[0]?.machine?.status).toBe('deployed');
    await at.pass(10 * MINUTE);
    const asked = at.region.seen.slice(-5).flatMap((seen) => seen.query.getAll('id'));
    expect(new Set(asked)).toEqual(new Set(['m1x0']));
  });
});
