/** Static pods of the control plane as a sign of health: read, shown with a next step, and waited for. */
import { describe, expect, it } from 'vitest';
import { type ComponentFault, readComponentFaults } from '../../src/cluster/components.ts';
import { computeConditions } from '../../src/cluster/conditions.ts';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import type { KubeNode } from '../../src/cluster/observed.ts';
import { plan, sceneOf } from '../../src/cluster/plan.ts';
import { chooseVictims, planPools } from '../../src/cluster/rollout.ts';
import { nodeTemplate, sharedSettings } from '../../src/cluster/template.ts';
import type { KubeObject } from '../../src/kube/client.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { type NodeLiteral, NOW, scene } from '../support/scenes.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const MINUTE = 60_000;
const COMPONENTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
const node = (name: string, changes: Partial<KubeNode> = {}) =>
  ({ name, ready: true, silent: false, controlPlane: true, ...changes }) as KubeNode;
const at = (ago: number) => new Date(NOW - ago).toISOString();

function pod(component: string, host: string, container: object, ready: boolean): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `${component}-${host}`, labels: { component, tier: 'control-plane' } },
    spec: { nodeName: host },
    status: {
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
      containerStatuses: [{ name: component, restartCount: 0, ...container }],
    },
  } as KubeObject;
}

const running = { state: { running: { startedAt: at(MINUTE) } } };
const healthy = (host: string) => COMPONENTS.map((component) => pod(component, host, running, true));
/** A whole node but for its scheduler. */
const withScheduler = (container: object, ready: boolean) => [
  ...healthy('a').slice(0, 3),
  pod('kube-scheduler', 'a', container, ready),
];

describe('static pods of a node', () => {
  it('say nothing while they work, and nothing of workers', () => {
    expect(readComponentFaults(healthy('a'), [node('a'), node('w', { controlPlane: false })], NOW)).toEqual(
      [],
    );
  });

  it.each<[string, object, boolean, string | undefined]>([
    [
      'waits after crashes',
      { restartCount: 7, state: { waiting: { reason: 'CrashLoopBackOff' } } },
      false,
      'CrashLoopBackOff, restarted 7 times',
    ],
    ['cannot be pulled', { state: { waiting: { reason: 'ImagePullBackOff' } } }, false, 'ImagePullBackOff'],
    ['does not pass its probe', { ...running, restartCount: 2 }, false, 'not Ready, restarted 2 times'],
    [
      'runs for a moment between two crashes',
      {
        ...running,
        restartCount: 4,
        lastState: { terminated: { startedAt: at(2 * MINUTE), finishedAt: at(MINUTE) } },
      },
      true,
      'keeps crashing, restarted 4 times',
    ],
    [
      'crashed often, but runs for ten minutes now',
      {
        restartCount: 4,
        state: { running: { startedAt: at(10 * MINUTE) } },
        lastState: { terminated: { startedAt: at(12 * MINUTE), finishedAt: at(11 * MINUTE) } },
      },
      true,
      undefined,
    ],
    [
      'lost its lease after a long life',
      {
        ...running,
        restartCount: 5,
        lastState: { terminated: { startedAt: at(900 * MINUTE), finishedAt: at(MINUTE) } },
      },
      true,
      undefined,
    ],
    [
      'has a status of nonsense',
      { restartCount: 9, state: {}, lastState: { terminated: {} } },
      true,
      undefined,
    ],
  ])('a container that %s', (_name, container, ready, reason) => {
    expect(readComponentFaults(withScheduler(container, ready), [node('a')], NOW)).toEqual(
      reason === undefined ? [] : [{ node: 'a', component: 'kube-scheduler', reason }],
    );
  });

  it('are missed on a Ready node, but not on one that is coming up, nor believed of one that fell silent', () => {
    const pods = healthy('a').slice(0, 3);
    const missing = [{ node: 'a', component: 'kube-scheduler', reason: 'has no pod' }];
    expect(readComponentFaults(pods, [node('a')], NOW)).toEqual(missing);
    const [lookalike] = withScheduler(running, true).slice(3);
    if (!lookalike) throw new Error('no pod');
    const other = { ...lookalike, metadata: { ...lookalike.metadata, name: 'mine' } };
    expect(readComponentFaults([...pods, other], [node('a')], NOW)).toEqual(missing);
    expect(readComponentFaults(pods, [node('a', { ready: false })], NOW)).toEqual([]);
    expect(readComponentFaults(pods, [node('a', { ready: false, silent: true })], NOW)).toEqual([]);
  });
});

/** A scene in which the scheduler of `sick` crash-loops. */
function sickScene(
  literals: Record<string, NodeLiteral>,
  sick: string,
  options: NonNullable<Parameters<typeof scene>[1]> = {},
) {
  const calm = scene(literals, options);
  const { kube } = calm.observed;
  const claim = calm.record.nodes.find(({ name }) => name === sick)?.claim;
  if (kube.kind !== 'reachable' || claim?.kind !== 'held') throw new Error('scene is wrong');
  const fault: ComponentFault = {
    node: claim.hostname,
    component: 'kube-scheduler',
    reason: 'CrashLoopBackOff, restarted 7 times',
  };
  return { ...calm, observed: { ...calm.observed, kube: { ...kube, componentFaults: [fault] } } };
}

const kinds = (input: Parameters<typeof plan>[0]) =>
  plan(input).map((step) => ('node' in step ? `${step.kind} ${step.node}` : step.kind));
