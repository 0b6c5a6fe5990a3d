/** The pods that one kubelet runs: pulled, started, ended, and written down when the API can be reached. */
import type { KubeObject, Json } from '../api/json.ts';
import { forbidden, isAllowed } from '../api/rbac.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from './cluster.ts';
import { crashed, isCrashLooping, recovered } from './crash-loop.ts';
import type { Kubelet } from './kubelet.ts';
import { completesByItself, isCniPod, runtimeOf } from './pod-runtime.ts';
import { conditions, containersOf, ended, running, waiting } from './pod-status.ts';

/** Times of real kubelets and images, milliseconds of hardware time. */
const TIMES = { pull: 4000, start: 1500, stop: 1500, job: 6000, retry: 2000 };
const STOP = '/stop';

export class KubeletPods {
  readonly #kubelet: Kubelet;
  /** Pods this kubelet has begun to run, by uid; what ends one, by its uid and `/stop`. */
  readonly #running = new Map<string, AbortController>();
  #cniBroken: boolean | undefined;
  #nextPodAddress = 2;

  constructor(kubelet: Kubelet) {
    this.#kubelet = kubelet;
  }

  /** Begins or ends pods by what the API says now. */
  sync(): void {
    const { core } = this.#kubelet.cluster;
    const wanted = new Set<string>();
    for (const pod of core.store.values(R.pods)) {
      if (pod.spec?.nodeName !== this.#kubelet.name) continue;
      wanted.add(pod.metadata.uid ?? '');
      this.observe(pod);
    }
    for (const [key, work] of this.#running)
      if (!wanted.has(key.replace(STOP, ''))) {
        work.abort();
        this.#running.delete(key);
      }
  }

  /** A pod of this node appeared or changed. Nothing happens on a machine that has stopped. */
  observe(pod: KubeObject): void {
    if (!this.#kubelet.alive) return;
    const uid = pod.metadata.uid ?? '';
    if (pod.metadata.deletionTimestamp) {
      const key = `${uid}${STOP}`;
      if (this.#running.has(key)) return;
      this.#running.get(uid)?.abort();
      void this.#track(key, (signal) => this.#terminate(pod, signal));
      return;
    }
    if (this.#running.has(uid) || ['Succeeded', 'Failed'].includes(pod.status?.phase)) return;
    void this.#track(uid, (signal) => this.#start(pod, signal));
  }

  /** A pod of this node is gone. */
  forget(pod: KubeObject): void {
    const uid = pod.metadata.uid ?? '';
    for (const key of [uid, `${uid}${STOP}`]) {
      this.#running.get(key)?.abort();
      this.#running.delete(key);
    }
    this.#kubelet.cluster.containers.forget(pod);
    if (isCniPod(pod)) this.#kubelet.cniChanged();
  }

  async #track(key: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const control = new AbortController();
    this.#running.set(key, control);
    try {
      await work(AbortSignal.any([control.signal, this.#kubelet.signal, this.#kubelet.cluster.signal]));
    } catch (error) {
      if (!control.signal.aborted && !this.#kubelet.signal.aborted && !this.#kubelet.cluster.signal.aborted) {
        this.#running.delete(key);
        this.#kubelet.cluster.site.log.debug(
          { machine: this.#kubelet.name, error: String(error) },
          'simulated pod failed',
        );
      }
    }
  }

  /** Stops all of them, as the machine does. */
  stop(): void {
    for (const work of this.#running.values()) work.abort();
    this.#running.clear();
  }

  /** What runs here is Ready again, whatever was believed while nobody heard of it. */
  async vouch(): Promise<void> {
    for (const pod of this.#kubelet.cluster.core.store.list(R.pods)) {
      const statuses: Json[] = pod.status?.containerStatuses ?? [];
      const runs = pod.status?.phase === 'Running' && statuses.every(({ ready }) => ready);
      if (pod.spec?.nodeName !== this.#kubelet.name || !runs || pod.metadata.deletionTimestamp) continue;
      await this.#setPod(pod, this.#kubelet.signal, (draft) => {
        draft.status = { ...draft.status, conditions: conditions(this.#kubelet.now(), true) };
      });
    }
  }

  /** Crashes its scheduler once more while the fault strikes, and lets it run again afterwards. */
  async judgeScheduler(): Promise<void> {
    const name = `kube-scheduler-${this.#kubelet.name}`;
    const pod = this.#kubelet.cluster.core.store.get(R.pods, 'kube-system', name);
    if (pod?.status?.phase !== 'Running') return;
    const strikes = this.#kubelet.cluster.site.faults.take(
      'scheduler-crash-loops',
      this.#kubelet.options.machine,
    );
    if (!strikes && !isCrashLooping(pod)) return;
    await this.#setPod(pod, this.#kubelet.signal, (draft) => {
      draft.status = (strikes ? crashed : recovered)(draft, this.#kubelet.now());
    });
  }

  async #untilReachable(signal: AbortSignal): Promise<void> {
    while (!(await this.#kubelet.apiReachable()))
      await this.#kubelet.cluster.site.pace.sleep(TIMES.retry, signal);
    signal.throwIfAborted();
  }

  async #start(pod: KubeObject, signal: AbortSignal): Promise<void> {
    const { site } = this.#kubelet.cluster;
    const { pace } = site;
    const known = pod.status?.phase === 'Running';
    if (!known) {
      await this.#setPod(pod, signal, (draft) => {
        draft.status = {
          ...draft.status,
          phase: 'Pending',
          hostIP: this.#kubelet.options.nodeIp,
          startTime: this.#kubelet.now(),
          conditions: conditions(this.#kubelet.now(), false),
          containerStatuses: waiting(draft, 'ContainerCreating'),
        };
      });
      while (!pod.spec.hostNetwork && !this.#kubelet.cniReady) await pace.sleep(TIMES.retry, signal);
      const mirror = pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
      await pace.sleep(mirror ? TIMES.start : TIMES.pull, signal);
      if (isCniPod(pod)) {
        // Cilium's agents wait until the operator has registered their kinds.
        while (waitsForDefinition(pod, this.#kubelet.cluster)) await pace.sleep(TIMES.retry, signal);
        this.#cniBroken ??= site.faults.take('cni-never-ready', this.#kubelet.options.machine);
        if (this.#cniBroken) {
          await this.#setPod(pod, signal, (draft) => {
            draft.status = {
              ...draft.status,
              phase: 'Running',
              containerStatuses: running(draft, this.#kubelet.now(), false),
              conditions: conditions(this.#kubelet.now(), false),
            };
          });
          return;
        }
      }
      const problem = runtimeOf(pod).problem;
      if (problem) {
        this.#kubelet.note(pod, { type: 'Warning', reason: 'Failed', message: `Error: ${problem}` });
        await this.#setPod(pod, signal, (draft) => {
          draft.status = { ...draft.status, containerStatuses: waiting(draft, problem) };
        });
        return;
      }
    }
    const podIp = pod.spec.hostNetwork
      ? this.#kubelet.options.nodeIp
      : (pod.status?.podIP ?? this.#podAddress());
    if (!known) {
      await this.#setPod(pod, signal, (draft) => {
        draft.status = {
          ...draft.status,
          phase: 'Running',
          hostIP: this.#kubelet.options.nodeIp,
          podIP: podIp,
          podIPs: [{ ip: podIp }],
          containerStatuses: running(draft, this.#kubelet.now(), true),
          conditions: conditions(this.#kubelet.now(), true),
        };
      });
      for (const { name, image } of containersOf(pod)) {
        this.#kubelet.note(pod, { reason: 'Pulled', message: `Successfully pulled image "${image}"` });
        this.#kubelet.note(pod, { reason: 'Started', message: `Started container ${name}` });
      }
    }
    if (isCniPod(pod)) {
      await pace.sleep(TIMES.start, signal);
      await this.#untilReachable(signal);
      this.#kubelet.cniChanged();
    }
    const codes = (pod.spec.containers ?? []).map((container: Json) =>
      this.#kubelet.cluster.containers.runMain(pod, container, signal),
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
        conditions: conditions(this.#kubelet.now(), false, 'PodCompleted'),
        containerStatuses: ended(
          draft,
          this.#kubelet.now(),
          exitCodes.map((exitCode, index) => ({
            exitCode,
            message: this.#kubelet.cluster.containers.terminationMessage(
              pod,
              containersOf(pod)[index] ?? {},
              exitCode,
            ),
          })),
        ),
      };
    });
  }

  async #terminate(pod: KubeObject, signal: AbortSignal): Promise<void> {
    const { pace } = this.#kubelet.cluster.site;
    const grace = (pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000;
    for (const { name } of containersOf(pod))
      this.#kubelet.note(pod, { reason: 'Killing', message: `Stopping container ${name}` });
    await pace.sleep(Math.min(TIMES.stop, grace), signal);
    await this.#untilReachable(signal);
    const { core } = this.#kubelet.cluster;
    const current = core.store.get(R.pods, pod.metadata.namespace, pod.metadata.name);
    if (current?.metadata.uid !== pod.metadata.uid) return;
    core.objects.delete(core.type(R.pods), pod.metadata.namespace, pod.metadata.name, {
      gracePeriodSeconds: 0,
    });
  }

  /** Writes the pod's status when the API can be reached; nothing when the pod is gone or another one. */
  async #setPod(pod: KubeObject, signal: AbortSignal, edit: (draft: KubeObject) => void): Promise<void> {
    await this.#untilReachable(signal);
    const { core } = this.#kubelet.cluster;
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
    if (!isAllowed(core.store, this.#kubelet.user, at)) throw forbidden(this.#kubelet.user, at);
    core.objects.change(core.type(R.pods), namespace, name, edit, core.as(this.#kubelet.user, 'status'));
  }

  #podAddress(): string {
    const node = this.#kubelet.cluster.core.store.get(R.nodes, undefined, this.#kubelet.name);
    const base = String(node?.spec?.podCIDR ?? '192.168.0.0/24').split('/')[0] ?? '192.168.0.0';
    const [a, b, c] = base.split('.');
    this.#nextPodAddress = this.#nextPodAddress >= 254 ? 2 : this.#nextPodAddress + 1;
    return `${a}.${b}.${c}.${this.#nextPodAddress}`;
  }
}

function waitsForDefinition(pod: KubeObject, { core }: SimCluster): boolean {
  const isCilium = containersOf(pod).some(({ image }) => /\/cilium\/cilium[:@]/.test(image));
  return isCilium && !core.store.get(R.crds, undefined, 'ciliumnodes.cilium.io');
}
