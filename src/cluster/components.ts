/**
 * Health of what runs as static pods on control-plane nodes, read from their mirror pods. A node stays Ready while its
 * scheduler crash-loops, so the Node alone does not tell. Nothing is repaired or replaced because of it: the manifest
 * or the image is wrong more often than the machine. It is shown, and the next control-plane node waits.
 */
import type { KubeObject } from '../kube/client.ts';
import type { KubeNode, KubeView } from './observed.ts';
import type { NodeSituation } from './situation.ts';

export interface ComponentFault {
  /** Name of the Node. */
  readonly node: string;
  /** `kube-scheduler` */
  readonly component: string;
  /** `CrashLoopBackOff, restarted 7 times` */
  readonly reason: string;
}

/** Every static pod that kubeadm writes a manifest of carries the label, and so do its mirrors. */
export const COMPONENT_PODS = '/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane';

const COMPONENTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
/** The kubelet never waits longer than this between two starts of a container. */
const BACK_OFF_MS = 5 * 60_000;
/** One restart is a lost lease, two may be a slow disk. */
const LOOP_RESTARTS = 3;

interface ContainerStatus {
  readonly restartCount?: number;
  readonly state?: { readonly waiting?: { reason?: string }; readonly running?: { startedAt?: string } };
  readonly lastState?: { readonly terminated?: { startedAt?: string; finishedAt?: string } };
}

interface PodBody {
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly conditions?: { type: string; status: string }[];
    readonly containerStatuses?: ContainerStatus[];
  };
}

/** `now`: wall clock, milliseconds. A silent node's pods say nothing: their state is what it was. */
export function readComponentFaults(
  pods: readonly KubeObject[],
  nodes: readonly KubeNode[],
  now: number,
): ComponentFault[] {
  return nodes
    .filter(({ controlPlane, silent }) => controlPlane && !silent)
    .flatMap((node) =>
      COMPONENTS.flatMap((component) => {
        const pod = pods.find(
          (candidate) =>
            // As the kubelet names a mirror; others may carry its labels.
            candidate.metadata.name === `${component}-${node.name}` &&
            (candidate as PodBody).spec?.nodeName === node.name,
        );
        // The kubelet of a node that has just joined still writes its mirror pods.
        const reason = pod ? troubleOf(pod, now) : node.ready ? 'has no pod' : undefined;
        return reason === undefined ? [] : [{ node: node.name, component, reason }];
      }),
    );
}

function troubleOf(pod: KubeObject, now: number): string | undefined {
  const { conditions = [], containerStatuses = [] } = (pod as PodBody).status ?? {};
  const restarts = containerStatuses.reduce((sum, { restartCount = 0 }) => sum + restartCount, 0);
  const often = restarts === 1 ? 'once' : `${restarts} times`;
  const said = (reason: string) => (restarts === 0 ? reason : `${reason}, restarted ${often}`);
  const waiting = containerStatuses.find(({ state }) => state?.waiting !== undefined)?.state?.waiting;
  if (waiting) return said(waiting.reason ?? 'waiting');
  // Between two crashes it runs, and counts as Ready where it has no readiness probe.
  if (containerStatuses.some((status) => isLooping(status, now))) return said('keeps crashing');
  return conditions.some(({ type, status }) => type === 'Ready' && status === 'True')
    ? undefined
    : said('not Ready');
}

/** Several starts, the last run was short, and this one has not outlived it. */
function isLooping({ restartCount = 0, state, lastState }: ContainerStatus, now: number): boolean {
  const { startedAt, finishedAt } = lastState?.terminated ?? {};
  const lastRunMs = Date.parse(finishedAt ?? '') - Date.parse(startedAt ?? '');
  const runsMs = now - Date.parse(state?.running?.startedAt ?? '');
  return restartCount >= LOOP_RESTARTS && lastRunMs < BACK_OFF_MS && runsMs < BACK_OFF_MS;
}

/** A component that works on no control-plane node: what it does is done by nobody. */
export function missingComponent(kube: KubeView): ComponentFault | undefined {
  if (kube.kind !== 'reachable') return undefined;
  const { nodes, componentFaults } = kube;
  const control = nodes.filter(({ controlPlane, silent }) => controlPlane && !silent);
  return componentFaults.find(({ component }) =>
    control.every(({ name }) =>
      componentFaults.some((fault) => fault.node === name && fault.component === component),
    ),
  );
}

/** Of nodes that are not on their way out. */
export function stayingFaults(kube: KubeView, nodes: readonly NodeSituation[]): readonly ComponentFault[] {
  if (kube.kind !== 'reachable') return [];
  return kube.componentFaults.filter(
    (fault) => nodes.find((entry) => isOn(fault, entry))?.node.intent.kind !== 'remove',
  );
}

export function isOn(fault: ComponentFault, { situation }: NodeSituation): boolean {
  return 'node' in situation && situation.node.name === fault.node;
}

export function describeFault({ node, component, reason }: ComponentFault): string {
  return `${component} on ${node}: ${reason}`;
}

/** What a person does about it. */
export function faultFix({ node, component }: ComponentFault): string {
  return `read "kubectl -n kube-system logs ${component}-${node} --previous", mend /etc/kubernetes/manifests/${component}.yaml on ${node}, or replace the node`;
}
