/** Following the event log: no gap, nothing twice, whatever order ids become visible in. */
import { describe, expect, it } from 'vitest';
import { createEventTail } from '../../src/maas/event-tail.ts';
import { clientOf, never } from '../support/maas-wire.ts';
import { tinyRegion } from '../support/maas-region.ts';
import { ManualClock } from '../support/manual-clock.ts';

describe('event tail', () => {
  it('hands out each event once, in order, also one that becomes visible late', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region);
    const clock = new ManualClock();
    const tail = createEventTail(client.events, { clock });
    const next = async () => (await tail.next(['a'], never())).events.map((event) => event.type);
    await next();
    region.log('a', 'INFO', 'first', 1001);
    region.log('a', 'INFO', 'third', 1003);
    expect(await next()).toEqual(['first', 'third']);
    region.log('a', 'INFO', 'second', 1002); // drawn before 1003, committed after it
    await clock.advance(30_000);
    expect(await next()).toEqual(['second']);
    expect(await next()).toEqual([]);
    await clock.advance(30_000);
    expect(await next()).toEqual([]);
  });

  it('reads what is new, and only at times goes back over the last minute', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region);
    const clock = new ManualClock();
    const tail = createEventTail(client.events, { clock });
    region.log('a', 'INFO', 'before', 1_000);
    const handedOut: string[] = [];
    const overlaps: number[] = [];
    const read = async () =>
      handedOut.push(...(await tail.next(['a'], never())).events.map((event) => event.type));
    await read();
    // Even ids come in order; each odd one becomes visible 20 s after its neighbours.
    let newest = 1_000;
    for (let round = 0; round < 36; round += 1) {
      const known = newest;
      for (let index = 0; index < 10; index += 1) region.log('a', 'INFO', `e${newest}`, (newest += 2));
      if (round >= 4) region.log('a', 'INFO', `late ${round}`, newest - 81);
      await read();
      overlaps.push(known - Number(region.seen.at(-1)?.query.get('after')));
      await clock.advance(5_000);
    }
    await clock.advance(30_000);
    await read();
    expect(handedOut.filter((type) => type.startsWith('e'))).toHaveLength(360);
    expect(handedOut.filter((type) => type.startsWith('late'))).toHaveLength(32);
    expect(new Set(handedOut).size).toBe(handedOut.length);
    const back = overlaps.filter((ids) => ids > 0);
    expect(back).toHaveLength(6);
    // A minute of ids: twelve rounds of ten events, two ids apart.
    expect(Math.max(...back.slice(1))).toBeLessThanOrEqual(240);
  });

  it('pages through a burst without losing an event', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region);
    const tail = createEventTail(client.events, { clock: new ManualClock(), pageSize: 10 });
    await tail.next(['a'], never());
    for (let index = 0; index < 45; index += 1) region.log('a', 'INFO', `e${index}`);
    const { events, complete } = await tail.next(['a'], never());
    expect(complete).toBe(true);
    expect(events.map((event) => event.type)).toEqual(Array.from({ length: 45 }, (_, index) => `e${index}`));
  });

  it('says that it is incomplete instead of reading a flood for ever', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region);
    const tail = createEventTail(client.events, { clock: new ManualClock(), pageSize: 10 });
    await tail.next(undefined, never());
    for (let index = 0; index < 500; index += 1) region.log('b', 'DEBUG', 'noise');
    expect((await tail.next(undefined, never())).complete).toBe(false);
    region.log('b', 'INFO', 'after the flood');
    const next = await tail.next(undefined, never());
    expect(next.events.map((event) => event.type)).toEqual(['after the flood']);
    expect(next.complete).toBe(true);
  });

  it('remembers nothing of a reading that failed', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region, { limits: { attempts: 1 } });
    const tail = createEventTail(client.events, { clock: new ManualClock() });
    await tail.next(['a'], never());
    region.log('a', 'INFO', 'kept');
    region.down = true;
    await expect(tail.next(['a'], never())).rejects.toThrow();
    region.down = false;
    expect((await tail.next(['a'], never())).events.map((event) => event.type)).toEqual(['kept']);
  });

  it('notices that a rebuilt MAAS counts from the beginning', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region);
    region.log('a', 'INFO', 'old', 90_000);
    const tail = createEventTail(client.events, { clock: new ManualClock() });
    await tail.next(['a'], never());
    region.events.length = 0;
    region.log('a', 'INFO', 'new world', 5);
    const readings = [];
    for (let index = 0; index < 30; index += 1) readings.push(await tail.next(['a'], never()));
    expect(readings.some((reading) => !reading.complete)).toBe(true);
    expect(readings.flatMap((reading) => reading.events).map((event) => event.type)).toEqual(['new world']);
  });

  it('never leaves out the machines beyond one request line', async () => {
    await using region = await tinyRegion();
    await using client = clientOf(region);
    const ids = Array.from({ length: 400 }, (_, index) => `m${index}`);
    region.log('m399', 'INFO', 'last');
    region.log('m0', 'INFO', 'first');
    const events = await client.events({ after: 0, ids }, never());
    expect(events.map((event) => event.type)).toEqual(['last', 'first']);
    expect(region.count('events/')).toBe(3);
  });
});