const three = { 'cp-1': { shape: 'ready' }, 'cp-2': { shape: 'ready' }, 'cp-3': { shape: 'ready' } } as const;

describe('a crash-looping scheduler', () => {
  it('makes the control plane not ready, with cause and next step, and takes no machine away', () => {
    const input = sickScene(three, 'cp-2');
    const condition = computeConditions(input, []).find(({ type }) => type === 'ControlPlaneReady');
    expect(condition).toMatchObject({
      status: 'False',
      reason: 'Degraded',
      message: expect.stringMatching(
        /3 of 3 nodes are Ready; kube-scheduler on host-2: CrashLoopBackOff, restarted 7 times: .*kubectl -n kube-system logs kube-scheduler-host-2/,
      ),
    });
    expect(kinds(input).filter((kind) => /remove|power|replace/.test(kind))).toEqual([]);
  });

  it('keeps the next control-plane node waiting, unless its own node leaves', () => {
    const joining = { ...three, 'cp-3': { shape: 'booted' } } as const;
    expect(kinds(scene(joining))).toContain('grant-token cp-3');
    expect(kinds(sickScene(joining, 'cp-2'))).not.toContain('grant-token cp-3');
    const alone = {
      'cp-1': { shape: 'ready', intent: { kind: 'remove', reason: 'outdated', since: NOW } },
      'cp-2': { shape: 'booted' },
    } as unknown as Record<string, NodeLiteral>;
    expect(kinds(sickScene(alone, 'cp-1'))).toContain('grant-token cp-2');
  });

  it('lets the control plane shrink by its own node only', () => {
    const document: Partial<ClusterDocument> = {
      spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: 1 }] }),
    };
    const removed = plan(sickScene(three, 'cp-1', { document })).find(({ kind }) => kind === 'remove-nodes');
    expect(removed).toMatchObject({ nodes: [{ name: 'cp-1' }] });
    const two = sickScene(three, 'cp-1', { document });
    const { kube } = two.observed;
    const both = [...kube.componentFaults, { ...kube.componentFaults[0], node: 'host-2' } as ComponentFault];
    const worse = { ...two, observed: { ...two.observed, kube: { ...kube, componentFaults: both } } };
    expect(kinds(worse)).not.toContain('remove-nodes');
  });

  it('is replaced first by a rollout, and stops one when it is on a node that is new already', () => {
    const old = { shape: 'ready', template: 'old' } as const;
    const document: Partial<ClusterDocument> = {
      spec: clusterSpec({
        pools: [{ role: 'control-plane', name: 'cp', size: 3, rollout: 'contract-first' }],
      }),
    };
    const input = sickScene({ 'cp-1': old, 'cp-2': old, 'cp-3': old }, 'cp-1', { document });
    const asked = sceneOf(input);
    const [pool] = asked.document.spec.pools;
    if (!pool) throw new Error('no pool');
    expect(chooseVictims(asked.nodes, 1, pool, asked)).toMatchObject([{ name: 'cp-1' }]);
    expect(asked.blockingFaults).toHaveLength(1);
    // Renewing every key is approved as it is asked for: it replaces what is older than the request.
    const template = nodeTemplate(asked.document, pool);
    const node = { shape: 'ready', template } as const;
    const rotating = (sick: string) =>
      sceneOf(
        sickScene({ 'cp-1': node, 'cp-2': node, 'cp-3': { ...node, createdAt: NOW + 1 } }, sick, {
          document,
          record: {
            rotateRequestedAt: NOW,
            controlPlaneSettings: sharedSettings(asked.document),
          },
        }),
      );
    expect(rotating('cp-1').blockingFaults).toHaveLength(0);
    expect(planPools(rotating('cp-1'))).toMatchObject([{ kind: 'remove-nodes', nodes: [{ name: 'cp-1' }] }]);
    expect(rotating('cp-3').blockingFaults).toHaveLength(1);
    expect(planPools(rotating('cp-3'))).toEqual([]);
  });
});

describe('in the simulator', () => {
  const condition = (status: ClusterStatus) =>
    status.conditions.find(({ type }) => type === 'ControlPlaneReady');

  it('a scheduler that crash-loops is shown, holds a scale-up back, and lets it go on', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    const placement = { resourcePool: 'kubernetes' };
    const document = (size: 1 | 3) =>
      wanted({
        spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size, placement }] }),
      });
    await site.want(document(1));
    await site.phase('Running');
    site.simulator.faults.replace([parseFault('scheduler-crash-loops')]);
    const sick = await site.until('degraded', (status) => condition(status)?.reason === 'Degraded');
    expect(condition(sick)?.message).toMatch(
      /kube-scheduler on \S+: CrashLoopBackOff, restarted (once|\d+ times)/,
    );
    await site.want(document(3));
    const held = await site.until('held back', ({ nodes }) =>
      nodes.some(({ tasks }) =>
        tasks.some(({ waitingFor }) => waitingFor?.includes('kube-scheduler') === true),
      ),
    );
    expect(held.nodes.filter(({ phase }) => phase === 'Ready')).toHaveLength(1);
    const [waiting] = held.nodes.flatMap(({ tasks }) => tasks.filter(({ error }) => error !== undefined));
    expect(waiting?.error).toMatchObject({ code: 'NODE_UNHEALTHY', fix: expect.stringContaining('kubectl') });
    site.simulator.faults.replace([]);
    const whole = await site.phase('Running');
    expect(whole.nodes.every(({ phase }) => phase === 'Ready')).toBe(true);
    expect(condition(whole)?.status).toBe('True');
  });
});
