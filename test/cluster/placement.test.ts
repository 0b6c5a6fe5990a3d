/** Placement: which machine, why not, and what would help. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assign } from '../../src/cluster/assignment.ts';
import {
  addressIn,
  cidrConflicts,
  formatCidr,
  freeCidr,
  overlaps,
  parseCidr,
} from '../../src/cluster/cidr.ts';
import { explainPlacement } from '../../src/cluster/explain.ts';
import { nodeName } from '../../src/cluster/names.ts';
import { agentName, annotations, parseAgentName, sameStamp, stampOf } from '../../src/cluster/ownership.ts';
import { mismatches, orderCandidates, type PlacementContext } from '../../src/cluster/placement.ts';
import { PoolSchema } from '../../src/contract/cluster.ts';
import { fakeMachine } from '../support/fake-site.ts';

const FREE: PlacementContext = { quarantined: new Map(), architectures: [] };
const pool = (name: string, size: number, placement = {}) =>
  PoolSchema.parse({ role: 'worker', name, size, placement });
const fleet = (count: number, changes: (index: number) => object = () => ({})) =>
  Array.from({ length: count }, (_, index) => fakeMachine(index + 1, changes(index + 1)));

describe('explaining', () => {
  it('counts each machine under the first rule that rejects it, with an example', () => {
    const machines = fleet(6, (index) =>
      index <= 2 ? { status: 'deployed', statusName: 'Deployed' } : index <= 4 ? { memoryMiB: 2048 } : {},
    );
    const report = explainPlacement(machines, [{ pool: pool('w', 3), wanted: 3, index: 0, context: FREE }]);
    expect(report.feasible).toBe(false);
    expect(report.pools[0]).toMatchObject({ matching: 2, wanted: 3 });
    expect(report.pools[0]?.rejections).toEqual([
      { rule: 'state', count: 2, machines: ['host-1', 'host-2'], example: 'host-1 is Deployed' },
      {
        rule: 'min-memory',
        count: 2,
        machines: ['host-3', 'host-4'],
        example: 'host-3 has 2048 MiB memory, needs 4096',
      },
    ]);
  });

  it('proposes the one change that admits most machines', () => {
    const machines = fleet(5, (index) => (index > 1 ? { cpuCount: index } : {}));
    const report = explainPlacement(machines, [
      { pool: pool('w', 3, { minCpu: 8 }), wanted: 3, index: 2, context: FREE },
    ]);
    expect(report.pools[0]?.nearestFix).toBe('Lower the minimum CPU count to 4. (admits 2 of 2 missing)');
    expect(report.problems[0]).toMatchObject({ code: 'NOT_ENOUGH_MACHINES', field: 'spec.pools[2]' });
  });

  it('names quarantined machines and why they are set aside', () => {
    const context = { ...FREE, quarantined: new Map([['m0001', 'DEPLOY_FAILED: disk']]) };
    const report = explainPlacement(fleet(1), [{ pool: pool('w', 1), wanted: 1, index: 0, context }]);
    expect(report.pools[0]?.rejections[0]?.example).toBe('host-1 is in quarantine: DEPLOY_FAILED: disk');
    expect(report.problems[0]?.code).toBe('NO_MATCHING_MACHINE');
  });

  it('lets a picky pool have the machine that an easy pool could do without', () => {
    const machines = fleet(3, (index) => (index === 1 ? { tags: ['ssd'] } : {}));
    const report = explainPlacement(machines, [
      { pool: pool('any', 2), wanted: 2, index: 0, context: FREE },
      { pool: pool('fast', 1, { tags: ['ssd'] }), wanted: 1, index: 1, context: FREE },
    ]);
    expect(report.feasible).toBe(true);
  });
});

describe('assignment', () => {
  it('is as good as trying everything', () => {
    const demand = fc.record({
      wanted: fc.integer({ min: 0, max: 3 }),
      fits: fc.uniqueArray(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }),
    });
    fc.assert(
      fc.property(fc.array(demand, { minLength: 1, maxLength: 3 }), (drawn) => {
        const demands = drawn.map(({ wanted, fits }, index) => ({
          pool: `p${index}`,
          wanted,
          fits: fits.map(String),
        }));
        const total = [...assign(demands).values()].reduce((sum, given) => sum + given, 0);
        expect(total).toBe(
          best(
            demands.flatMap(({ wanted, fits }) => Array.from({ length: wanted }, () => fits)),
            new Set(),
          ),
        );
      }),
      { numRuns: 300 },
    );
  });
});

/** Most slots that can be served, by trying every choice. */
function best(slots: readonly (readonly string[])[], used: ReadonlySet<string>): number {
  const [first, ...rest] = slots;
  if (!first) return 0;
  let most = best(rest, used);
  for (const id of first) if (!used.has(id)) most = Math.max(most, 1 + best(rest, new Set([...used, id])));
  return most;
}

