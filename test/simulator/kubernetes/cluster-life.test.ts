/** Machines become a cluster: boot, init, virtual address, joins, CNI, Ready. All of it over the site network. */
import { describe, expect, it } from 'vitest';
import { joinUserData, KubeSite, VIP } from '../../support/kube-site.ts';

const isReady = (node: { status?: { conditions?: { type: string; status: string }[] } } | undefined) =>
  node?.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ===
  true;

const HOSTS = ['cp-1', 'cp-2', 'cp-3', 'w-1', 'w-2'];
const NOT_READY = 'node.kubernetes.io/not-ready';

describe('a simulated cluster', () => {
  it('forms from three control-plane nodes and two workers, and becomes Ready only with a CNI', async () => {
    await using site = await KubeSite.create();
    await site.firstNode();
    for (const host of ['cp-2', 'cp-3']) {
      site.boot(host, joinUserData(site.files, 'control-plane'));
      await site.until(`${host} is a Node`, () => site.node(VIP, host));
    }
    for (const host of ['w-1', 'w-2'])
      site.boot(host, joinUserData({ ...site.files, providerId: `maas:///zone-a/id-${host}` }, 'worker'));
    for (const host of ['w-1', 'w-2']) await site.until(`${host} is a Node`, () => site.node(VIP, host));

    const before = await site.node(VIP, 'w-1');
    expect(isReady(before)).toBe(false);
    expect(before?.spec.providerID).toBe('maas:///zone-a/id-w-1');
    expect(before?.metadata.labels['pcg.example/pool']).toBe('test');
    expect(before?.spec.taints.map((taint: { key: string }) => taint.key)).toContain(NOT_READY);

    await site.applyCni();
    for (const host of HOSTS)
      await site.until(`${host} is Ready`, async () => isReady(await site.node(VIP, host)));
    // a controller takes the taint away after it has seen the node Ready
    await site.until('no node is tainted as not ready', async () => {
      const nodes = await Promise.all(HOSTS.map((host) => site.node(VIP, host)));
      return nodes.every((node) => !node?.spec.taints?.some(({ key }: { key: string }) => key === NOT_READY));
    });
    const cp = await site.node(VIP, 'cp-2');
    expect(cp?.metadata.labels).toHaveProperty(['node-role.kubernetes.io/control-plane']);
    expect(cp?.spec.taints).toEqual([{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }]);
    await site.until(
      'CoreDNS runs',
      async () =>
        (await site.request(VIP, '/apis/apps/v1/namespaces/kube-system/deployments/coredns')).body.status
          ?.availableReplicas === 2,
    );
    const [cluster] = site.runtime.clusters();
    expect(cluster?.etcd.members.map((member) => [member.name, member.learner, member.up])).toEqual([
      ['cp-1', false, true],
      ['cp-2', false, true],
      ['cp-3', false, true],
    ]);
    expect([...site.events.values()].flat()).toEqual([]);
  });
});
