/** The pods of one simulated kubelet when it hears late what happened to them. */
import { expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLog } from '../../../src/base/log.ts';
import { ApiCore } from '../../../src/simulator/kubernetes/api/core.ts';
import { R } from '../../../src/simulator/kubernetes/api/resources.ts';
import type { Kubelet } from '../../../src/simulator/kubernetes/node/kubelet.ts';
import { KubeletPods } from '../../../src/simulator/kubernetes/node/kubelet-pods.ts';
import { eventually } from '../../support/eventually.ts';

it('goes on ending a pod when it looks at all of them meanwhile', async () => {
  const core = new ApiCore({ clock: systemClock, log: silentLog, version: 'v1.36.1' });
  const { signal } = new AbortController();
  let stopped: () => void = () => {};
  const stops = new Promise<void>((resolve) => (stopped = resolve));
  const kubelet = {
    name: 'w-1',
    signal,
    cluster: { core, signal, site: { log: silentLog, pace: { sleep: () => stops } } },
    apiReachable: async () => true,
    note: () => {},
  } as unknown as Kubelet;
  const pods = new KubeletPods(kubelet);
  core.store.create(R.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web',
      namespace: 'default',
      deletionTimestamp: '2026-01-01T00:00:00Z',
      deletionGracePeriodSeconds: 30,
    },
    spec: { nodeName: 'w-1', containers: [] },
  });

  pods.sync();
  pods.sync();
  stopped();
  const left = () => core.store.get(R.pods, 'default', 'web');
  await eventually(() => left() === undefined);
  expect(left()).toBeUndefined();
});
