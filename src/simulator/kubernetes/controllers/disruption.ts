/** How many pods each PodDisruptionBudget can spare at the moment. */
import { type Json, type KubeObject, sameJson } from '../api/json.ts';
import { R } from '../api/resources.ts';
import { matchesSelector } from '../api/selectors.ts';
import type { ApiCore } from '../api/core.ts';
import { isReady, share } from './pods.ts';

export function updateBudgets(cluster: { readonly core: ApiCore }): void {
  const { core } = cluster;
  for (const pdb of core.store.all(R.pdbs)) {
    const pods = core.store
      .all(R.pods)
      .filter(
        (pod) =>
          pod.metadata.namespace === pdb.metadata.namespace &&
          matchesSelector(pdb.spec?.selector, pod.metadata.labels),
      );
    const expected = expectedPods(core, pods);
    const healthy = pods.filter((pod) => isReady(pod) && !pod.metadata.deletionTimestamp).length;
    const { minAvailable, maxUnavailable } = pdb.spec ?? {};
    const desired =
      maxUnavailable !== undefined
        ? Math.max(0, expected - share(maxUnavailable, expected, Math.ceil))
        : share(minAvailable ?? 0, expected, Math.ceil);
    const status = {
      currentHealthy: healthy,
      desiredHealthy: desired,
      disruptionsAllowed: expected > 0 ? Math.max(0, healthy - desired) : 0,
      expectedPods: expected,
      observedGeneration: pdb.metadata.generation ?? 1,
    };
    const { conditions: _c, disruptedPods: _d, ...known } = pdb.status ?? {};
    if (sameJson(known, status)) continue;
    core.edit(R.pdbs, pdb.metadata, (draft) => {
      const sufficient = status.disruptionsAllowed > 0;
      draft.status = {
        ...status,
        conditions: [
          {
            type: 'DisruptionAllowed',
            status: sufficient ? 'True' : 'False',
            reason: sufficient ? 'SufficientPods' : 'InsufficientPods',
            message: '',
            lastTransitionTime: new Date(core.clock.now()).toISOString(),
          },
        ],
      };
    });
  }
}

/** Replicas that the pods' controllers want; pods without one count themselves. */
function expectedPods(core: ApiCore, pods: readonly KubeObject[]): number {
  const owners = new Map<string, number>();
  let bare = 0;
  for (const pod of pods) {
    const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller);
    if (!owner) {
      bare += 1;
      continue;
    }
    const table =
      owner.kind === 'ReplicaSet' ? R.replicasets : owner.kind === 'StatefulSet' ? R.statefulsets : undefined;
    const object: Json = table && core.store.get(table, pod.metadata.namespace, owner.name);
    // A ReplicaSet that a rollout has scaled down still counts what it should have.
    owners.set(
      owner.uid,
      object?.spec?.replicas ??
        pods.filter((other) =>
          other.metadata.ownerReferences?.some((reference) => reference.uid === owner.uid),
        ).length,
    );
  }
  return bare + [...owners.values()].reduce((sum, count) => sum + count, 0);
}
