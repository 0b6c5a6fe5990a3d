/** Deployments, ReplicaSets, DaemonSets and StatefulSets: the pods that they want, and what they report. */
import type { ApiCore } from '../api/core.ts';
import { CONTROLLER_MANAGER } from '../api/core.ts';
import { type Json, type KubeObject, clone, sameJson } from '../api/json.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';
import {
  createPod,
  deletePod,
  isControlledBy,
  isFinished,
  isGoing,
  isReady,
  controllerReference,
  podsOf,
  share,
  templateHash,
} from './pods.ts';
import { matchesNode, schedulerWorks, tolerates } from './scheduler.ts';

const REVISION = 'deployment.kubernetes.io/revision';

function report(core: ApiCore, storage: string, object: KubeObject, status: Json): void {
  if (sameJson(object.status, status)) return;
  core.edit(storage, object.metadata, (draft) => {
    draft.status = status;
  });
}

function condition(
  previous: Json,
  type: string,
  ok: boolean,
  reason: string,
  message: string,
  now: string,
): Json {
  const status = ok ? 'True' : 'False';
  const before = (previous?.conditions ?? []).find((item: Json) => item.type === type);
  if (before?.status === status && before.reason === reason) return before;
  return {
    type,
    status,
    reason,
    message,
    lastUpdateTime: now,
    lastTransitionTime: before?.status === status ? before.lastTransitionTime : now,
  };
}

export function runDeployments({ core }: SimCluster): void {
  for (const deployment of core.store.all(R.deployments)) {
    if (isGoing(deployment)) continue;
    const { spec } = deployment;
    const hash = templateHash(spec.template);
    const sets = core.store.all(R.replicasets).filter((set) => isControlledBy(set, deployment));
    let current = sets.find((set) => set.metadata.labels?.['pod-template-hash'] === hash);
    const wanted: number = spec.replicas ?? 1;
    const live = (set: KubeObject) => set.spec.replicas as number;
    const old = sets.filter((set) => set !== current);
    if (!current) {
      const revision = String(
        Math.max(0, ...sets.map((set) => Number(set.metadata.annotations?.[REVISION] ?? 0))) + 1,
      );
      const template = clone(spec.template);
      template.metadata = {
        ...template.metadata,
        labels: { ...template.metadata?.labels, 'pod-template-hash': hash },
      };
      current = core.objects.create(
        core.type(R.replicasets),
        deployment.metadata.namespace,
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          metadata: {
            name: `${deployment.metadata.name}-${hash}`,
            namespace: deployment.metadata.namespace,
            labels: template.metadata.labels,
            annotations: {
              [REVISION]: revision,
              'deployment.kubernetes.io/desired-replicas': String(wanted),
            },
            ownerReferences: [controllerReference(deployment)],
          },
          spec: {
            replicas: sets.length === 0 ? wanted : 0,
            selector: { matchLabels: { ...spec.selector.matchLabels, 'pod-template-hash': hash } },
            template,
          },
        },
        core.as(CONTROLLER_MANAGER),
      );
      core.edit(R.deployments, deployment.metadata, (draft) => {
        draft.metadata.annotations = { ...draft.metadata.annotations, [REVISION]: revision };
      });
    }
    const setReplicas = (set: KubeObject, replicas: number) => {
      if (live(set) === replicas) return;
      core.edit(R.replicasets, set.metadata, (draft) => {
        draft.spec.replicas = replicas;
      });
    };
    const active = old.filter((set) => live(set) > 0 || (set.status?.replicas ?? 0) > 0);
    if (active.length === 0) setReplicas(current, wanted);
    else if (spec.strategy?.type === 'Recreate') {
      for (const set of active) setReplicas(set, 0);
      if (active.every((set) => (set.status?.replicas ?? 0) === 0)) setReplicas(current, wanted);
    } else if (!spec.paused) {
      const surge = share(spec.strategy?.rollingUpdate?.maxSurge ?? '25%', wanted, Math.ceil);
      const unavailable = share(spec.strategy?.rollingUpdate?.maxUnavailable ?? '25%', wanted, Math.floor);
      const total = live(current) + active.reduce((sum, set) => sum + live(set), 0);
      const room = Math.max(0, wanted + Math.max(surge, unavailable === 0 ? 1 : surge) - total);
      setReplicas(current, Math.min(wanted, live(current) + room));
      const available = [current, ...active].reduce(
        (sum, set) => sum + (set.status?.availableReplicas ?? 0),
        0,
      );
      let spare = Math.max(0, available - (wanted - unavailable));
      for (const set of active) {
        const step = Math.min(spare, live(set));
        spare -= step;
        setReplicas(set, live(set) - step);
      }
    }
    const all = [current, ...old];
    const sum = (field: string) => all.reduce((total, set) => total + (set.status?.[field] ?? 0), 0);
    const now = new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const available = sum('availableReplicas');
    const updated = current.status?.replicas ?? 0;
    const enough =
      available >= wanted - share(spec.strategy?.rollingUpdate?.maxUnavailable ?? 0, wanted, Math.floor);
    const complete = updated === wanted && available >= wanted && sum('replicas') === wanted;
    const latest =
      core.store.get(R.deployments, deployment.metadata.namespace, deployment.metadata.name) ?? deployment;
    report(core, R.deployments, latest, {
      observedGeneration: latest.metadata.generation,
      ...(sum('replicas') > 0 ? { replicas: sum('replicas') } : {}),
      ...(updated > 0 ? { updatedReplicas: updated } : {}),
      ...(sum('readyReplicas') > 0 ? { readyReplicas: sum('readyReplicas') } : {}),
      ...(available > 0 ? { availableReplicas: available } : {}),
      ...(wanted > available ? { unavailableReplicas: wanted - available } : {}),
      conditions: [
        condition(
          latest.status,
          'Available',
          enough,
          enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
          enough ? 'Deployment has minimum availability.' : 'Deployment does not have minimum availability.',
          now,
        ),
        condition(
          latest.status,
          'Progressing',
          true,
          complete ? 'NewReplicaSetAvailable' : 'ReplicaSetUpdated',
          `ReplicaSet "${current.metadata.name}" ${complete ? 'has successfully progressed.' : 'is progressing.'}`,
          now,
        ),
      ],
    });
  }
}

