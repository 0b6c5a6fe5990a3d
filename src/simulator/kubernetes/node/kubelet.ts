/**
 * The kubelet of one machine: registers its Node, renews its Lease, reports Ready once a CNI pod runs here, and
 * runs the pods that were scheduled to it. It speaks as system:node:<name> through an API server it can reach.
 */
import { randomUUID } from 'node:crypto';
import type { BootedMachine } from '../../ports.ts';
import type { Json, KubeObject } from '../api/json.ts';
import type { UserInfo } from '../api/request.ts';
import { R } from '../api/resources.ts';
import { type Note, note } from '../controllers/events.ts';
import type { SimCluster } from './cluster.ts';
import { KubeletPods } from './kubelet-pods.ts';
import { nodeStatus } from './node-status.ts';
import { isCniPod } from './pod-runtime.ts';
import { mirrorPod } from './static-pods.ts';

/** Of real kubelets, in hardware time. */
const HEARTBEAT_MS = 10_000;
/** Heartbeats are not simulated faster than this (real milliseconds): a hundred nodes would do nothing else. */
const MIN_HEARTBEAT_MS = 500;

export interface KubeletOptions {
  readonly machine: BootedMachine;
  readonly nodeName: string;
  readonly nodeIp: string;
  readonly version: string;
  readonly labels: Record<string, string>;
  readonly taints: Json[];
  readonly providerId: string | undefined;
  readonly maxPods: number;
  /** A control-plane kubelet talks to its own API server only. */
  readonly local: boolean;
  /** Static pods by manifest: name and image. */
  readonly staticPods: readonly { name: string; image: string; command: string[] }[];
}

export class Kubelet {
  readonly cluster: SimCluster;
  readonly options: KubeletOptions;
  readonly user: UserInfo;
  readonly #pods: KubeletPods;
  readonly #stop = new AbortController();
  readonly #machineId: string;
  readonly bootId = randomUUID();
  /** Monotonic time of the last successful renewal. */
  lastHeartbeat = Number.NEGATIVE_INFINITY;
  #cniReady = false;
  /** The node was given up for a while, and its pods with it: none of them counts as Ready. */
  #podsDoubted = false;

  constructor(cluster: SimCluster, options: KubeletOptions) {
    this.cluster = cluster;
    this.options = options;
    const { machine } = options;
    const cloned = cluster.site.faults.take('cloned-image', machine);
    this.#machineId = cloned ? 'c10e'.repeat(8) : machine.systemId.padEnd(32, '0');
    this.#pods = new KubeletPods(this);
    this.user = { name: `system:node:${options.nodeName}`, groups: ['system:nodes', 'system:authenticated'] };
  }

  get alive(): boolean {
    return !this.#stop.signal.aborted;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  get name(): string {
    return this.options.nodeName;
  }

  /** An API server that this kubelet's kubeconfig leads to answers now. */
  async apiReachable(): Promise<boolean> {
    const { cluster, options } = this;
    if (!this.alive || !cluster.etcd.hasQuorum()) return false;
    if (options.local) return cluster.controlPlanes.get(options.machine.systemId)?.serving === true;
    const host = cluster.endpoint?.host;
    if (host === undefined) return cluster.controllersRun();
    const addresses = await cluster.site.resolve(host).catch(() => []);
    return addresses.some((address) => cluster.servingAt(address) !== undefined);
  }

  /** Creates the Node as a kubelet does. Throws Forbidden when its labels are not allowed. */
  register(): void {
    const { core } = this.cluster;
    const { nodeName, labels, taints, providerId } = this.options;
    const existing = core.store.get(R.nodes, undefined, nodeName);
    if (!existing) {
      core.objects.create(
        core.type(R.nodes),
        undefined,
        {
          apiVersion: 'v1',
          kind: 'Node',
          metadata: {
            name: nodeName,
            labels: {
              'beta.kubernetes.io/arch': 'amd64',
              'beta.kubernetes.io/os': 'linux',
              'kubernetes.io/arch': 'amd64',
              'kubernetes.io/hostname': nodeName,
              'kubernetes.io/os': 'linux',
              ...labels,
            },
            annotations: {
              'volumes.kubernetes.io/controller-managed-attach-detach': 'true',
              'node.alpha.kubernetes.io/ttl': '0',
            },
          },
          spec: {
            ...(providerId ? { providerID: providerId } : {}),
            ...(taints.length > 0 ? { taints } : {}),
          },
        },
        core.as(this.user),
      );
    }
    this.#writeStatus();
    this.heartbeat();
    for (const pod of this.options.staticPods) this.#mirror(pod);
  }

  /** Renews the Lease in kube-node-lease. */
  heartbeat(): void {
    const { core, site } = this.cluster;
    const time = `${new Date(site.clock.now()).toISOString().slice(0, -1)}000Z`;
    const spec = { holderIdentity: this.name, leaseDurationSeconds: 40, renewTime: time };
    const lease = core.store.get(R.leases, 'kube-node-lease', this.name);
    if (lease) core.store.update(R.leases, { ...lease, metadata: { ...lease.metadata }, spec });
    else if (core.store.get(R.namespaces, undefined, 'kube-node-lease'))
      core.store.create(R.leases, {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: this.name, namespace: 'kube-node-lease', ownerReferences: this.#ownNode() },
        spec,
      });
    this.lastHeartbeat = site.clock.monotonic();
  }

