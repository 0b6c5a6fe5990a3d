/**
 * The kubelet of one machine: registers its Node, renews its Lease, reports Ready once a CNI pod runs here, and
 * runs the pods that were scheduled to it. It speaks as system:node:<name> through an API server it can reach.
 */
import { randomUUID } from 'node:crypto';
import type { BootedMachine } from '../../ports.ts';
import { type Json, type KubeObject, clone } from '../api/json.ts';
import { forbidden, isAllowed } from '../api/rbac.ts';
import type { UserInfo } from '../api/request.ts';
import { R } from '../api/resources.ts';
import { type Note, note } from '../controllers/events.ts';
import type { SimCluster } from './cluster.ts';
import { crashed, isCrashLooping, recovered } from './crash-loop.ts';
import { completesByItself, isCniPod, runtimeOf } from './pod-runtime.ts';

/** Times of real kubelets and images, milliseconds of hardware time. */
const TIMES = { heartbeat: 10_000, pull: 4000, start: 1500, stop: 1500, job: 6000, retry: 2000 };
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
  /** Pods this kubelet has begun to run, by uid. */
  readonly #running = new Map<string, AbortController>();
  readonly #stop = new AbortController();
  readonly #machineId: string;
  readonly bootId = randomUUID();
  /** Monotonic time of the last successful renewal. */
  lastHeartbeat = Number.NEGATIVE_INFINITY;
  #cniReady = false;
  #cniBroken: boolean | undefined;
  #nextPodAddress = 2;
  /** The node was given up for a while, and its pods with it: none of them counts as Ready. */
  #podsDoubted = false;

  constructor(cluster: SimCluster, options: KubeletOptions) {
    this.cluster = cluster;
    this.options = options;
    const { machine } = options;
    const cloned = cluster.site.faults.take('cloned-image', machine);
    this.#machineId = cloned ? 'c10e'.repeat(8) : machine.systemId.padEnd(32, '0');
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
    const period = Math.max(TIMES.heartbeat, MIN_HEARTBEAT_MS * site.pace.speed);
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
            if (this.#podsDoubted) await this.#vouchForPods();
            await this.#judgeScheduler();
          }
          if (missed) this.syncPods();
          missed = false;
        } else missed = true;
      } catch (error) {
        site.log.debug({ machine: this.name, error: String(error) }, 'simulated kubelet could not report');
      }
      await site.pace.sleep(period, AbortSignal.any([this.signal, this.cluster.signal])).catch(() => {});
    }
  }

  /** What runs here is Ready again, whatever was believed while nobody heard of it. */
  async #vouchForPods(): Promise<void> {
    for (const pod of this.cluster.core.store.list(R.pods)) {
      const statuses: Json[] = pod.status?.containerStatuses ?? [];
      const runs = pod.status?.phase === 'Running' && statuses.every(({ ready }) => ready);
      if (pod.spec?.nodeName !== this.name || !runs || pod.metadata.deletionTimestamp) continue;
      await this.#setPod(pod, this.signal, (draft) => {
        draft.status = { ...draft.status, conditions: conditions(this.#now(), true) };
      });
    }
    this.#podsDoubted = false;
  }

  /** Crashes its scheduler once more while the fault strikes, and lets it run again afterwards. */
  async #judgeScheduler(): Promise<void> {
    const name = `kube-scheduler-${this.name}`;
    const pod = this.cluster.core.store.get(R.pods, 'kube-system', name);
    if (pod?.status?.phase !== 'Running') return;
    const strikes = this.cluster.site.faults.take('scheduler-crash-loops', this.options.machine);
    if (!strikes && !isCrashLooping(pod)) return;
    await this.#setPod(pod, this.signal, (draft) => {
      draft.status = (strikes ? crashed : recovered)(draft, this.#now());
    });
  }

  stop(): void {
    this.#stop.abort(new Error('the machine stopped'));
    for (const work of this.#running.values()) work.abort();
    this.#running.clear();
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
    const now = new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const healthy = (type: string, reason: string, message: string) => ({
      type,
      status: 'False',
      reason,
      message,
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    });
    const { machine, nodeIp, version, maxPods } = this.options;
    if (ready) this.cluster.site.reached(machine.systemId, 'ready');
    const reason = ready ? 'NodeReady' : 'NodeNotReady';
    this.#note(node, { reason, message: `Node ${this.name} status is now: ${reason}` });
    const resources = {
      cpu: String(machine.cpuCount),
      memory: `${machine.memoryMiB * 1024}Ki`,
      pods: String(maxPods),
      'ephemeral-storage': '100Gi',
    };
    core.objects.change(
      core.type(R.nodes),
      undefined,
      this.name,
      (draft) => {
        draft.status = {
          ...draft.status,
          addresses: [
            { type: 'InternalIP', address: nodeIp },
            { type: 'Hostname', address: machine.hostname },
          ],
          capacity: resources,
          allocatable: resources,
          daemonEndpoints: { kubeletEndpoint: { Port: 10_250 } },
          nodeInfo: {
            architecture: 'amd64',
            bootID: this.bootId,
            containerRuntimeVersion: 'containerd://2.2.1',
            kernelVersion: '6.8.0-88-generic',
            kubeProxyVersion: '',
            kubeletVersion: version,
            machineID: this.#machineId,
            operatingSystem: 'linux',
            osImage: machine.image.includes('jammy') ? 'Ubuntu 22.04.5 LTS' : 'Ubuntu 24.04.4 LTS',
            systemUUID: `00000000-0000-0000-0000-${machine.systemId.padEnd(12, '0').slice(0, 12)}`,
          },
          conditions: [
            healthy(
              'MemoryPressure',
              'KubeletHasSufficientMemory',
              'kubelet has sufficient memory available',
            ),
            healthy('DiskPressure', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
            healthy('PIDPressure', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
            ready
              ? {
                  type: 'Ready',
                  status: 'True',
                  reason: 'KubeletReady',
                  message: 'kubelet is posting ready status',
                  lastHeartbeatTime: now,
                  lastTransitionTime: now,
                }
              : {
                  type: 'Ready',
                  status: 'False',
                  reason: 'KubeletNotReady',
                  message:
                    'container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized',
                  lastHeartbeatTime: now,
                  lastTransitionTime: now,
                },
          ],
        };
      },
      core.as(this.user, 'status'),
    );
  }

  #mirror(pod: { name: string; image: string; command: string[] }): void {
    const { core } = this.cluster;
    const name = `${pod.name}-${this.name}`;
    if (core.store.get(R.pods, 'kube-system', name)) return;
    const hash = randomUUID().replaceAll('-', '');
    core.objects.create(
      core.type(R.pods),
      'kube-system',
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          name,
          namespace: 'kube-system',
          labels: { component: pod.name, tier: 'control-plane' },
          annotations: {
            'kubernetes.io/config.mirror': hash,
            'kubernetes.io/config.hash': hash,
            'kubernetes.io/config.source': 'file',
          },
          ownerReferences: this.#ownNode().map((owner) => ({ ...owner, controller: true })),
        },
        spec: {
          nodeName: this.name,
          hostNetwork: true,
          priorityClassName: 'system-node-critical',
          tolerations: [{ operator: 'Exists', effect: 'NoExecute' }],
          containers: [{ name: pod.name, image: pod.image, command: pod.command }],
        },
      },
      core.as(this.user),
    );
  }

  /** Begins or ends pods by what the API says now. */
  syncPods(): void {
    const { core } = this.cluster;
    const wanted = new Set<string>();
    for (const pod of core.store.values(R.pods)) {
      if (pod.spec?.nodeName !== this.name) continue;
      wanted.add(pod.metadata.uid ?? '');
      this.observe(pod);
    }
    for (const [uid, work] of this.#running)
      if (!wanted.has(uid)) {
        work.abort();
        this.#running.delete(uid);
      }
  }

  /** A pod of this node appeared or changed. */
  observe(pod: KubeObject): void {
    if (!this.alive) return;
    const uid = pod.metadata.uid ?? '';
    if (pod.metadata.deletionTimestamp) {
      const key = `${uid}/stop`;
      if (this.#running.has(key)) return;
      this.#running.get(uid)?.abort();
      void this.#track(key, (signal) => this.#terminate(pod, signal));
      return;
    }
    if (this.#running.has(uid) || ['Succeeded', 'Failed'].includes(pod.status?.phase)) return;
    void this.#track(uid, (signal) => this.#start(pod, signal));
  }

  forget(pod: KubeObject): void {
    const uid = pod.metadata.uid ?? '';
    for (const key of [uid, `${uid}/stop`]) {
      this.#running.get(key)?.abort();
      this.#running.delete(key);
    }
    this.cluster.containers.forget(pod);
    if (isCniPod(pod)) this.#cniChanged();
  }

  async #track(key: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const control = new AbortController();
    this.#running.set(key, control);
    try {
      await work(AbortSignal.any([control.signal, this.signal, this.cluster.signal]));
    } catch (error) {
      if (!control.signal.aborted && !this.signal.aborted && !this.cluster.signal.aborted) {
        this.#running.delete(key);
        this.cluster.site.log.debug({ machine: this.name, error: String(error) }, 'simulated pod failed');
      }
    }
  }

  #note(about: KubeObject, event: Omit<Note, 'component'>): void {
    note(this.cluster.core, about, { ...event, component: 'kubelet', host: this.name });
  }

  async #untilReachable(signal: AbortSignal): Promise<void> {
    while (!(await this.apiReachable())) await this.cluster.site.pace.sleep(TIMES.retry, signal);
    signal.throwIfAborted();
  }

  async #start(pod: KubeObject, signal: AbortSignal): Promise<void> {
    const { site } = this.cluster;
    const { pace } = site;
    const known = pod.status?.phase === 'Running';
    if (!known) {
      await this.#setPod(pod, signal, (draft) => {
        draft.status = {
          ...draft.status,
          phase: 'Pending',
          hostIP: this.options.nodeIp,
          startTime: this.#now(),
          conditions: conditions(this.#now(), false),
          containerStatuses: waiting(draft, 'ContainerCreating'),
        };
      });
      while (!pod.spec.hostNetwork && !this.#cniReady) await pace.sleep(TIMES.retry, signal);
      const mirror = pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
      await pace.sleep(mirror ? TIMES.start : TIMES.pull, signal);
      if (isCniPod(pod)) {
        // Cilium's agents wait until the operator has registered their kinds.
        while (waitsForDefinition(pod, this.cluster)) await pace.sleep(TIMES.retry, signal);
        this.#cniBroken ??= site.faults.take('cni-never-ready', this.options.machine);
        if (this.#cniBroken) {
          await this.#setPod(pod, signal, (draft) => {
            draft.status = {
              ...draft.status,
              phase: 'Running',
              containerStatuses: running(draft, this.#now(), false),
              conditions: conditions(this.#now(), false),
            };
          });
          return;
        }
      }
      const problem = runtimeOf(pod).problem;
      if (problem) {
        this.#note(pod, { type: 'Warning', reason: 'Failed', message: `Error: ${problem}` });
        await this.#setPod(pod, signal, (draft) => {
          draft.status = { ...draft.status, containerStatuses: waiting(draft, problem) };
        });
        return;
      }
    }
    const podIp = pod.spec.hostNetwork ? this.options.nodeIp : (pod.status?.podIP ?? this.#podAddress());
    if (!known) {
      await this.#setPod(pod, signal, (draft) => {
        draft.status = {
          ...draft.status,
          phase: 'Running',
          hostIP: this.options.nodeIp,
          podIP: podIp,
          podIPs: [{ ip: podIp }],
          containerStatuses: running(draft, this.#now(), true),
          conditions: conditions(this.#now(), true),
        };
      });
      for (const { name, image } of containersOf(pod)) {
        this.#note(pod, { reason: 'Pulled', message: `Successfully pulled image "${image}"` });
        this.#note(pod, { reason: 'Started', message: `Started container ${name}` });
      }
    }
    if (isCniPod(pod)) {
      await pace.sleep(TIMES.start, signal);
      await this.#untilReachable(signal);
      this.#cniChanged();
    }
    const codes = (pod.spec.containers ?? []).map((container: Json) =>
      this.cluster.containers.runMain(pod, container, signal),
    );
    if (!completesByItself(pod)) {
      await Promise.all(codes);
      return;
    }
    await pace.sleep(TIMES.job, signal);
    const exitCodes: number[] = await Promise.all(codes);
    await this.#setPod(pod, signal, (draft) => {
      draft.status = {
        ...draft.status,
        phase: exitCodes.every((code) => code === 0) ? 'Succeeded' : 'Failed',
        conditions: conditions(this.#now(), false, 'PodCompleted'),
        containerStatuses: (draft.status.containerStatuses ?? []).map((status: Json, index: number) => {
          const exitCode = exitCodes[index] ?? 0;
          const startedAt = status.state?.running?.startedAt ?? this.#now();
          const message = this.cluster.containers.terminationMessage(
            pod,
            containersOf(pod)[index] ?? {},
            exitCode,
          );
          return {
            ...status,
            ready: false,
            started: false,
            state: {
              terminated: {
                exitCode,
                reason: exitCode === 0 ? 'Completed' : 'Error',
                ...(message === '' ? {} : { message }),
                startedAt,
                finishedAt: this.#now(),
              },
            },
          };
        }),
      };
    });
  }

  async #terminate(pod: KubeObject, signal: AbortSignal): Promise<void> {
    const { pace } = this.cluster.site;
    const grace = (pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000;
    for (const { name } of containersOf(pod))
      this.#note(pod, { reason: 'Killing', message: `Stopping container ${name}` });
    await pace.sleep(Math.min(TIMES.stop, grace), signal);
    await this.#untilReachable(signal);
    const { core } = this.cluster;
    const current = core.store.get(R.pods, pod.metadata.namespace, pod.metadata.name);
    if (current?.metadata.uid !== pod.metadata.uid) return;
    core.objects.delete(core.type(R.pods), pod.metadata.namespace, pod.metadata.name, {
      gracePeriodSeconds: 0,
    });
  }

  /** Writes the pod's status when the API can be reached; nothing when the pod is gone or another one. */
  async #setPod(pod: KubeObject, signal: AbortSignal, edit: (draft: KubeObject) => void): Promise<void> {
    await this.#untilReachable(signal);
    const { core } = this.cluster;
    const { namespace, name, uid } = pod.metadata;
    if (core.store.get(R.pods, namespace, name)?.metadata.uid !== uid) throw new Error('the pod is gone');
    const at = {
      group: '',
      resource: 'pods',
      subresource: 'status',
      namespace: namespace ?? '',
      name,
      verb: 'patch',
    };
    if (!isAllowed(core.store, this.user, at)) throw forbidden(this.user, at);
    core.objects.change(core.type(R.pods), namespace, name, edit, core.as(this.user, 'status'));
  }

  /** The node is ready for pods exactly while a CNI pod is ready here. */
  #cniChanged(): void {
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

  #podAddress(): string {
    const node = this.cluster.core.store.get(R.nodes, undefined, this.name);
    const base = String(node?.spec?.podCIDR ?? '192.168.0.0/24').split('/')[0] ?? '192.168.0.0';
    const [a, b, c] = base.split('.');
    this.#nextPodAddress = this.#nextPodAddress >= 254 ? 2 : this.#nextPodAddress + 1;
    return `${a}.${b}.${c}.${this.#nextPodAddress}`;
  }

  #now(): string {
    return new Date(this.cluster.site.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
  }
}