export function runReplicaSets({ core }: SimCluster): void {
  for (const set of core.store.all(R.replicasets)) {
    if (isGoing(set)) continue;
    const pods = podsOf(core, set).filter((pod) => !isGoing(pod) && !isFinished(pod));
    const wanted: number = set.spec.replicas ?? 1;
    for (let missing = wanted - pods.length; missing > 0; missing -= 1) pods.push(createPod(core, set, {}));
    if (pods.length > wanted) {
      const rank = (pod: KubeObject) => (pod.spec.nodeName ? 0 : 2) + (isReady(pod) ? 0 : 1);
      const victims = [...pods].sort((a, b) => rank(b) - rank(a)).slice(0, pods.length - wanted);
      for (const pod of victims) {
        deletePod(core, pod);
        pods.splice(pods.indexOf(pod), 1);
      }
    }
    const ready = pods.filter(isReady).length;
    report(
      core,
      R.replicasets,
      core.store.get(R.replicasets, set.metadata.namespace, set.metadata.name) ?? set,
      {
        replicas: pods.length,
        ...(pods.length > 0 ? { fullyLabeledReplicas: pods.length } : {}),
        ...(ready > 0 ? { readyReplicas: ready, availableReplicas: ready } : {}),
        observedGeneration: set.metadata.generation,
      },
    );
  }
}

/** Tolerations that the DaemonSet controller adds: daemons run on nodes that are not ready or cordoned. */
const DAEMON_TOLERATIONS: [string, string][] = [
  ['node.kubernetes.io/not-ready', 'NoExecute'],
  ['node.kubernetes.io/unreachable', 'NoExecute'],
  ['node.kubernetes.io/disk-pressure', 'NoSchedule'],
  ['node.kubernetes.io/memory-pressure', 'NoSchedule'],
  ['node.kubernetes.io/pid-pressure', 'NoSchedule'],
  ['node.kubernetes.io/unschedulable', 'NoSchedule'],
];
const HOST_NETWORK_TOLERATION = {
  key: 'node.kubernetes.io/network-unavailable',
  operator: 'Exists',
  effect: 'NoSchedule',
};

function daemonSpec(spec: Json): Json {
  const tolerations = [
    ...(spec.tolerations ?? []),
    ...DAEMON_TOLERATIONS.map(([key, effect]) => ({ key, operator: 'Exists', effect })),
    ...(spec.hostNetwork ? [HOST_NETWORK_TOLERATION] : []),
  ];
  return { ...spec, tolerations };
}