  #ownNode() {
    const node = this.cluster.core.store.get(R.nodes, undefined, this.name);
    return node ? [{ apiVersion: 'v1', kind: 'Node', name: this.name, uid: node.metadata.uid ?? '' }] : [];
  }

  /** Heartbeats, and notices what it missed while the API was away. Runs until the machine stops. */
  async run(): Promise<void> {
    const { site } = this.cluster;
    const period = Math.max(HEARTBEAT_MS, MIN_HEARTBEAT_MS * site.pace.speed);
    let missed = true;
    while (this.alive && !this.cluster.signal.aborted) {
      try {
        if (site.faults.take('node-dies', this.options.machine)) {
          this.cluster.controlPlanes.get(this.options.machine.systemId)?.stop();
          this.stop();
          return;
        }
        // Nobody can write that it is late, either.
        if (this.cluster.isFull()) this.lastHeartbeat = site.clock.monotonic();
        else if (await this.apiReachable()) {
          if (this.cluster.core.store.get(R.nodes, undefined, this.name)) {
            this.heartbeat();
            this.#writeStatus();
            // Whoever deletes a mirror pod stops nothing: it comes back.
            for (const pod of this.options.staticPods) this.#mirror(pod);
            if (this.#podsDoubted) await this.#pods.vouch();
            this.#podsDoubted = false;
            await this.#pods.judgeScheduler();
          }
          if (missed) this.#pods.sync();
          missed = false;
        } else missed = true;
      } catch (error) {
        site.log.debug({ machine: this.name, error: String(error) }, 'simulated kubelet could not report');
      }
      await site.pace.sleep(period, AbortSignal.any([this.signal, this.cluster.signal])).catch(() => {});
    }
  }

  /** A pod of this node appeared or changed. */
  observe(pod: KubeObject): void {
    this.#pods.observe(pod);
  }

  /** A pod of this node is gone. */
  forget(pod: KubeObject): void {
    this.#pods.forget(pod);
  }

  stop(): void {
    this.#stop.abort(new Error('the machine stopped'));
    this.#pods.stop();
    this.cluster.kubelets.delete(this.name);
  }

  #writeStatus(): void {
    const { core } = this.cluster;
    const node = core.store.get(R.nodes, undefined, this.name);
    if (!node) return;
    const ready = this.#cniReady;
    const current = (node.status?.conditions ?? []).find((item: Json) => item.type === 'Ready');
    if (current?.status === (ready ? 'True' : 'False') && node.status?.nodeInfo?.bootID === this.bootId)
      return;
    this.#podsDoubted ||= current?.status === 'Unknown';
    const now = this.now();
    if (ready) this.cluster.site.reached(this.options.machine.systemId, 'ready');
    const reason = ready ? 'NodeReady' : 'NodeNotReady';
    this.note(node, { reason, message: `Node ${this.name} status is now: ${reason}` });
    core.objects.change(
      core.type(R.nodes),
      undefined,
      this.name,
      (draft) => {
        draft.status = {
          ...draft.status,
          ...nodeStatus({ ...this.options, bootId: this.bootId, machineId: this.#machineId, ready, now }),
        };
      },
      core.as(this.user, 'status'),
    );
  }

  #mirror(pod: { name: string; image: string; command: string[] }): void {
    const { core } = this.cluster;
    const name = `${pod.name}-${this.name}`;
    if (core.store.get(R.pods, 'kube-system', name)) return;
    core.objects.create(
      core.type(R.pods),
      'kube-system',
      mirrorPod(pod, this.name, this.#ownNode()),
      core.as(this.user),
    );
  }

  /** Writes an Event of this kubelet. */
  note(about: KubeObject, event: Omit<Note, 'component'>): void {
    note(this.cluster.core, about, { ...event, component: 'kubelet', host: this.name });
  }

  /** Has this node a network for pods? */
  get cniReady(): boolean {
    return this.#cniReady;
  }

  /** The node is ready for pods exactly while a CNI pod is ready here. */
  cniChanged(): void {
    let ready = false;
    for (const pod of this.cluster.core.store.values(R.pods))
      if (
        pod.spec?.nodeName === this.name &&
        isCniPod(pod) &&
        pod.status?.phase === 'Running' &&
        (pod.status?.containerStatuses ?? []).every((item: Json) => item.ready)
      )
        ready = true;
    // The configuration file stays on the disk: a node that once had a network keeps it while its CNI pod is replaced.
    this.#cniReady = this.#cniReady || ready;
    this.#writeStatus();
  }

  /** RFC 3339, whole seconds. */
  now(): string {
    return new Date(this.cluster.site.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
  }
}
