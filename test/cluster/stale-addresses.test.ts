/**
 * MAAS writes the answer of deploy before it assigns addresses: until a machine is deployed it shows the address of
 * its commissioning, which may be another machine's by now. Here it always is: nothing of the product may use it.
 */
import { describe, expect, it } from 'vitest';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
const controlPlane = (size: 1 | 3) => ({ role: 'control-plane' as const, name: 'cp', size, placement });
const MINUTE = 60_000;
const EVENTUALLY = { withinMs: 240 * MINUTE };

describe('addresses that MAAS shows before a machine is deployed', () => {
  it('are those of others, and neither asked, nor published, nor shown', async () => {
    await using site = await SimulatedSite.start({
      speed: 1,
      light: true,
      faults: ['stale-address', 'deploy-failed:1@node-0'],
    });
    const { region } = site.simulator;
    await site.want(wanted({ spec: clusterSpec({ pools: [controlPlane(1)] }) }));
    const first = await site.phase('Running', EVENTUALLY);
    const others = new Set([...region.addresses.keys()]); // the first cluster's machine and endpoint
    expect(others.size).toBeGreaterThanOrEqual(2);

    const shown: string[] = [];
    const published: string[] = [];
    const lies: string[] = [];
    const spec = clusterSpec({
      name: 'other',
      pools: [controlPlane(3), { role: 'worker', name: 'w', size: 1, placement }],
      network: { endpoint: { kind: 'maas-dns' } },
    });
    await site.want(wanted({ id: 'cl-other', spec }));
    const running = await site.until(
      'Running',
      ({ phase, nodes }) => {
        shown.push(...nodes.flatMap(({ addresses }) => addresses));
        published.push(...region.dnsResources.flatMap(({ ips }) => ips));
        for (const { systemId, maasStatus } of nodes) {
          const machine = region.machines.get(systemId ?? '');
          if (machine && maasStatus === 'Deploying')
            lies.push(...machine.nics.flatMap(({ discovered }) => discovered?.ip ?? []));
        }
        return phase === 'Running' && nodes.every(({ phase: of }) => of === 'Ready');
      },
      { cluster: 'cl-other', ...EVENTUALLY },
    );
    expect(lies.some((ip) => others.has(ip))).toBe(true);
    expect(shown.filter((ip) => others.has(ip))).toEqual([]);
    expect(published.filter((ip) => others.has(ip))).toEqual([]);
    expect(new Set(published).size).toBe(3);
    for (const { systemId, addresses } of running.nodes) {
      const machine = region.machines.get(systemId ?? '');
      const own = machine?.nics.flatMap(({ links }) => links.flatMap(({ ip }) => ip ?? []));
      expect(addresses).toEqual(own);
    }
    const still = site.engine.status('cl-demo');
    expect(still?.phase).toBe('Running');
    expect(still?.nodes.map(({ systemId }) => systemId)).toEqual(first.nodes.map(({ systemId }) => systemId));
  });
});