export function runDaemonSets(cluster: SimCluster): void {
  const { core } = cluster;
  const places = schedulerWorks(cluster);
  const nodes = core.store.all(R.nodes);
  for (const set of core.store.all(R.daemonsets)) {
    if (isGoing(set)) continue;
    const hash = templateHash(set.spec.template);
    const spec = daemonSpec(clone(set.spec.template.spec));
    const byNode = new Map<string, KubeObject[]>();
    for (const pod of podsOf(core, set)) {
      const name =
        pod.spec.nodeName ??
        pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
          ?.nodeSelectorTerms?.[0]?.matchFields?.[0]?.values?.[0] ??
        '';
      byNode.set(name, [...(byNode.get(name) ?? []), pod]);
    }
    let desired = 0;
    let outdatedDown = 0;
    const current: KubeObject[] = [];
    const maxUnavailable = share(
      set.spec.updateStrategy?.rollingUpdate?.maxUnavailable ?? 1,
      nodes.length,
      Math.ceil,
    );
    for (const node of nodes) {
      const fits = matchesNode(spec, node) && tolerates(spec, node, ['NoSchedule', 'NoExecute']);
      const here = byNode.get(node.metadata.name) ?? [];
      byNode.delete(node.metadata.name);
      if (!fits) {
        for (const pod of here) deletePod(core, pod);
        continue;
      }
      desired += 1;
      const alive = here.filter((pod) => !isGoing(pod));
      for (const pod of alive.filter(isFinished)) deletePod(core, pod);
      // A daemon's pod that nobody places is not worth making.
      if (here.length === 0 && !places) continue;
      if (here.length === 0) {
        current.push(
          createPod(core, set, {
            labels: {
              'controller-revision-hash': hash,
              'pod-template-generation': String(set.metadata.generation ?? 1),
            },
            adjust: (pod) => {
              // The scheduler places daemon pods by this affinity alone; the tolerations let it.
              pod.spec = { ...spec, nodeName: node.metadata.name };
            },
          }),
        );
        continue;
      }
      current.push(...alive.slice(0, 1));
    }
    // Pods of nodes that are gone are the garbage collector's.
    if (set.spec.updateStrategy?.type !== 'OnDelete') {
      outdatedDown = current.filter((pod) => !isReady(pod)).length;
      for (const pod of current) {
        if (pod.metadata.labels?.['controller-revision-hash'] === hash) continue;
        if (isReady(pod) && outdatedDown >= maxUnavailable) continue;
        if (isReady(pod)) outdatedDown += 1;
        deletePod(core, pod);
      }
    }
    const ready = current.filter((pod) => isReady(pod) && !isGoing(pod)).length;
    const updated = current.filter(
      (pod) => pod.metadata.labels?.['controller-revision-hash'] === hash,
    ).length;
    report(
      core,
      R.daemonsets,
      core.store.get(R.daemonsets, set.metadata.namespace, set.metadata.name) ?? set,
      {
        currentNumberScheduled: current.length,
        desiredNumberScheduled: desired,
        numberMisscheduled: 0,
        numberReady: ready,
        updatedNumberScheduled: updated,
        ...(ready > 0 ? { numberAvailable: ready } : {}),
        ...(desired > ready ? { numberUnavailable: desired - ready } : {}),
        observedGeneration: set.metadata.generation,
      },
    );
  }
}

export function runStatefulSets({ core }: SimCluster): void {
  for (const set of core.store.all(R.statefulsets)) {
    if (isGoing(set)) continue;
    const hash = templateHash(set.spec.template);
    const revision = `${set.metadata.name}-${hash}`;
    const wanted: number = set.spec.replicas ?? 1;
    const all = podsOf(core, set);
    const parallel = set.spec.podManagementPolicy === 'Parallel';
    for (let index = 0; index < wanted; index += 1) {
      const name = `${set.metadata.name}-${index}`;
      const pod = all.find((candidate) => candidate.metadata.name === name);
      if (!pod) {
        createPod(core, set, {
          name,
          labels: {
            'statefulset.kubernetes.io/pod-name': name,
            'apps.kubernetes.io/pod-index': String(index),
            'controller-revision-hash': revision,
          },
        });
        if (!parallel) break;
      } else if (!isReady(pod) && !parallel) break;
    }
    const surplus = all.filter((pod) => Number(/-(\d+)$/.exec(pod.metadata.name)?.[1] ?? 0) >= wanted);
    const last = surplus.sort(
      (a, b) => Number(/(\d+)$/.exec(b.metadata.name)?.[1]) - Number(/(\d+)$/.exec(a.metadata.name)?.[1]),
    )[0];
    if (last) deletePod(core, last);
    const outdated = all.filter(
      (pod) => pod.metadata.labels?.['controller-revision-hash'] !== revision && !isGoing(pod),
    );
    if (
      set.spec.updateStrategy?.type !== 'OnDelete' &&
      outdated.length > 0 &&
      all.every((pod) => isReady(pod) && !isGoing(pod))
    ) {
      const next = outdated.at(-1);
      if (next) deletePod(core, next);
    }
    const pods = podsOf(core, set).filter((pod) => !isGoing(pod));
    const ready = pods.filter(isReady).length;
    report(
      core,
      R.statefulsets,
      core.store.get(R.statefulsets, set.metadata.namespace, set.metadata.name) ?? set,
      {
        observedGeneration: set.metadata.generation,
        replicas: pods.length,
        readyReplicas: ready,
        availableReplicas: ready,
        currentReplicas: pods.length,
        updatedReplicas: pods.filter((pod) => pod.metadata.labels?.['controller-revision-hash'] === revision)
          .length,
        currentRevision: revision,
        updateRevision: revision,
        collisionCount: 0,
      },
    );
  }
}
