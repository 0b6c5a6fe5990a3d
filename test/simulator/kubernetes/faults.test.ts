/** The named faults of the Kubernetes double, as an observer of the cluster sees them. */
import { describe, expect, it } from 'vitest';
import { initUserData, joinUserData, KUBE_VIP_RBAC, KubeSite, VIP } from '../../support/kube-site.ts';

const ready = (site: KubeSite, name: string) =>
  site.runtime.clusters()[0]?.nodes.find((node) => node.name === name)?.ready;

describe('the fault', () => {
  it('init-fails ends kubeadm init with the kubelet error, and the next machine succeeds with the same keys', async () => {
    await using site = await KubeSite.create(2000);
    site.faults.set('init-fails', 1);
    site.boot('cp-0', initUserData(site.files));
    expect((await site.failed('cp-0')).description).toMatch(/failed while waiting for the kubelet to start/);
    await site.firstNode('cp-1');
    expect(site.runtime.clusters()[0]?.nodes.map((node) => node.name)).toEqual(['cp-1']);
  });

  it('join-hangs leaves the machine silent', async () => {
    await using site = await KubeSite.create(1000);
    await site.firstNode();
    site.faults.set('join-hangs@w-1', 1);
    site.boot('w-1', joinUserData(site.files, 'worker'));
    site.boot('w-2', joinUserData(site.files, 'worker'));
    await site.until('w-2 is a Node', () => site.node(VIP, 'w-2'));
    expect(await site.node(VIP, 'w-1')).toBeUndefined();
    expect(site.runtime.machine('id-w-1')).toEqual({ phase: 'bootstrapping', failure: undefined });
    expect(site.events.get('w-1')).toEqual([]);
  });

  it('cni-never-ready keeps one node NotReady while the others become Ready', async () => {
    await using site = await KubeSite.create(1000);
    await site.firstNode();
    site.faults.set('cni-never-ready@w-1', 1);
    for (const host of ['w-1', 'w-2']) site.boot(host, joinUserData(site.files, 'worker'));
    await site.applyCni();
    await site.until('w-2 is Ready', () => ready(site, 'w-2'));
    const set = await site.until('the daemon set has seen all nodes', async () => {
      const { body } = await site.request(
        VIP,
        '/apis/apps/v1/namespaces/kube-system/daemonsets/kube-flannel-ds',
      );
      return body.status?.desiredNumberScheduled === 3 && body.status?.numberReady === 2 && body;
    });
    expect(set.status.numberUnavailable).toBe(1);
    expect(ready(site, 'w-1')).toBe(false);
  });

  it('vip-taken: the address answers, but not as our API server', async () => {
    await using site = await KubeSite.create(1000);
    site.faults.set('vip-taken', 1);
    const ip = site.boot('cp-1', initUserData(site.files));
    await site.until('the API answers', async () => (await site.request(ip, '/readyz')).status === 200);
    for (const object of KUBE_VIP_RBAC)
      await site.apply(
        ip,
        `/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/${object.kind.toLowerCase()}s`,
        object,
      );
    await site.until('somebody answers for the address', () => site.network.isUp(VIP));
    await expect(site.request(VIP, '/readyz')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    site.boot('w-1', joinUserData(site.files, 'worker'));
    await site.failed('w-1');
  });

  it('node-dies: the node becomes Unknown and its pods move after their toleration', async () => {
    await using site = await KubeSite.create(1000);
    await site.firstNode();
    for (const host of ['w-1', 'w-2']) site.boot(host, joinUserData(site.files, 'worker'));
    await site.applyCni();
    for (const host of ['w-1', 'w-2']) await site.until(`${host} is Ready`, () => ready(site, host));
    const deployment = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: {
          metadata: { labels: { app: 'web' } },
          spec: { containers: [{ name: 'web', image: 'nginx:1.27' }] },
        },
      },
    };
    expect((await site.apply(VIP, '/apis/apps/v1/namespaces/default/deployments', deployment)).status).toBe(
      201,
    );
    const available = async () =>
      (await site.request(VIP, '/apis/apps/v1/namespaces/default/deployments/web')).body.status
        ?.availableReplicas === 2;
    await site.until('both replicas run', available);
    site.faults.set('node-dies@w-1', 1);
    await site.until('w-1 is no longer Ready', () => ready(site, 'w-1') === false);
    const pods = async (): Promise<
      { spec: { nodeName?: string }; metadata: { deletionTimestamp?: string } }[]
    > => (await site.request(VIP, '/api/v1/namespaces/default/pods')).body.items;
    await site.until(
      'the pod of the dead node is replaced',
      async () =>
        (await available()) && (await pods()).filter((pod) => pod.spec.nodeName === 'w-2').length === 2,
    );
    // Nobody confirms the end of the old pod while its node is only silent.
    expect((await pods()).some((pod) => pod.spec.nodeName === 'w-1' && pod.metadata.deletionTimestamp)).toBe(
      true,
    );
    await site.request(VIP, '/api/v1/nodes/w-1', { method: 'DELETE' });
    await site.until('it goes with the Node', async () =>
      (await pods()).every((pod) => pod.spec.nodeName !== 'w-1'),
    );
  });

  it('api-flaps cuts connections and closes the port for a while, then the API is back', async () => {
    await using site = await KubeSite.create(300);
    const ip = await site.firstNode();
    site.faults.set('api-flaps', 1);
    await site.until('the port is closed', () =>
      site.request(ip, '/readyz').then(
        () => false,
        (error: { code?: string }) => error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET',
      ),
    );
    await site.until('the API is back', async () => (await site.request(ip, '/readyz')).status === 200);
  });

  it('pdb-blocks refuses evictions with 429', async () => {
    await using site = await KubeSite.create(1000);
    await site.firstNode();
    await site.applyCni();
    await site.until(
      'CoreDNS runs',
      async () =>
        (await site.request(VIP, '/apis/apps/v1/namespaces/kube-system/deployments/coredns')).body.status
          ?.availableReplicas === 2,
    );
    const { items } = (
      await site.request(VIP, '/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns')
    ).body;
    const name: string = items[0].metadata.name;
    const evict = () =>
      site.request(VIP, `/api/v1/namespaces/kube-system/pods/${name}/eviction`, {
        method: 'POST',
        body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: 'kube-system' } },
      });
    site.faults.set('pdb-blocks', 1);
    expect(await evict()).toMatchObject({
      status: 429,
      body: { reason: 'TooManyRequests', details: { causes: [{ reason: 'DisruptionBudget' }] } },
    });
    expect((await evict()).status).toBe(201);
  });
});
