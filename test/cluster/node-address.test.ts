/** Machines with several networks: the gateway dials, publishes and checks the address at which the node serves. */
import { describe, expect, it } from 'vitest';
import { nodeAddresses } from '../../src/cluster/node-address.ts';
import { apiHosts } from '../../src/cluster/observe.ts';
import { plan } from '../../src/cluster/plan.ts';
import type { Machine } from '../../src/maas/client.ts';
import { scene } from '../support/scenes.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { fakeMachine, FakeSite } from '../support/fake-site.ts';
import { clusterSpec, readCloudConfig } from '../support/node-input.ts';

const link = (ip: string, subnetCidr: string, gatewayIp?: string) => ({
  mode: 'auto',
  ip,
  subnetCidr,
  gatewayIp,
});

/** Storage network first, as MAAS may list it; the gateway is in the last one. */
function manyNetworks(n: number): Pick<Machine, 'ipAddresses' | 'interfaces'> {
  return {
    ipAddresses: [`10.99.0.${n}`, 'fd00::7', `10.20.0.${n}`, `10.30.0.${n}`],
    interfaces: [
      { name: 'eno1', mac: '52:54:00:00:00:01', links: [link(`10.99.0.${n}`, '10.99.0.0/24')] },
      { name: 'eno2', mac: '52:54:00:00:00:02', links: [link(`10.20.0.${n}`, '10.20.0.0/24')] },
      { name: 'eno3', mac: '52:54:00:00:00:03', links: [link(`10.30.0.${n}`, '10.30.0.0/24', '10.30.0.1')] },
    ],
  };
}

const machine = { ...fakeMachine(1), ...manyNetworks(11) };
const vip = { kind: 'vip', host: '10.20.0.200', port: 6443, subnetCidr: '10.20.0.0/24' } as const;
const dns = { kind: 'dns', host: 'demo.maas', port: 6443, addresses: [] } as const;

describe('a machine in several networks', () => {
  it('serves in the network of the endpoint address, else where its gateway is', () => {
    expect(nodeAddresses(machine, vip)).toEqual(['10.20.0.11', '10.99.0.11', '10.30.0.11']);
    expect(nodeAddresses(machine, dns)[0]).toBe('10.30.0.11');
    const holder = { ...machine, ipAddresses: ['10.20.0.200', ...machine.ipAddresses] };
    expect(nodeAddresses(holder, vip)[0]).toBe('10.20.0.11');
    expect(nodeAddresses({ ...machine, ipAddresses: ['fd00::7'] }, vip)).toEqual([]);
  });

  it('is dialled at the likeliest address of every node before any other', () => {
    const { record, observed } = scene({ 'cp-1': { shape: 'ready' }, 'cp-2': { shape: 'ready' } });
    const machines = new Map(
      [...observed.machines].map(([id, reading], index) => [
        id,
        { ...reading, machine: reading.machine && { ...reading.machine, ...manyNetworks(index + 1) } },
      ]),
    );
    expect(apiHosts({ ...record, endpoint: vip }, machines)).toEqual([
      '10.20.0.1',
      '10.20.0.2',
      '10.99.0.1',
      '10.30.0.1',
      '10.99.0.2',
      '10.30.0.2',
    ]);
  });

  it('is dialled only when it may serve, healthy nodes first', () => {
    const { record, observed } = scene({
      'cp-1': { shape: 'ready', unhealthySince: 1 },
      'cp-2': { shape: 'booted' },
      'cp-3': { shape: 'booted', token: { id: 'aaaaaa', secret: 'bbbbbbbbbbbbbbbb', grantedAt: 1 } },
      'cp-4': { shape: 'ready' },
    });
    const dialled = apiHosts(record, observed.machines);
    const [first, , third, fourth] = [...observed.machines.values()].map(
      (reading) => reading.machine?.ipAddresses[0],
    );
    expect(dialled).toEqual([fourth, first, third]);
  });

  it('is published in DNS at the address that its kubelet reports', () => {
    const input = scene({ 'cp-1': { shape: 'ready' } }, { record: { endpoint: dns } });
    const { kube } = input.observed;
    const nodes = kube.kind === 'reachable' ? kube.nodes : [];
    const told = nodes.map((node) => ({ ...node, internalIp: '10.99.0.11' }));
    const steps = plan({
      ...input,
      observed: {
        ...input.observed,
        kube: { kind: 'reachable', endpoint: true, configured: true, nodes: told, componentFaults: [] },
      },
    });
    expect(steps).toContainEqual({ kind: 'publish-endpoint', addresses: ['10.99.0.11'] });
  });
});

it('nodes reach every network of MAAS without the proxy, not only the one they are in', async () => {
  const site = new FakeSite(8);
  await using harness = new EngineHarness(site);
  const sent: string[] = [];
  const boot = site.kubernetes.boot.bind(site.kubernetes);
  site.kubernetes.boot = async (machine, userData, alive) => {
    sent.push(userData);
    await boot(machine, userData, alive);
  };
  await harness.want(document({ spec: clusterSpec({ nodes: { httpsProxy: 'http://proxy.example:3128' } }) }));
  await harness.phase('Running');
  expect(sent).toHaveLength(6);
  for (const userData of sent) {
    const proxy = readCloudConfig(userData).files.get('/etc/pcg/proxy.env')?.content ?? '';
    expect(/NO_PROXY='([^']*)'/.exec(proxy)?.[1]?.split(',')).toContain('10.20.0.0/24');
  }
});
