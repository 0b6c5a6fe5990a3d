/** etcd, the virtual address and nodes when control-plane machines come, go and die. */
import { describe, expect, it } from 'vitest';
import {
  kubeVipManifest,
  initUserData,
  joinUserData,
  KUBE_VIP_RBAC,
  KubeSite,
  testAuthority,
  testClient,
  VIP,
} from '../../support/kube-site.ts';

async function threeControlPlanes(speed = 500): Promise<{ site: KubeSite; ips: string[] }> {
  const site = await KubeSite.create(speed);
  const ips = [await site.firstNode()];
  for (const host of ['cp-2', 'cp-3']) {
    ips.push(site.boot(host, joinUserData(site.files, 'control-plane')));
    await site.until(`${host} is a Node`, () => site.node(VIP, host));
  }
  return { site, ips };
}

describe('the etcd of a simulated cluster', () => {
  it('lists, hands over leadership and removes members by the rules of quorum', async () => {
    const { site, ips } = await threeControlPlanes();
    await using _site = site;
    const [first = '', second = ''] = ips;
    const list = await site.etcd(first, '/v3/cluster/member/list');
    expect(
      list.body.members.map((member: { name: string; peerURLs: string[] }) => [member.name, member.peerURLs]),
    ).toEqual(ips.map((ip, index) => [`cp-${index + 1}`, [`https://${ip}:2380`]]));
    const ids: string[] = list.body.members.map((member: { ID: string }) => member.ID);
    expect(ids.every((id) => /^\d+$/.test(id))).toBe(true);

    const status = (await site.etcd(first, '/v3/maintenance/status')).body;
    const follower = ips[ids.findIndex((id) => id !== status.leader)] ?? '';
    const refused = await site.etcd(follower, '/v3/maintenance/transfer-leadership', { targetID: ids[1] });
    expect(refused).toMatchObject({ status: 400, body: { code: 9, message: 'etcdserver: not leader' } });
    const leaderIp = ips[ids.indexOf(status.leader)] ?? '';
    expect(
      (await site.etcd(leaderIp, '/v3/maintenance/transfer-leadership', { targetID: ids[1] })).status,
    ).toBe(200);
    expect((await site.etcd(second, '/v3/maintenance/status')).body.leader).toBe(ids[1]);

    const learner = await site.etcd(first, '/v3/cluster/member/add', {
      peerURLs: ['https://10.20.0.90:2380'],
      isLearner: true,
    });
    expect(learner.body.member.isLearner).toBe(true);
    expect(
      (
        await site.etcd(first, '/v3/cluster/member/add', {
          peerURLs: ['https://10.20.0.91:2380'],
          isLearner: true,
        })
      ).body.message,
    ).toBe('etcdserver: too many learner members in cluster');
    expect(
      (await site.etcd(first, '/v3/cluster/member/promote', { ID: learner.body.member.ID })).body.message,
    ).toMatch(/in sync with leader/);
    expect((await site.etcd(first, '/v3/cluster/member/remove', { ID: learner.body.member.ID })).status).toBe(
      200,
    );

    // A dead member may go; while it is dead nobody may be added and no living one removed.
    site.stop('cp-3');
    expect(
      (await site.etcd(first, '/v3/cluster/member/add', { peerURLs: ['https://10.20.0.92:2380'] })).body,
    ).toMatchObject({ code: 14, message: 'etcdserver: unhealthy cluster' });
    expect((await site.etcd(first, '/v3/cluster/member/remove', { ID: ids[1] })).body).toMatchObject({
      code: 14,
      message: 'etcdserver: unhealthy cluster',
    });
    expect((await site.etcd(first, '/v3/cluster/member/remove', { ID: ids[2] })).status).toBe(200);
    expect((await site.etcd(first, '/v3/cluster/member/remove', { ID: ids[2] })).body).toMatchObject({
      code: 5,
      message: 'etcdserver: member not found',
    });
  });

  it('refuses clients without a certificate of its own CA', async () => {
    await using site = await KubeSite.create();
    const ip = await site.firstNode();
    await expect(
      site.request(ip, '/v3/cluster/member/list', {
        method: 'POST',
        body: {},
        port: 2379,
        as: site.admin,
        caPem: site.pki.etcdCa.certPem,
      }),
    ).rejects.toThrow();
    await expect(
      site.request(ip, '/v3/cluster/member/list', {
        method: 'POST',
        body: {},
        port: 2379,
        as: 'nobody',
        caPem: site.pki.etcdCa.certPem,
      }),
    ).rejects.toThrow();
  });

  it('takes the API with it when it loses quorum, and a removed member takes its API server', async () => {
    const { site, ips } = await threeControlPlanes();
    await using _site = site;
    const [first = '', second = '', third = ''] = ips;
    const members = (await site.etcd(first, '/v3/cluster/member/list')).body.members;
    await site.etcd(first, '/v3/cluster/member/remove', { ID: members[2].ID });
    await site.until('the third API server is gone', () =>
      site.request(third, '/readyz').then(
        () => false,
        () => true,
      ),
    );
    expect((await site.request(first, '/readyz')).status).toBe(200);
    site.stop('cp-2');
    expect(second).not.toBe('');
    const ready = await site.request(first, '/readyz');
    expect(ready.status).toBe(500);
    expect(ready.body).toContain('[-]etcd failed');
    expect((await site.request(first, '/api/v1/nodes')).body).toMatchObject({
      code: 500,
      message: 'etcdserver: request timed out',
    });
    await site.until('the virtual address is gone', () => !site.network.isUp(VIP));
  });
});

