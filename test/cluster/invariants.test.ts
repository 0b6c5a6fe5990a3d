/** The judge of all runs must itself see what it is there to see. */
import { describe, expect, it } from 'vitest';
import type { Moment } from '../../src/simulator/kubernetes/chronicle.ts';
import type { Departure } from '../../src/simulator/kubernetes/departures.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { document } from '../support/engine.ts';
import { breaches, leftovers, nothingLeft } from '../support/invariants.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const versions = (control: string[], workers: string[]) => [
  ...control.map((version, index) => ({ node: `cp-${index}`, controlPlane: true, version })),
  ...workers.map((version, index) => ({ node: `w-${index}`, controlPlane: false, version })),
];
const good: Moment = {
  cluster: 'demo',
  at: 10,
  what: { kind: 'node-changed', node: 'w-0' },
  voters: 3,
  votersUp: 3,
  learners: 0,
  quorum: true,
  readyControlPlanes: 3,
  workers: 2,
  versions: versions(['v1.36.1', 'v1.36.1', 'v1.36.1'], ['v1.36.1', 'v1.36.1']),
};
const left: Departure = {
  systemId: 'abc',
  hostname: 'w-0',
  at: 10,
  cluster: 'demo',
  controlPlane: false,
  cordoned: true,
  workloads: [],
  readyControlPlanes: 3,
  readyWorkers: 2,
  quorumBefore: true,
  quorumAfter: true,
};
const allowed = { cluster: 'demo', since: 5, workers: 2, controlPlanes: 3 };
const judge = (moment: Partial<Moment>, departure: Partial<Departure> = {}, broken: string[] = []) =>
  breaches(
    { moments: [good, { ...good, ...moment }], departures: [{ ...left, ...departure }] },
    { ...allowed, broken },
  );

describe('the judge of runs', () => {
  it('has nothing to say about a good run, another cluster, or what was before', () => {
    expect(judge({})).toEqual([]);
    expect(judge({ quorum: false, cluster: 'other' })).toEqual([]);
    expect(judge({ workers: 0, at: 1 })).toEqual([]);
  });

  const removed = { kind: 'member-removed', member: 'cp-1' } as const;
  it.each([
    ['a lost quorum', { quorum: false }, /quorum was lost/],
    ['a removal that breaks the quorum', { what: removed, quorum: false }, /removal of cp-1 broke/],
    [
      'a removal while another member is down',
      { what: removed, voters: 2, votersUp: 1 },
      /another member was down/,
    ],
    ['a removal beside a learner', { what: removed, learners: 1 }, /somebody joined/],
    [
      'a member that stops before it is removed',
      { what: { kind: 'member-down', member: 'cp-1' } as const },
      /stopped while it was a member/,
    ],
    ['too few workers', { workers: 1 }, /^1 workers/],
    ['too few control-plane nodes', { readyControlPlanes: 2 }, /^2 control-plane nodes/],
    [
      'a kubelet newer than one API server',
      { versions: versions(['v1.36.1', 'v1.37.0'], ['v1.37.0']) },
      /kubelet of w-0 is v1\.37\.0/,
    ],
    [
      'API servers two minors apart',
      { versions: versions(['v1.35.4', 'v1.37.0'], []) },
      /more than one minor/,
    ],
  ])('sees %s', (_what, moment, said) => {
    expect(judge(moment)).toEqual(expect.arrayContaining([expect.stringMatching(said)]));
  });

  it.each([
    ['workloads on a machine that stops', { workloads: ['shop/web-1'] }, /stopped with shop\/web-1/],
    ['a machine that stops uncordoned', { cordoned: false }, /without being cordoned/],
    ['a machine that takes the quorum along', { quorumAfter: false }, /took the quorum/],
  ])('sees %s', (_what, departure, said) => {
    expect(judge({}, departure)).toEqual([expect.stringMatching(said)]);
    expect(judge({}, departure, ['w-0'])).toEqual([]);
  });

  it('sees what a cluster still shows of machines that went', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    const pool = { role: 'control-plane', name: 'cp', size: 1, placement: {} } as const;
    await site.want(document({ spec: clusterSpec({ pools: [pool] }) }));
    await site.phase('Running');
    await nothingLeft(site);
    const { core } = inside(site);
    core.ensure(R.nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'gone' } });
    core.ensure(R.secrets, {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'bootstrap-token-abcdef', namespace: 'kube-system' },
      type: 'bootstrap.kubernetes.io/token',
      data: {
        'token-id': Buffer.from('abcdef').toString('base64'),
        'token-secret': Buffer.from('0123456789abcdef').toString('base64'),
      },
    });
    expect(leftovers(site)).toEqual(['Node gone', 'bootstrap-token-abcdef']);
  });
});
