/**
 * Builds the picture of one cluster: machines from the account's shared observer, Nodes from the API server.
 * Asking is cheap and bounded: MAAS is read by the observer alone, the API server at most once per probe
 * interval. What does not answer is reported as such and never as absent.
 */
import { type Clock, withDeadline } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { KubeClient, KubeObject } from '../kube/client.ts';
import { readManaged } from '../kube/nodes.ts';
import type { MaasObserver } from '../maas/observer.ts';
import type { ClusterAccess } from './access.ts';
import { COMPONENT_PODS, readComponentFaults } from './components.ts';
import { type ClusterRecord, endpointAddress, heldSystemId, type NodeRecord } from './model.ts';
import { nodeAddresses } from './node-address.ts';
import type { KubeNode, KubeView, Observed, Reading } from './observed.ts';
import type { Timings } from './timings.ts';

/** kubeadm's port of the API server on every control-plane node. */
export const API_PORT = 6443;
/** Node addresses tried at once while the endpoint is silent. */
const NODES_TRIED = 3;
/** MAAS's event when cloud-init of the installed system ends with an error: its name and its title. */
const POST_INSTALL_FAILED: ReadonlySet<string> = new Set([
  'NODE_POST_INSTALL_EVENT_FAILED',
  'Node post-installation failure',
]);

export interface KubeAnswer {
  readonly view: KubeView;
  /** The client that answered. */
  readonly client: KubeClient | undefined;
}

export function trackedIds(record: ClusterRecord): string[] {
  return record.nodes.flatMap((node) => heldSystemId(node) ?? []);
}

export function observeMaas(
  record: ClusterRecord,
  observer: MaasObserver,
): Pick<Observed, 'maasUp' | 'maasOutages' | 'machines' | 'bootstrapFailures'> {
  const machines = new Map<string, Reading>();
  const bootstrapFailures = new Map<string, string>();
  for (const { systemId, machine, observedAt } of observer.machines(record.id)) {
    if (observedAt !== undefined) machines.set(systemId, { machine, at: observedAt });
  }
  for (const node of record.nodes) {
    // Events of the machine's earlier lives do not count: only those that MAAS numbered after our deploy.
    if (node.claim.kind !== 'held' || node.deployEventsAfter === undefined) continue;
    for (const event of observer.eventsFor(node.claim.systemId)) {
      if (event.id > node.deployEventsAfter && POST_INSTALL_FAILED.has(event.type))
        bootstrapFailures.set(node.claim.systemId, event.description);
    }
  }
  return {
    maasUp: observer.state.kind === 'ok',
    maasOutages: observer.outages(),
    machines,
    bootstrapFailures,
  };
}

export async function observeKube(input: {
  readonly record: ClusterRecord;
  readonly machines: Observed['machines'];
  readonly access: ClusterAccess;
  readonly clock: Clock;
  readonly timings: Timings;
  readonly signal: AbortSignal;
}): Promise<KubeAnswer> {
  const { record, machines, access, clock, timings, signal } = input;
  const pki = record.pki;
  const endpoint = endpointAddress(record.endpoint);
  if (!pki || !endpoint) return { view: { kind: 'none' }, client: undefined };
  const hosts = apiHosts(record, machines);
  if (hosts.length === 0 && record.initializedAt === undefined)
    return { view: { kind: 'none' }, client: undefined };

  const ask = async (host: string, port: number, viaEndpoint: boolean): Promise<KubeAnswer> =>
    await withDeadline(clock, timings.kubeTimeoutMs, `the API server at ${host}`, signal, async (limited) => {
      const client = await access.client(pki, host, port);
      const [{ items }, pods] = await Promise.all([
        client.list('/api/v1/nodes', limited),
        componentPods(client, input, limited),
      ]);
      const nodes = items.map(readNode);
      const configured = record.initializedAt !== undefined || (await isConfigured(client, limited));
      return {
        client,
        view: {
          kind: 'reachable',
          endpoint: viaEndpoint,
          configured,
          nodes,
          ...('unread' in pods
            ? { componentFaults: [], componentsUnread: pods.unread }
            : { componentFaults: readComponentFaults(pods.items, nodes, clock.now()) }),
        },
      };
    });

  let reason: string;
  try {
    return await ask(endpoint.host, endpoint.port, true);
  } catch (error) {
    signal.throwIfAborted();
    reason = describeError(error);
  }
  const others = hosts.filter((host) => host !== endpoint.host).slice(0, NODES_TRIED);
  try {
    return await Promise.any(others.map((host) => ask(host, API_PORT, false)));
  } catch (error) {
    signal.throwIfAborted();
    const causes = error instanceof AggregateError ? error.errors : [error];
    return {
      view: { kind: 'unreachable', reason: causes.length === 0 ? reason : describeError(causes[0]) },
      client: undefined,
    };
  }
}

