/** Each network that ships, chosen at creation: applied by the pack machinery, and nodes are Ready only with it. */
import { describe, expect, it } from 'vitest';
import { CALICO_PACK } from '../../src/contract/packs/calico.ts';
import { CILIUM_PACK } from '../../src/contract/packs/cilium.ts';
import { FLANNEL_PACK } from '../../src/contract/packs/flannel.ts';
import { SHIPPED_PACKS } from '../../src/contract/packs/shipped.ts';
import type { ManifestPack } from '../../src/contract/profile.ts';
import { renderPack } from '../../src/cluster/packs.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { startApiDouble } from '../support/api-server.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const signal = new AbortController().signal;
const placement = { resourcePool: 'kubernetes' };
const FACTS = {
  clusterName: 'demo',
  podCidr: '172.20.0.0/16',
  serviceCidr: '10.96.0.0/12',
  endpointHost: '10.20.0.9',
  endpointPort: 6443,
};
const NETWORKS = [
  { pack: FLANNEL_PACK, agents: ['kube-flannel', 'kube-flannel-ds'] },
  { pack: CILIUM_PACK, agents: ['kube-system', 'cilium'] },
  { pack: CALICO_PACK, agents: ['calico-system', 'calico-node'] },
] as const;

const document = (cni: typeof CILIUM_PACK, packValues = {}) =>
  wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 1, placement },
        { role: 'worker', name: 'workers', size: 1, placement },
      ],
      packValues,
    }),
    profile: resolvedProfile({ cni }),
  });

/** Images of all containers, init containers included. */
function imagesOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(imagesOf);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, entry]) =>
    key === 'image' && typeof entry === 'string' ? [entry] : imagesOf(entry),
  );
}

describe('shipped packs', () => {
  const packs = SHIPPED_PACKS.filter((pack): pack is ManifestPack => 'manifests' in pack);

  it.each(packs)(
    '$name: every object is one that an API server takes, no parameter is left open',
    async (pack) => {
      await using server = await startApiDouble();
      const objects = renderPack(pack, { registry: 'mirror.site:5000' }, FACTS);
      const builtin = objects.filter(({ apiVersion }) => !/tigera|velero/.test(apiVersion));
      expect(builtin.length).toBeGreaterThan(3);
      for (const object of [...builtin].sort(
        (a, b) => Number(b.kind === 'Namespace') - Number(a.kind === 'Namespace'),
      ))
        await server.client.apply(object, { fieldManager: 'test', force: true }, signal);
      expect(JSON.stringify(objects)).not.toMatch(/\$\{[a-zA-Z]+\}/);
      const images = imagesOf(objects);
      expect(images.length).toBeGreaterThan(0);
      for (const image of images) expect(image).toMatch(/^mirror\.site:5000\/[^:]+:v?\d/);
    },
  );

  it('put the parameters where they belong', () => {
    const cilium = renderPack(CILIUM_PACK, { mtu: '1450', tunnel: 'geneve', ipam: 'cluster-pool' }, FACTS);
    expect(cilium.find(({ kind }) => kind === 'ConfigMap')).toMatchObject({
      data: {
        mtu: '1450',
        'tunnel-protocol': 'geneve',
        ipam: 'cluster-pool',
        'cluster-pool-ipv4-cidr': '172.20.0.0/16',
        'kube-proxy-replacement': 'false',
      },
    });
    expect(JSON.stringify(cilium)).toContain('{"name":"KUBERNETES_SERVICE_PORT","value":"6443"}');
    const calico = renderPack(CALICO_PACK, { mtu: 1450, registry: 'mirror.site' }, FACTS);
    expect(calico.at(-1)).toMatchObject({
      kind: 'Installation',
      spec: {
        registry: 'mirror.site/',
        calicoNetwork: {
          mtu: 1450,
          bgp: 'Disabled',
          ipPools: [{ cidr: '172.20.0.0/16', encapsulation: 'VXLAN' }],
        },
      },
    });
    expect(() => renderPack(CALICO_PACK, { encapsulation: 'IPIP' }, FACTS)).toThrow(/must be one of/);
  });
});

describe('a cluster', () => {
  it.each(NETWORKS)('with $pack.name becomes Ready by its agents', async ({ pack, agents }) => {
    await using site = await SimulatedSite.start({ speed: 200 });
    await site.want(document(pack));
    const status = await site.phase('Running');
    const [namespace, name] = agents;
    const store = site.kubernetes.inside()[0]?.core.store;
    // Nodes are Ready by their agents a moment before the DaemonSet has counted them.
    await site.until('two agents', () => {
      const { desiredNumberScheduled, numberAvailable } =
        store?.get(R.daemonsets, namespace, name)?.status ?? {};
      return desiredNumberScheduled === 2 && numberAvailable === 2;
    });
    expect(status.nodes.map(({ phase }) => phase)).toEqual(['Ready', 'Ready']);
    // No node was Ready before the pack was applied.
    const events = await site.outbox.recentEvents({}, 200);
    const seq = (reason: string) =>
      Math.min(...events.filter((event) => event.reason === reason).map((event) => event.seq));
    expect(seq('NetworkApplied')).toBeLessThan(seq('NodeReady'));
  });

  it('waits for what its network lacks: without its operator no node of Cilium is Ready', async () => {
    await using site = await SimulatedSite.start({ speed: 200, timings: { packDeadlineMs: 3_000 } });
    const [operator] = CILIUM_PACK.manifests
      .split('---\n')
      .filter((part) => part.includes('cilium-operator-generic]'));
    const manifests = CILIUM_PACK.manifests.replace(operator ?? 'nothing', '');
    expect(manifests).not.toBe(CILIUM_PACK.manifests);
    await site.want(document({ ...CILIUM_PACK, manifests }));
    const status = await site.until('said', (now) =>
      now.tasks.some(({ name, error }) => name === 'apply-cilium' && error !== undefined),
    );
    expect(status.tasks.find(({ name }) => name === 'apply-cilium')?.error).toMatchObject({
      code: 'CNI_NOT_READY',
      message: expect.stringContaining('DaemonSet kube-system/cilium'),
    });
    expect(status.nodes.some(({ phase }) => phase === 'Ready')).toBe(false);
  });
});
