/** Upgrades in the middle of which the control plane falls ill, with the gateway killed: they stand still and go on. */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { document as wanted } from '../support/engine.ts';
import { leaks, NO_LEAKS, siteBreaches } from '../support/invariants.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const placement = { resourcePool: 'kubernetes' };
const FROM = 'v1.36.1';
const TO = 'v1.36.2';

function document(
  version: string,
  rollout: 'expand-first' | 'contract-first',
  changes: Partial<ClusterDocument> = {},
) {
  const profile = resolvedProfile();
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 3, rollout, placement },
        { role: 'worker', name: 'workers', size: 1, rollout, placement },
      ],
    }),
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
    ...changes,
  });
}

/** With its cause; the reason is another one while a node is missing anyway. */
const told = ({ conditions }: ClusterStatus) =>
  conditions.some(
    ({ type, status, message }) =>
      type === 'ControlPlaneReady' && status === 'False' && /etcd alarm|kube-scheduler on/.test(message),
  );

describe.each(['etcd-nospace', 'etcd-corrupt', 'scheduler-crash-loops'])(
  'a rollout into which %s falls',
  (fault) => {
    async function fallen(rollout: 'expand-first' | 'contract-first') {
      const site = await SimulatedSite.start({ speed: 200 });
      await site.want(document(FROM, rollout));
      const before = await site.phase('Running');
      const since = site.clock.now();
      const old = new Set(before.nodes.map(({ name }) => name));
      await site.want(document(TO, rollout));
      const preview = await site.until('preview', (status) => status.rollout?.state === 'preview');
      const plan = preview.rollout?.plan ?? '';
      const actions = [{ id: 'ac-go', kind: 'approve-rollout' as const, plan }];
      await site.want(document(TO, rollout, { actions }));
      const isNew = ({ name, phase }: ClusterStatus['nodes'][number]) => phase === 'Ready' && !old.has(name);
      await site.until('the first new node', ({ nodes }) => nodes.some(isNew));
      site.simulator.faults.replace([parseFault(fault)]);
      await site.until('told', told);
      site.crash();
      await site.until('told again', told);
      return { site, since, isNew, actions };
    }
    const voters = (site: SimulatedSite) =>
      inside(site)
        .etcd.members()
        .map(({ name, isLearner }) => `${name} ${isLearner}`)
        .sort();

    it.each(['expand-first', 'contract-first'] as const)(
      '%s: no member of etcd moves until it is over, no machine is blamed, then it ends',
      async (rollout) => {
        const { site, since, isNew } = await fallen(rollout);
        await using _site = site;
        // A join or a removal that was under way has its end.
        await site.clock.sleep(5_000);
        const members = voters(site);
        await site.clock.sleep(2 * site.timings.joinDeadlineMs);
        expect(voters(site)).toEqual(members);
        site.simulator.faults.replace([]);
        await site.until(
          'upgraded',
          ({ phase, nodes }) => phase === 'Running' && nodes.length === 4 && nodes.every(isNew),
          { withinMs: 180_000 },
        );
        const controlPlanes = rollout === 'expand-first' ? 3 : 2;
        expect(siteBreaches(site, { cluster: 'demo', since, workers: 0, controlPlanes })).toEqual([]);
        const said = (await site.outbox.recentEvents({}, 1000)).map(({ reason }) => reason);
        expect(said).not.toContain('MachineFailed');
        expect(said).not.toContain('PowerCycling');
      },
    );

    it('does not keep the cluster from being deleted', async () => {
      const { site, actions } = await fallen('expand-first');
      await using _site = site;
      const requestedAt = new Date(site.clock.now()).toISOString();
      await site.want(
        document(TO, 'expand-first', { actions, intent: { kind: 'delete', requestedAt, reason: 'delete' } }),
      );
      await site.phase('Deleted');
      expect(leaks(site)).toEqual(NO_LEAKS);
    });
  },
);
