/** Renewing certificates restarts one member of etcd: never while another one is not healthy. */
import { expect, it } from 'vitest';
import type { StepContext } from '../../src/cluster/context.ts';
import { renewCertificates } from '../../src/cluster/steps/certificates.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import type { KubeObject } from '../../src/kube/client.ts';
import { NOW, scene } from '../support/scenes.ts';

const signal = new AbortController().signal;

/** The step on a healthy cluster of three whose etcd shows these members; the names of the Jobs that it starts. */
async function renew(members: { name: string; healthy: boolean; learner: boolean }[]) {
  const ready = { shape: 'ready', certificatesExpireAt: NOW + 1 } as const;
  const { record, observed } = scene({ 'cp-1': ready, 'cp-2': ready, 'cp-3': ready });
  const started: string[] = [];
  const kube = {
    get: async () => undefined,
    apply: async (object: KubeObject) => object,
    async create(object: KubeObject) {
      started.push(object.kind);
      return object;
    },
  };
  const etcd = { health: async () => members, [Symbol.asyncDispose]: async () => {} };
  const context = {
    record: () => record,
    observed,
    clock: { now: () => NOW },
    timings: DEFAULT_TIMINGS,
    kube: () => kube,
    etcd: async () => etcd,
  } as unknown as StepContext;
  return { outcome: await renewCertificates({ node: 'cp-1' }, context, signal), started };
}

const healthy = (name: string) => ({ name, healthy: true, learner: false });

it('begins when every member is healthy', async () => {
  const { outcome, started } = await renew([healthy('a'), healthy('b'), healthy('c')]);
  expect(outcome).toMatchObject({ kind: 'later', waitingFor: expect.stringContaining('kubeadm to renew') });
  expect(started).toEqual(['Job']);
});

it.each([
  ['is silent', { name: 'b', healthy: false, learner: false }],
  ['still learns', { name: 'b', healthy: true, learner: true }],
])('waits while a member %s', async (_how, sick) => {
  const { outcome, started } = await renew([healthy('a'), sick, healthy('c')]);
  expect(outcome).toEqual({ kind: 'later', waitingFor: 'etcd member b to be healthy' });
  expect(started).toEqual([]);
});
