/** Machines that were cloned are reported, once, and with a next step; a cluster of them still runs. */
import { describe, expect, it } from 'vitest';
import { clones } from '../../src/cluster/clones.ts';
import { readNode } from '../../src/cluster/observe.ts';
import { document } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

function nodes(literals: Record<string, { machineID?: string; systemUUID?: string; ready?: string }>) {
  const list = Object.entries(literals).map(([name, { ready = 'True', ...nodeInfo }]) =>
    readNode({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name },
      status: { conditions: [{ type: 'Ready', status: ready }], nodeInfo },
    }),
  );
  return clones({ kind: 'reachable', endpoint: true, configured: true, nodes: list, componentFaults: [] });
}

describe('the identity of a node', () => {
  it('is compared with that of every other', () => {
    const found = nodes({
      a: { machineID: 'm1', systemUUID: 'AAAA-1' },
      b: { machineID: 'm1', systemUUID: 'u2' },
      c: { machineID: 'm3', systemUUID: 'aaaa-1' },
      d: { machineID: 'm4', systemUUID: 'u4' },
    });
    expect([...found.keys()].sort()).toEqual(['a', 'b', 'c']);
    expect(found.get('b')).toMatchObject({
      code: 'MACHINE_CLONED',
      message: 'b has the same machine-id as a',
      fix: expect.stringContaining('/etc/machine-id'),
      details: { field: 'machine-id', nodes: ['a', 'b'], count: 2 },
    });
    expect(found.get('c')).toMatchObject({
      message: 'c has the same product UUID as a',
      fix: expect.stringContaining('firmware'),
    });
  });

  it('that nobody has told is no clone, nor is a Node that a machine has left behind', () => {
    expect(nodes({ a: {}, b: {}, c: { machineID: '', systemUUID: ' ' }, d: { machineID: '' } }).size).toBe(0);
    const left = { a: { machineID: 'm1' }, old: { machineID: 'm1', ready: 'Unknown' } };
    expect(nodes(left).size).toBe(0);
    expect(nodes({ ...left, b: { machineID: 'm1', ready: 'False' } }).size).toBe(2);
    expect(clones({ kind: 'unreachable', reason: 'silent' }).size).toBe(0);
  });

  it('that a hundred nodes share is named without naming them all', () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`n${at}`, { machineID: 'm' }]));
    const found = nodes(many);
    expect(found.get('n0')?.message).toBe('n0 has the same machine-id as n1, n2, n3, n4, n5 and 94 more');
    expect(found.get('n9')?.details).toMatchObject({
      count: 100,
      nodes: ['n0', 'n1', 'n2', 'n3', 'n4', 'n9'],
    });
    // Part of every status that is sent: each node costs as much beside a hundred as beside ten.
    const sizeOf = (all: ReturnType<typeof nodes>) => JSON.stringify([...all.values()]).length / all.size;
    expect(sizeOf(found)).toBeLessThan(
      1.2 * sizeOf(nodes(Object.fromEntries(Object.entries(many).slice(0, 10)))),
    );
  });
});

it('a cluster on a cloned image runs and says so, once, also when the gateway is killed', async () => {
  const placement = { resourcePool: 'kubernetes' };
  const pools = [
    { role: 'control-plane' as const, name: 'cp', size: 1 as const, placement },
    { role: 'worker' as const, name: 'workers', size: 2, placement },
  ];
  await using site = await SimulatedSite.start({ speed: 200, faults: ['cloned-image'] });
  await site.want(document({ spec: clusterSpec({ pools }) }));
  const reported = await site.until(
    'reported',
    ({ phase, nodes: all }) => phase === 'Running' && all.every(({ error }) => error !== undefined),
  );
  expect(reported.nodes.map(({ phase, error }) => `${phase} ${error?.code}`)).toEqual(
    Array(3).fill('Ready MACHINE_CLONED'),
  );
  expect(reported.error).toBeUndefined();
  site.crash();
  await site.until('reported again', ({ nodes: all }) => all.every(({ error }) => error !== undefined));
  await site.clock.sleep(1_000);
  const said = (await site.outbox.recentEvents({}, 500)).filter(({ reason }) => reason === 'MachineCloned');
  expect(said.map(({ node }) => node).sort()).toEqual(reported.nodes.map(({ name }) => name).sort());
  expect(said[0]).toMatchObject({ severity: 'warning', error: { code: 'MACHINE_CLONED' } });
});
