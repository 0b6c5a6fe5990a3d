/** kube-vip on several machines at speeds at which its elections are not simulated any faster. */
import { expect, it } from 'vitest';
import { joinUserData, KubeSite, VIP } from '../../support/kube-site.ts';

const LEASE = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-cp-lock';

it('leaves the address with its holder although timers are late, each by something else', async () => {
  await using site = await KubeSite.create(500);
  const { clock } = site;
  const sleep = clock.sleep.bind(clock);
  let sleeps = 0;
  clock.sleep = (ms, signal) => sleep(ms + ((sleeps += 1) % 7), signal);
  await site.firstNode();
  for (const host of ['cp-2', 'cp-3']) {
    site.boot(host, joinUserData(site.files, 'control-plane'));
    await site.until(`${host} is a Node`, () => site.node(VIP, host));
  }
  await clock.sleep(60_000);
  expect((await site.request(VIP, LEASE)).body.spec).toMatchObject({
    holderIdentity: 'cp-1',
    leaseTransitions: 0,
  });
});
