/**
 * The controller-manager and scheduler of a cluster: one loop that looks at everything after something changed
 * and at least once a period, and works only while an API server of the cluster does.
 */
import { Wake } from '../../../base/wake.ts';
import { R } from '../api/resources.ts';
import { ApiError } from '../api/status.ts';
import type { Change } from '../api/store.ts';
import type { SimCluster } from '../node/cluster.ts';
import { approveCertificates } from './certificates.ts';
import { establishDefinitions } from './definitions.ts';
import { updateBudgets } from './disruption.ts';
import { expireEvents } from './events.ts';
import { fillEndpoints } from './endpoints.ts';
import { collectGarbage } from './garbage.ts';
import { runJobs } from './jobs.ts';
import { finishNamespaces, provideNamespaceDefaults } from './namespaces.ts';
import { watchNodes } from './nodes.ts';
import { schedulePods } from './scheduler.ts';
import { runOperators } from './operators.ts';
import { tendTokens } from './tokens.ts';
import { runVelero } from './velero.ts';
import { runDaemonSets, runDeployments, runReplicaSets, runStatefulSets } from './workloads.ts';

/** Milliseconds of hardware time between looks without a change. */
const PERIOD_MS = 5000;
/** Changes are gathered this long (hardware time), but never shorter than MIN_GATHER_MS in real time. */
const GATHER_MS = 200;
const MIN_GATHER_MS = 10;
/** An API server that flaps is away this long. */
const FLAP_MS = 20_000;
/** How often a fault may hit an API server. */
const FLAP_PERIOD_MS = 30_000;
const SLOW_WRITE_MS = 2000;

type Controller = (cluster: SimCluster) => void | Promise<void>;

/** In the order in which one change usually leads to the next. */
const CONTROLLERS: readonly Controller[] = [
  provideNamespaceDefaults,
  establishDefinitions,
  approveCertificates,
  watchNodes,
  runDeployments,
  runReplicaSets,
  runDaemonSets,
  runStatefulSets,
  runJobs,
  runOperators,
  runVelero,
  schedulePods,
  updateBudgets,
  fillEndpoints,
  collectGarbage,
  finishNamespaces,
  tendTokens,
  expireEvents,
];

/** Changes of these wake nobody: they come all the time and mean nothing to a controller. */
const QUIET = new Set<string>([R.leases, R.events]);

/** Runs until the cluster ends. */
export function runControllers(cluster: SimCluster): void {
  const { site, core, signal } = cluster;
  const wake = new Wake();
  const resources = new DisposableStack();
  for (const storage of new Set(core.registry.all().map((type) => type.storage)))
    if (!QUIET.has(storage)) resources.use(core.store.subscribe(storage, () => wake.ring()));
  resources.use(core.store.subscribe(R.pods, (change) => tellKubelet(cluster, change)));
  core.writeDelayMs = () => {
    const [first] = cluster.controlPlanes.values();
    return first && site.faults.take('slow-etcd', first.machine) ? SLOW_WRITE_MS / site.pace.speed : 0;
  };
  core.blockEviction = (pod) => {
    const machine = cluster.kubelets.get(pod.spec?.nodeName ?? '')?.options.machine;
    return machine !== undefined && site.faults.take('pdb-blocks', machine);
  };
  signal.addEventListener('abort', () => resources.dispose(), { once: true });
  void loop(cluster, wake);
  void flapping(cluster);
}

async function loop(cluster: SimCluster, wake: Wake): Promise<void> {
  const { site, signal } = cluster;
  const { speed } = site.pace;
  while (!signal.aborted) {
    for (const node of cluster.controlPlanes.values()) {
      // A removed member's etcd exits, and its API server with it.
      if (!cluster.etcd.get(node.memberId)) node.stop();
    }
    if (cluster.controllersRun()) {
      for (const controller of CONTROLLERS) {
        try {
          await controller(cluster);
        } catch (error) {
          // The next look repairs what a conflict or a missing object prevented now.
          const level = error instanceof ApiError ? 'debug' : 'warn';
          site.log[level](
            { cluster: cluster.name, controller: controller.name, error: String(error) },
            'simulated controller failed',
          );
        }
      }
    }
    try {
      await wake.wait(site.clock, Math.max(PERIOD_MS / speed, 250), signal);
      await site.clock.sleep(Math.max(GATHER_MS / speed, MIN_GATHER_MS), signal);
    } catch {
      return;
    }
  }
}

function tellKubelet(cluster: SimCluster, change: Change): void {
  const node: string | undefined = change.object.spec?.nodeName;
  const kubelet = node === undefined ? undefined : cluster.kubelets.get(node);
  if (!kubelet) return;
  if (change.type === 'DELETED') kubelet.forget(change.object);
  else kubelet.observe(change.object);
}

/** The fault `api-flaps` restarts API servers now and then. */
async function flapping(cluster: SimCluster): Promise<void> {
  const { site, signal } = cluster;
  while (!signal.aborted) {
    try {
      await site.pace.sleep(FLAP_PERIOD_MS, signal);
      for (const node of cluster.controlPlanes.values())
        if (site.faults.take('api-flaps', node.machine)) await node.flap(FLAP_MS, signal);
    } catch {
      return;
    }
  }
}