/** An API server that tells its Nodes answers, even when one Pod that it cannot decode lets it list no others. */
async function componentPods(
  client: KubeClient,
  { clock, timings }: { readonly clock: Clock; readonly timings: Timings },
  signal: AbortSignal,
): Promise<{ readonly items: readonly KubeObject[] } | { readonly unread: string }> {
  try {
    const ask = (limited: AbortSignal) => client.list(COMPONENT_PODS, limited);
    return await withDeadline(clock, timings.kubeTimeoutMs / 2, 'static pods', signal, ask);
  } catch (error) {
    signal.throwIfAborted();
    return { unread: describeError(error) };
  }
}

/**
 * Addresses of control-plane machines that may serve: nodes that were Ready before others, the likeliest address of
 * each before its others. A machine that waits for its turn has nothing that listens, and may swallow what is sent.
 */
export function apiHosts(record: ClusterRecord, machines: Observed['machines']): string[] {
  const rank = (node: NodeRecord) =>
    node.readyAt !== undefined && node.unhealthySince === undefined ? 0 : 1;
  const ordered = [...record.nodes].sort((a, b) => rank(a) - rank(b));
  const addresses = ordered.flatMap((node) => {
    if (node.role !== 'control-plane' || node.claim.kind !== 'held') return [];
    const letIn = node.joinedAt !== undefined || node.token.grantedAt !== undefined;
    if (!node.init && (record.initializedAt === undefined || !letIn)) return [];
    const machine = machines.get(node.claim.systemId)?.machine;
    return machine?.status === 'deployed' ? [nodeAddresses(machine, record.endpoint)] : [];
  });
  return [...addresses.flatMap(([first]) => first ?? []), ...addresses.flatMap(([, ...rest]) => rest)];
}

/** A control-plane node is on its way in or out of etcd. */
export function membershipMoves(record: ClusterRecord): boolean {
  const control = record.nodes.filter((node) => node.role === 'control-plane');
  return (
    record.initializedAt !== undefined &&
    control.length > 1 &&
    control.some(
      (node) =>
        node.readyAt === undefined || node.intent.kind === 'remove' || node.unhealthySince !== undefined,
    )
  );
}

/** Both ConfigMaps exist once kubeadm init has passed its upload phases: from then on others can join. */
async function isConfigured(client: KubeClient, signal: AbortSignal): Promise<boolean> {
  const [config, info] = await Promise.all([
    client.get('/api/v1/namespaces/kube-system/configmaps/kubeadm-config', signal),
    client.get('/api/v1/namespaces/kube-public/configmaps/cluster-info', signal),
  ]);
  return config !== undefined && info !== undefined;
}

interface NodeBody {
  readonly spec?: {
    readonly providerID?: string;
    readonly unschedulable?: boolean;
    readonly taints?: { key: string; value?: string; effect: string }[];
  };
  readonly status?: {
    readonly conditions?: { type: string; status: string }[];
    readonly addresses?: { type: string; address: string }[];
    readonly nodeInfo?: { kubeletVersion?: string; bootID?: string; machineID?: string; systemUUID?: string };
  };
}

const CONTROL_PLANE_LABEL = 'node-role.kubernetes.io/control-plane';

export function readNode(object: KubeObject): KubeNode {
  const { spec, status } = object as NodeBody;
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready')?.status;
  const labels = object.metadata.labels ?? {};
  return {
    name: object.metadata.name,
    systemId: spec?.providerID?.startsWith('maas://') ? spec.providerID.split('/').at(-1) : undefined,
    ready: ready === 'True',
    silent: ready === 'Unknown',
    controlPlane: CONTROL_PLANE_LABEL in labels,
    unschedulable: spec?.unschedulable === true,
    version: status?.nodeInfo?.kubeletVersion ?? '',
    internalIp: status?.addresses?.find((address) => address.type === 'InternalIP')?.address,
    bootId: status?.nodeInfo?.bootID,
    machineId: status?.nodeInfo?.machineID,
    systemUuid: status?.nodeInfo?.systemUUID,
    labels,
    taints: spec?.taints ?? [],
    managed: readManaged(object),
  };
}
