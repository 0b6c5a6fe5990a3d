/**
 * The life of machines after MAAS has installed them: each booted machine does what its user-data says, and
 * those that come together form clusters. Entry point of the Kubernetes double.
 */
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type {
  BootedMachine,
  MachineConsole,
  MachineRuntime,
  Milestone,
  Pace,
  SiteNetwork,
} from '../ports.ts';
import { R } from './api/resources.ts';
import type { Moment } from './chronicle.ts';
import { type Departure, departing } from './departures.ts';
import { type KubernetesFaults, noFaults } from './faults.ts';
import type { SimCluster, Site } from './node/cluster.ts';
import { isIpv4 } from './node/kubeadm-config.ts';
import { type MachinePhase, SimMachine } from './node/machine.ts';

export interface KubernetesRuntimeOptions {
  readonly network: SiteNetwork;
  readonly pace: Pace;
  readonly log: Log;
  readonly clock: Clock;
  readonly faults?: KubernetesFaults;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
  /** Addresses of a host name (MAAS DNS). Names are unknown without it. */
  readonly resolve?: (host: string) => Promise<readonly string[]> | readonly string[];
}

/** What an observer of the simulator may know about a cluster. */
export interface ClusterView {
  readonly name: string;
  readonly endpoint: string | undefined;
  readonly version: string;
  readonly controlPlanes: readonly {
    readonly systemId: string;
    readonly hostname: string;
    readonly ip: string;
    readonly serving: boolean;
    readonly virtualAddress: string | undefined;
    readonly requests: number;
    /** The same by the user that sent them. */
    readonly requestsBy: Readonly<Record<string, number>>;
  }[];
  readonly etcd: {
    readonly quorum: boolean;
    readonly members: readonly {
      readonly id: string;
      readonly name: string;
      readonly learner: boolean;
      readonly up: boolean;
    }[];
  };
  readonly nodes: readonly {
    readonly name: string;
    readonly ready: boolean;
    readonly unschedulable: boolean;
  }[];
  readonly pods: number;
}

export interface KubernetesRuntime extends MachineRuntime, AsyncDisposable {
  clusters(): ClusterView[];
  departures(): readonly Departure[];
  /** What happened to the clusters that live, each oldest first; a cluster's own end is no moment of it. */
  moments(): Moment[];
  /** Phase of a booted machine and why it failed. */
  machine(
    systemId: string,
  ): { readonly phase: MachinePhase; readonly failure: string | undefined } | undefined;
  /** The clusters themselves, for tests that break something inside. */
  inside(): SimCluster[];
}

/** Milestones kept: those of the newest few thousand boots. */
const MILESTONES_KEPT = 20_000;
const DEPARTURES_KEPT = 2_000;

export function createKubernetesRuntime(options: KubernetesRuntimeOptions): KubernetesRuntime {
  const milestones: Milestone[] = [];
  const site: Site = {
    network: options.network,
    pace: options.pace,
    log: options.log,
    clock: options.clock,
    faults: options.faults ?? noFaults,
    random: options.random ?? Math.random,
    resolve: async (host) => (isIpv4(host) ? [host] : ((await options.resolve?.(host)) ?? [])),
    reboot({ systemId, hostname }) {
      if (site.faults.take('reboot-hangs', { systemId, hostname }))
        return stopping(systemId, (machine) => machine.powerOff());
      stopping(systemId, (machine) => {
        machine.powerOff();
        void machine.resume();
      });
    },
    reached(systemId, what) {
      milestones.push({ systemId, at: options.clock.now(), what });
      if (milestones.length > MILESTONES_KEPT) milestones.splice(0, MILESTONES_KEPT / 2);
    },
  };
  const clusters = new Set<SimCluster>();
  const machines = new Map<string, SimMachine>();
  const living = () => {
    for (const cluster of clusters) if (cluster.signal.aborted) clusters.delete(cluster);
    return [...clusters];
  };
  const departures: Departure[] = [];
  const stopping = (systemId: string, how: (machine: SimMachine) => void) => {
    const found = machines.get(systemId);
    if (!found) return;
    const departure = departing(clusters, found.machine);
    how(found);
    if (departure) departures.push(departure());
    if (departures.length > DEPARTURES_KEPT) departures.splice(0, DEPARTURES_KEPT / 2);
  };
  return {
    boot(machine: BootedMachine, console: MachineConsole) {
      machines.get(machine.systemId)?.stop();
      const booted = new SimMachine(site, machine, console, clusters);
      machines.set(machine.systemId, booted);
      void booted.run();
    },
    stop(systemId: string) {
      stopping(systemId, (machine) => machine.stop());
      machines.delete(systemId);
      living();
    },
    powerOff(systemId: string) {
      stopping(systemId, (machine) => machine.powerOff());
    },
    resume(systemId: string) {
      const machine = machines.get(systemId);
      if (machine) void machine.resume();
    },
    machine(systemId) {
      const found = machines.get(systemId);
      return found && { phase: found.phase, failure: found.failure };
    },
    milestones: () => milestones,
    departures: () => departures,
    moments: () => living().flatMap(({ chronicle }) => chronicle.moments()),
    clusters: () => living().map(view),
    inside: living,
    async [Symbol.asyncDispose]() {
      for (const machine of machines.values()) machine.stop();
      machines.clear();
      for (const cluster of clusters) cluster.stopping.abort(new Error('the simulator ends'));
      clusters.clear();
    },
  };
}

function view(cluster: SimCluster): ClusterView {
  const { core, etcd } = cluster;
  return {
    name: cluster.name,
    endpoint: cluster.endpoint && `${cluster.endpoint.host}:${cluster.endpoint.port}`,
    version: core.version,
    controlPlanes: [...cluster.controlPlanes.values()].map((node) => ({
      systemId: node.machine.systemId,
      hostname: node.machine.hostname,
      ip: node.machine.ip,
      serving: node.serving,
      virtualAddress: node.virtualAddress,
      requests: node.front.requests,
      requestsBy: Object.fromEntries(node.front.requestsBy),
    })),
    etcd: {
      quorum: etcd.hasQuorum(),
      members: etcd.members().map((member) => ({
        id: String(member.id),
        name: member.name,
        learner: member.isLearner,
        up: member.up,
      })),
    },
    nodes: core.store.list(R.nodes).map((node) => ({
      name: node.metadata.name,
      ready: (node.status?.conditions ?? []).some(
        (item: { type: string; status: string }) => item.type === 'Ready' && item.status === 'True',
      ),
      unschedulable: node.spec?.unschedulable === true,
    })),
    pods: core.store.count(R.pods),
  };
}
