/**
 * One simulated cluster: what its etcd holds and the machines that serve and use it. Born by `kubeadm init`,
 * gone with its last control-plane machine. Machines reach each other only through the site network.
 */
import type { Clock } from '../../../base/clock.ts';
import type { Log } from '../../../base/log.ts';
import type { Milestone, Pace, SiteNetwork } from '../../ports.ts';
import { ApiCore } from '../api/core.ts';
import type { Json } from '../api/json.ts';
import { ApiError } from '../api/status.ts';
import { Chronicle } from '../chronicle.ts';
import { EtcdCluster } from '../etcd/members.ts';
import type { KubernetesFaults } from '../faults.ts';
import { Containers } from './containers.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Kubelet } from './kubelet.ts';
import type { Authority } from './pki.ts';

/** What every part of the double works with. */
export interface Site {
  readonly network: SiteNetwork;
  readonly pace: Pace;
  readonly clock: Clock;
  readonly log: Log;
  readonly faults: KubernetesFaults;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Addresses of a host name (MAAS DNS); an address resolves to itself. */
  readonly resolve: (host: string) => Promise<readonly string[]>;
  /** Restarts a machine's OS: everything on it ends and comes back. */
  readonly reboot: (machine: { readonly systemId: string; readonly hostname: string }) => void;
  /** Notes how far a machine has come. */
  readonly reached: (systemId: string, what: Milestone['what']) => void;
}

/** The private keys that all control-plane nodes of a cluster share. */
export interface ClusterKeys {
  readonly ca: Authority;
  readonly etcdCa: Authority;
  readonly frontProxyCa: Authority;
  readonly serviceAccount: { readonly publicPem: string; readonly privatePem: string };
}

export class SimCluster {
  readonly site: Site;
  readonly name: string;
  readonly keys: ClusterKeys;
  readonly core: ApiCore;
  readonly etcd: EtcdCluster;
  readonly chronicle: Chronicle;
  readonly containers: Containers;
  /** ClusterConfiguration of init; live values are in the kubeadm-config ConfigMap. */
  readonly configuration: Json;
  readonly controlPlanes = new Map<string, ControlPlane>();
  /** By Node name. */
  readonly kubelets = new Map<string, Kubelet>();
  /** Monotonic time of the last sign of life of nodes, also of those whose kubelet has stopped. */
  readonly lastSeen = new Map<string, number>();
  /** System id -> boot id in which its packages were upgraded. */
  readonly patched = new Map<string, string>();
  readonly stopping = new AbortController();
  readonly startedAt: number;

  constructor(
    site: Site,
    name: string,
    keys: ClusterKeys,
    configuration: Json,
    core: Omit<ConstructorParameters<typeof ApiCore>[0], 'clock' | 'log' | 'guard'>,
  ) {
    this.site = site;
    this.name = name;
    this.keys = keys;
    this.configuration = configuration;
    this.etcd = new EtcdCluster(() => this.chronicle.membership());
    this.startedAt = site.clock.now();
    this.core = new ApiCore({
      ...core,
      clock: site.clock,
      log: site.log,
      guard: () => {
        if (!this.etcd.hasQuorum()) throw new ApiError(500, 'InternalError', 'etcdserver: request timed out');
      },
      guardWrite: () => {
        // The API server passes it on as it is, without a reason.
        if (this.isFull()) throw new ApiError(500, '', 'etcdserver: mvcc: database space exceeded');
      },
    });
    this.chronicle = new Chronicle(
      name,
      this.core.store,
      this.etcd,
      () => site.clock.now(),
      (node) => [...this.controlPlanes.values()].some(({ nodeName }) => nodeName === node),
    );
    this.containers = new Containers(this);
    this.core.pods = this.containers;
  }

  get signal(): AbortSignal {
    return this.stopping.signal;
  }

  /** `host[:port]` that nodes and clients use. */
  get endpoint(): { host: string; port: number } | undefined {
    const text: string | undefined = this.configuration.controlPlaneEndpoint;
    if (!text) return undefined;
    const [host = '', port] = text.split(':');
    return { host, port: port ? Number(port) : 6443 };
  }

  /** The control plane whose API server answers at this address now (its own or the virtual one). */
  servingAt(ip: string): ControlPlane | undefined {
    if (!this.site.network.isUp(ip)) return undefined;
    for (const node of this.controlPlanes.values())
      if (node.serving && (node.machine.ip === ip || node.virtualAddress === ip)) return node;
    return undefined;
  }

  /** A member of etcd has reached its quota: nothing new is taken until its alarm is disarmed. */
  isFull(): boolean {
    return [...this.controlPlanes.values()].some(({ machine }) =>
      this.site.faults.take('etcd-nospace', machine),
    );
  }

  /** True while a controller-manager of this cluster can do its work, for which it must renew its lease. */
  controllersRun(): boolean {
    if (!this.etcd.hasQuorum() || this.isFull()) return false;
    for (const node of this.controlPlanes.values()) if (node.serving) return true;
    return false;
  }

  nodeStopped(): void {
    if (this.controlPlanes.size === 0)
      this.stopping.abort(new Error('the cluster has no control plane left'));
  }
}
