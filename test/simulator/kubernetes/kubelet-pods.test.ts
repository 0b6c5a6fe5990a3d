/** The pods of one simulated kubelet when it hears late what happened to them. */
import { expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLog } from '../../../src/base/log.ts';
import { ApiCore } from '../../../src/simulator/kubernetes/api/core.ts';
import { R } from '../../../src/simulator/kubernetes/api/resources.ts';
import type { Kubelet } from '../../../src/simulator/kubernetes/node/kubelet.ts';
import { KubeletPods } from '../../../src/simulator/kubernetes/node/kubelet-pods.ts';
import { eventually } from '../../support/eventually.ts';

/** One pod that is being deleted, on the machine of one kubelet. */
function scene(alive: boolean) {
  const core = new ApiCore({ clock: systemClock, log: silentLog, version: 'v1.36.1' });
  const { signal } = new AbortController();
  const stops = Promise.withResolvers<void>();
  const notes: string[] = [];
  const kubelet = {
    name: 'w-1',
    alive,
    signal,
    cluster: { core, signal, site: { log: silentLog, pace: { sleep: () => stops.promise } } },
    apiReachable: async () => true,
    note: (_pod: object, { reason }: { reason: string }) => notes.push(reason),
  } as unknown as Kubelet;
  core.store.create(R.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web',
      namespace: 'default',
      deletionTimestamp: '2026-01-01T00:00:00Z',
      deletionGracePeriodSeconds: 30,
    },
    spec: { nodeName: 'w-1', containers: [{ name: 'web', image: 'nginx' }] },
  });
  const left = () => core.store.get(R.pods, 'default', 'web');
  return { pods: new KubeletPods(kubelet), stopped: stops.resolve, notes, left };
}

it('goes on ending a pod when it looks at all of them meanwhile', async () => {
  const { pods, stopped, notes, left } = scene(true);
  pods.sync();
  pods.sync();
  stopped();
  await eventually(() => left() === undefined);
  expect(left()).toBeUndefined();
  expect(notes).toEqual(['Killing']);
});

it('ends no pod and says nothing when its machine has stopped', async () => {
  const { pods, stopped, notes, left } = scene(false);
  stopped();
  pods.sync();
  await new Promise(setImmediate);
  expect(notes).toEqual([]);
  expect(left()).toBeDefined();
});
