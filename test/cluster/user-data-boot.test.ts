import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { renderPack } from '../../src/cluster/packs.ts';
import { type NodeInput, renderUserData } from '../../src/cluster/user-data.ts';
import { applyObjects, unreadyObjects } from '../../src/kube/apply.ts';
import { ensureBootstrapToken } from '../../src/kube/bootstrap-token.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { createEtcdClient } from '../../src/kube/etcd.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import { createClusterPki, issueClientCertificate } from '../../src/kube/pki.ts';
import { kubeVipRbac } from '../../src/kube/rbac.ts';
import { createKubernetesRuntime } from '../../src/simulator/kubernetes/runtime.ts';
import { startMachineProxy } from '../../src/simulator/machine-proxy.ts';
import { createSiteNetwork } from '../../src/simulator/network.ts';
import { createPace } from '../../src/simulator/pace.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { clusterSpec, nodeInput, resolvedProfile } from '../support/node-input.ts';

const signal = new AbortController().signal;
const VIP = '10.20.0.200';
const TOKEN = { id: 'abcdef', secret: '0123456789abcdef' };
/** Far more than a healthy run needs. */
const PATIENCE_MS = 60_000;

/** In the time of the site. */
async function until(clock: Clock, what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = clock.monotonic() + PATIENCE_MS;
  let last: unknown;
  while (clock.monotonic() < deadline) {
    try {
      if (await condition()) return;
    } catch (error) {
      last = error;
    }
    await clock.sleep(50);
  }
  expect.fail(`${what} did not happen: ${String(last)}`);
}