describe('order of candidates', () => {
  it('prefers the emptiest zone, then the smallest machine that fits', () => {
    const machines = [
      fakeMachine(1, { zone: 'a', memoryMiB: 65536 }),
      fakeMachine(2, { zone: 'b', memoryMiB: 65536 }),
      fakeMachine(3, { zone: 'b', memoryMiB: 8192 }),
    ];
    const ordered = orderCandidates(machines, pool('w', 1), FREE, new Map([['a', 1]]));
    expect(ordered.map(({ systemId }) => systemId)).toEqual(['m0003', 'm0002', 'm0001']);
  });

  it('never offers a machine that breaks a rule, whatever the fleet', () => {
    const machine = fc.record({
      cpuCount: fc.integer({ min: 1, max: 16 }),
      memoryMiB: fc.integer({ min: 512, max: 65536 }),
      locked: fc.boolean(),
      virtual: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(machine, { maxLength: 20 }), (drawn) => {
        const machines = drawn.map((changes, index) => fakeMachine(index + 1, changes));
        for (const chosen of orderCandidates(machines, pool('w', 1, { minCpu: 4 }), FREE, new Map())) {
          expect(chosen.cpuCount).toBeGreaterThanOrEqual(4);
          expect(chosen.memoryMiB).toBeGreaterThanOrEqual(4096);
          expect(chosen.locked || chosen.virtual).toBe(false);
        }
      }),
    );
  });

  it('verifies what MAAS returned against every lasting rule, and not its state', () => {
    const allocated = fakeMachine(1, { status: 'allocated', pool: 'other', storageGb: 10, virtual: true });
    expect(mismatches(allocated, pool('w', 1).placement, FREE).map((text) => text.split(':')[0])).toEqual([
      'resource-pool',
      'min-disk',
      'bare-metal',
    ]);
    expect(mismatches(fakeMachine(2, { status: 'allocated' }), pool('w', 1).placement, FREE)).toEqual([]);
  });
});

describe('ranges', () => {
  it('finds overlaps and proposes a range that overlaps nothing', () => {
    const conflicts = cidrConflicts({ podCidr: '192.168.0.0/16', serviceCidr: '10.96.0.0/12' }, [
      '192.168.7.0/24',
      '172.16.0.0/16',
    ]);
    expect(conflicts).toEqual([
      {
        field: 'spec.network.podCidr',
        range: '192.168.0.0/16',
        with: '192.168.7.0/24',
        proposal: '172.17.0.0/16',
      },
    ]);
  });

  it('proposals are free and of the asked size, for any set of networks', () => {
    const cidr = fc
      .tuple(fc.nat(0xffffffff), fc.integer({ min: 8, max: 30 }))
      .map(([base, prefix]) =>
        formatCidr({ base: Math.floor(base / 2 ** (32 - prefix)) * 2 ** (32 - prefix), prefix }),
      );
    fc.assert(
      fc.property(fc.array(cidr, { maxLength: 12 }), fc.integer({ min: 12, max: 24 }), (taken, prefix) => {
        const free = freeCidr(prefix, taken);
        if (free === undefined) return;
        const own = parseCidr(free);
        expect(own?.prefix).toBe(prefix);
        for (const other of taken) {
          const network = parseCidr(other);
          expect(own && network && overlaps(own, network)).toBe(false);
        }
      }),
    );
  });

  it.each(['10.0.0.0', '10.0.0/8', '10.0.0.0/33', '10.0.0.256/8', 'x/8', '10.0.0.0/8/9', ''])(
    'refuses %j',
    (text) => {
      expect(parseCidr(text)).toBeUndefined();
    },
  );

  it('knows whether an address is inside', () => {
    expect(addressIn('10.20.0.0/24', '10.20.0.255')).toBe(true);
    expect(addressIn('10.20.0.0/24', '10.20.1.0')).toBe(false);
    expect(addressIn('0.0.0.0/0', '255.255.255.255')).toBe(true);
  });
});

describe('stamps and names', () => {
  const stamp = { gateway: 'gw-one', cluster: 'cl-demo', node: 'demo-cp-x', operation: 'op1' };

  it('survive the way through MAAS', () => {
    expect(parseAgentName(agentName(stamp))).toEqual(stamp);
    const machine = fakeMachine(1, {
      annotations: annotations(stamp, { clusterName: 'demo', pool: 'cp', role: 'control-plane' }),
    });
    expect(sameStamp(stampOf(machine), stamp)).toBe(true);
  });

  it('of somebody else, half a stamp, or none are not ours', () => {
    expect(sameStamp(stampOf(fakeMachine(1)), stamp)).toBe(false);
    expect(
      stampOf(fakeMachine(1, { annotations: { 'pcg-gateway': 'gw-one', 'pcg-cluster': 'cl-demo' } })),
    ).toBeUndefined();
    expect(sameStamp({ ...stamp, operation: 'op2' }, stamp)).toBe(false);
    for (const text of ['', 'a.b.c', 'a.b.c.d.e', 'a..c.d', 'juju-model-uuid'])
      expect(parseAgentName(text)).toBeUndefined();
  });

  it('node names are unique, short enough for a label, and start with the cluster', () => {
    const long = nodeName('c'.repeat(40), 'p'.repeat(40), new Set(), Math.random);
    expect(long.length).toBeLessThanOrEqual(63);
    expect(long).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])$/);
    const taken = new Set<string>();
    for (let index = 0; index < 500; index += 1) {
      const name = nodeName('demo', 'w', taken, Math.random);
      expect(taken.has(name)).toBe(false);
      taken.add(name);
    }
  });
});