describe('kube-vip on simulated machines', () => {
  it('moves the address when its holder dies, and the dead node becomes Unknown', async () => {
    const { site } = await threeControlPlanes(200);
    await using _site = site;
    const holder = () =>
      site.runtime.clusters()[0]?.controlPlanes.find((node) => node.virtualAddress === VIP)?.hostname;
    const before = await site.until('somebody holds the address', holder);
    const lease = (
      await site.request(VIP, '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-cp-lock')
    ).body;
    expect(lease.spec.holderIdentity).toBe(before);
    site.stop(before);
    expect(site.network.isUp(VIP)).toBe(false);
    const after = await site.until('another one holds it', holder);
    expect(after).not.toBe(before);
    expect((await site.request(VIP, '/readyz')).status).toBe(200);
    const node = await site.until('the dead node is Unknown', async () => {
      const found = await site.node(VIP, before);
      return (
        found?.status.conditions.find((condition: { type: string }) => condition.type === 'Ready').status ===
          'Unknown' && found
      );
    });
    await site.until('it is tainted', async () =>
      (await site.node(VIP, before))?.spec.taints.some(
        (taint: { key: string; effect: string }) =>
          taint.key === 'node.kubernetes.io/unreachable' && taint.effect === 'NoExecute',
      ),
    );
    expect(node.metadata.name).toBe(before);
  });

  it('never gets the address without rights on leases, and gets it once they are granted', async () => {
    await using site = await KubeSite.create(500);
    const ip = site.boot('cp-1', initUserData(site.files));
    await site.until(
      'init is finished',
      async () =>
        (await site.request(ip, '/api/v1/namespaces/kube-public/configmaps/cluster-info', { as: 'nobody' }))
          .status === 200,
    );
    await site.until(
      'CoreDNS is there',
      async () =>
        (await site.request(ip, '/apis/apps/v1/namespaces/kube-system/deployments/coredns')).status === 200,
    );
    expect(site.network.isUp(VIP)).toBe(false);
    for (const object of KUBE_VIP_RBAC)
      await site.apply(
        ip,
        `/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/${object.kind.toLowerCase()}s`,
        object,
      );
    await site.until('the address is up', () => site.network.isUp(VIP));
  });

  it.each([
    [
      'its certificate is of another CA',
      async (site: KubeSite) => ({
        kubeVip: await testClient(await testAuthority('kubernetes'), 'kube-vip'),
        pki: site.pki,
      }),
    ],
    [
      'the API server certificate lacks 127.0.0.1',
      async () => ({
        edit: (d: { apiServer: object }[]) => Object.assign(d[0]?.apiServer ?? {}, { certSANs: [] }),
      }),
    ],
    [
      'the pod may not touch the network',
      async () => ({
        files: {
          '/etc/kubernetes/manifests/kube-vip.yaml': kubeVipManifest(
            VIP,
            (pod) => delete pod.spec.containers[0].securityContext,
          ),
        },
      }),
    ],
    [
      'it may try again without a pause',
      async () => ({
        files: {
          '/etc/kubernetes/manifests/kube-vip.yaml': kubeVipManifest(VIP, (pod) => {
            const { env } = pod.spec.containers[0];
            for (const entry of env) if (entry.name === 'vip_retryperiod') entry.value = '0';
          }),
        },
      }),
    ],
    [
      'its address is on another segment',
      async () => ({ files: { '/etc/kubernetes/manifests/kube-vip.yaml': kubeVipManifest('10.99.0.200') } }),
    ],
  ])('never answers when %s', async (_why, files) => {
    await using site = await KubeSite.create(1000);
    const ip = site.boot('cp-1', initUserData({ ...site.files, ...(await files(site)) }));
    await site.until(
      'init is finished',
      async () =>
        (await site.request(ip, '/apis/apps/v1/namespaces/kube-system/deployments/coredns')).status === 200,
    );
    for (const object of KUBE_VIP_RBAC)
      await site.apply(
        ip,
        `/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/${object.kind.toLowerCase()}s`,
        object,
      );
    site.boot('w-1', joinUserData(site.files, 'worker'));
    await site.failed('w-1');
    expect([site.network.isUp(VIP), site.network.isUp('10.99.0.200')]).toEqual([false, false]);
  });
});