/** Machines of a simulated site that boot with our user-data. */
async function createSite() {
  const stack = new AsyncDisposableStack();
  const clock = stack.use(new LeapingClock());
  const network = createSiteNetwork();
  const proxy = stack.use(await startMachineProxy(network, { host: '127.0.0.1', port: 0 }));
  const events: string[] = [];
  const runtime = stack.use(
    createKubernetesRuntime({
      network,
      pace: createPace(clock, 2_000),
      log: silentLog,
      clock,
    }),
  );
  const nowMs = clock.now();
  const pki = await createClusterPki({ nowMs, keyAlgorithm: 'ecdsa-p256' });
  const admin = await issueClientCertificate(pki.ca, {
    commonName: 'kubernetes-admin',
    organizations: ['system:masters'],
    nowMs,
    validityMs: 60 * 24 * 3_600_000,
  });
  const boot = (kind: NodeInput['kind'], number: number, changes: Partial<NodeInput> = {}) => {
    const input = nodeInput(kind, pki, {
      spec: clusterSpec({ network: { podCidr: '10.50.0.0/16' } }),
      endpoint: { host: VIP, port: 6443, vip: true },
      token: TOKEN,
      ...changes,
    });
    const node = { ...input.node, hostname: `node-${number}`, systemId: `sys00${number}` };
    const ip = `10.20.0.1${number}`;
    network.setAddressUp(ip, true);
    runtime.boot(
      {
        systemId: node.systemId,
        hostname: node.hostname,
        fqdn: `${node.hostname}.maas`,
        zone: node.zone,
        ip,
        subnetCidr: '10.20.0.0/24',
        cpuCount: 4,
        memoryMiB: 8192,
        image: 'ubuntu/noble',
        userData: renderUserData({ ...input, node }),
      },
      {
        event: (level, type, text) => events.push(`${level} ${type} ${text}`),
        log: (text) => events.push(text),
      },
    );
  };
  const client = (host: string): KubeClient =>
    stack.use(
      createKubeClient(
        { server: `https://${host}:6443`, caPem: pki.ca.certPem, ...admin, proxyUrl: proxy.url },
        { clock, log: silentLog },
      ),
    );
  return {
    clock,
    runtime,
    pki,
    boot,
    client,
    proxy,
    events,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function readyNodes(items: { metadata: { name: string }; [key: string]: unknown }[]): string[] {
  return items
    .filter((node) =>
      (node['status'] as { conditions?: { type: string; status: string }[] } | undefined)?.conditions?.some(
        (condition) => condition.type === 'Ready' && condition.status === 'True',
      ),
    )
    .map((node) => node.metadata.name)
    .sort();
}

describe('machines that boot with our user-data', () => {
  it('become a cluster: init, endpoint, network, joins of both kinds, etcd members', async () => {
    await using site = await createSite();
    site.boot('init', 1);
    const first = site.client('10.20.0.11');
    await until(site.clock, 'the first API server', () => first.ready(signal));
    await applyObjects(first, kubeVipRbac(), { clock: site.clock, fieldManager: 'pcg', force: true }, signal);
    const endpoint = site.client(VIP);
    await until(site.clock, 'the endpoint', () => endpoint.ready(signal));
    await until(site.clock, 'init', () => site.runtime.machine('sys001')?.phase === 'node');

    const objects = renderPack(
      resolvedProfile().cni,
      {},
      {
        clusterName: 'demo',
        podCidr: '10.50.0.0/16',
        serviceCidr: '10.96.0.0/12',
        endpointHost: VIP,
        endpointPort: 6443,
      },
    );
    await applyObjects(
      endpoint,
      objects,
      { clock: site.clock, fieldManager: 'pcg/flannel', force: true },
      signal,
    );
    await until(
      site.clock,
      'the network',
      async () => (await unreadyObjects(endpoint, objects, signal)).length === 0,
    );

    await ensureBootstrapToken(endpoint, TOKEN, { nowMs: site.clock.now(), description: 'test' }, signal);
    site.boot('join-control-plane', 2);
    site.boot('worker', 3);
    await until(site.clock, 'all nodes Ready', async () => {
      const { items } = await endpoint.list('/api/v1/nodes', signal);
      return readyNodes(items).join() === 'node-1,node-2,node-3';
    });
    const { items } = await endpoint.list('/api/v1/nodes', signal);
    const worker = items.find((node) => node.metadata.name === 'node-3');
    expect(worker?.['spec']).toMatchObject({ providerID: 'maas:///zone-a/sys003' });
    expect(worker?.metadata.labels).toMatchObject({
      'pcg.internal/pool': 'workers',
      'pcg.internal/cluster': 'cl-demo',
      'topology.kubernetes.io/zone': 'zone-a',
    });

    const identity = await issueClientCertificate(site.pki.etcdCa, {
      commonName: 'pcg-gateway',
      nowMs: site.clock.now(),
      validityMs: 60 * 24 * 3_600_000,
    });
    await using etcd = createEtcdClient(
      ['https://10.20.0.11:2379', 'https://10.20.0.12:2379'],
      { caPem: site.pki.etcdCa.certPem, ...identity, proxyUrl: site.proxy.url },
      { clock: site.clock },
    );
    await until(site.clock, 'two voting members', async () => {
      const members = await etcd.health(signal);
      return members.length === 2 && members.every((member) => member.healthy && !member.learner);
    });
    expect(site.events.filter((event) => event.startsWith('ERROR'))).toEqual([]);
  });

  it('fail and say so when the pinned CA is not the one they meet', async () => {
    await using site = await createSite();
    site.boot('init', 1, { token: { id: 'zzzzzz', secret: '0123456789abcdef' } });
    const first = site.client('10.20.0.11');
    await until(site.clock, 'the first API server', () => first.ready(signal));
    await applyObjects(first, kubeVipRbac(), { clock: site.clock, fieldManager: 'pcg', force: true }, signal);
    await until(site.clock, 'init', () => site.runtime.machine('sys001')?.phase === 'node');
    site.boot('worker', 3, {
      caHash: `sha256:${'0'.repeat(64)}`,
      token: { id: 'zzzzzz', secret: '0123456789abcdef' },
    });
    await until(site.clock, 'the failure', () => site.runtime.machine('sys003')?.phase === 'failed');
    expect(site.events.join('\n')).toContain('NODE_POST_INSTALL_EVENT_FAILED');
  });
});