function conditions(time: string, ready: boolean, reason?: string): Json[] {
  const make = (type: string, ok: boolean) => ({
    type,
    status: ok ? 'True' : 'False',
    lastProbeTime: null,
    lastTransitionTime: time,
    ...(ok ? {} : { reason: reason ?? 'ContainersNotReady' }),
  });
  return [
    make('PodReadyToStartContainers', true),
    make('Initialized', true),
    make('Ready', ready),
    make('ContainersReady', ready),
    make('PodScheduled', true),
  ];
}

function waitsForDefinition(pod: KubeObject, { core }: SimCluster): boolean {
  const isCilium = containersOf(pod).some(({ image }) => /\/cilium\/cilium[:@]/.test(image));
  return isCilium && !core.store.get(R.crds, undefined, 'ciliumnodes.cilium.io');
}

const containersOf = (pod: KubeObject): Json[] => pod.spec?.containers ?? [];

function waiting(pod: KubeObject, reason: string): Json[] {
  return containersOf(pod).map((container) => ({
    name: container.name,
    image: container.image,
    imageID: '',
    ready: false,
    started: false,
    restartCount: 0,
    state: { waiting: { reason } },
    lastState: {},
  }));
}

function running(pod: KubeObject, time: string, ready: boolean): Json[] {
  const before: Json[] = clone(pod.status?.containerStatuses ?? []);
  return containersOf(pod).map((container) => ({
    name: container.name,
    image: container.image,
    imageID: `${String(container.image).split(':')[0]}@sha256:${'0'.repeat(64)}`,
    containerID: `containerd://${randomUUID().replaceAll('-', '').repeat(2)}`,
    ready,
    started: true,
    restartCount: before.find((item) => item.name === container.name)?.restartCount ?? 0,
    state: { running: { startedAt: time } },
    lastState: {},
  }));
}
