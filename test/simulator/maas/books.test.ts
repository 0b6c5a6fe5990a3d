/** The arithmetic and the memory behind the API: address space, nonces, rendered machines. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import {
  formatIp,
  freeRanges,
  hostRange,
  mergeUsed,
  nextFree,
  parseCidr,
  parseIp,
  rangeSize,
} from '../../../src/simulator/maas/ipv4.ts';
import { MachineCache } from '../../../src/simulator/maas/machine-cache.ts';
import { Nonces } from '../../../src/simulator/maas/nonces.ts';
import { populate } from '../../../src/simulator/maas/populate.ts';
import { Region } from '../../../src/simulator/maas/region.ts';
import { renderMachine } from '../../../src/simulator/maas/render-machine.ts';
import { flavourOf } from '../../../src/simulator/maas/version.ts';
import { defaultScenario } from '../../../src/simulator/scenario.ts';

const ip = (text: string): number => parseIp(text) ?? Number.NaN;

describe('address space', () => {
  it('reads addresses and networks back as written', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), (address, prefix) => {
        expect(formatIp(ip(address))).toBe(address);
        const cidr = parseCidr(`${address}/${prefix}`);
        expect(cidr && ip(address) >= cidr.network && ip(address) <= cidr.broadcast).toBe(true);
      }),
    );
  });

  it.each(['10.0.0', '10.0.0.256', '10.0.0.1/33', 'a.b.c.d', '', '10.0.0.0/', '10.0.0.0/8/8'])(
    'refuses %j',
    (text) => {
      expect(parseCidr(text)).toBeUndefined();
    },
  );

  it('splits a subnet into used and free without gap or overlap', () => {
    const within = hostRange(parseCidr('10.0.0.0/24') ?? { text: '', network: 0, broadcast: 0, prefix: 0 });
    const used = fc.array(
      fc
        .tuple(fc.integer({ min: within.start, max: within.end }), fc.integer({ min: 0, max: 40 }))
        .map(([start, length]) => ({
          start,
          end: Math.min(start + length, within.end),
          purpose: ['assigned-ip'],
        })),
    );
    fc.assert(
      fc.property(used, (ranges) => {
        const taken = new Set(
          ranges.flatMap((one) => Array.from({ length: rangeSize(one) }, (_, at) => one.start + at)),
        );
        const free = freeRanges(within, mergeUsed(ranges));
        expect(free.reduce((sum, one) => sum + rangeSize(one), 0)).toBe(rangeSize(within) - taken.size);
        const next = nextFree(free);
        expect(next === undefined).toBe(taken.size === rangeSize(within));
        if (next !== undefined) expect(taken.has(next)).toBe(false);
      }),
    );
  });

  it('fills the smallest gap first, as measured on a real MAAS', () => {
    const free = [
      { start: 20, end: 59 },
      { start: 63, end: 66 },
      { start: 68, end: 199 },
      { start: 251, end: 254 },
    ];
    expect(nextFree(free)).toBe(63);
  });
});

describe('nonces', () => {
  it('are remembered while their timestamps count, and forgotten in bulk after that', () => {
    const nonces = new Nonces();
    for (let at = 0; at < 50_000; at += 1) nonces.add(`old ${at}`, 0);
    nonces.add('fresh', 2 * 60_000);
    expect([nonces.has('old 0'), nonces.has('fresh')]).toEqual([true, true]);
    nonces.add('later', 11 * 60_000);
    expect([nonces.has('old 0'), nonces.has('fresh'), nonces.has('later')]).toEqual([false, true, true]);
  });
});

describe('rendered machines', () => {
  it('are never older than what they show', () => {
    const region = new Region(defaultScenario({ machines: 3 }), flavourOf('3.7'), systemClock);
    populate(region, defaultScenario({ machines: 3 }));
    const cache = new MachineCache(region);
    const [machine] = region.machines.values();
    if (!machine) throw new Error('there is a machine');
    const changes: (() => void)[] = [
      () => (machine.status = 'allocated'),
      () => (machine.owner = 'admin'),
      () => machine.ownerData.set('a', '1'),
      () => machine.ownerData.set('a', '2'),
      () => machine.tags.add('x'),
      () => (machine.powerState = 'on'),
      () => (machine.statusMessage = 'Deploying'),
      () => (machine.installLog = 'log'),
      () => region.claimAutoIps(machine),
      () => (machine.disks[0]!.partitions = []),
      () => (machine.zoneId = 3),
      () => region.dnsResources.push({ id: 1, name: 'n', domainId: 0, addressTtl: null, ips: [] }),
      () => (machine.locked = true),
    ];
    for (const change of changes) {
      const before = cache.text(machine);
      change();
      expect(JSON.parse(cache.text(machine))).toEqual(
        JSON.parse(JSON.stringify(renderMachine(region, machine))),
      );
      expect(cache.text(machine)).not.toBe(before);
      expect(JSON.parse(cache.list([machine]))).toEqual([JSON.parse(cache.text(machine))]);
    }
  });
});
