/**
 * Kubernetes without Kubernetes, for tests of what stands before it: API servers that appear when machines boot with
 * user-data that says so, as objects in memory behind the client's and etcd's interfaces.
 */
import { parseAllDocuments } from 'yaml';
import type { Clock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import type { KubeClient, KubeObject, KubeTarget } from '../../src/kube/client.ts';
import type { EtcdClient } from '../../src/kube/etcd.ts';
import { judgeRemoval } from '../../src/kube/quorum.ts';
import { builtinKind, objectPath } from '../../src/kube/resources.ts';
import { readCloudConfig } from './node-input.ts';

export interface BootedMachine {
  readonly systemId: string;
  readonly hostname: string;
  readonly zone: string;
  readonly ip: string;
}

export class FakeKubernetes {
  readonly apis = new Map<string, FakeApi>();
  /** Things that must never happen, in words. */
  readonly violations: string[] = [];
  readonly clock: Clock;
  readonly #bootMs: number;
  readonly #pollMs: number;

  /** Milliseconds that kubeadm works, and between two looks of a joiner at its token. */
  constructor(bootMs: number, pollMs: number, clock: Clock) {
    this.clock = clock;
    this.#bootMs = bootMs;
    this.#pollMs = pollMs;
  }

  /** The machine is wiped, or has no power. */
  halt(systemId: string): void {
    for (const api of this.apis.values()) api.stop(systemId);
  }

  /** A machine that was part of a cluster has power again. */
  resume({ systemId, hostname, ip }: BootedMachine): void {
    for (const api of this.apis.values()) {
      const node = api.objects.get(`/api/v1/nodes/${hostname}`);
      if (node) api.members.set(systemId, { ip, hostname, control: api.etcd.has(systemId) });
    }
  }

  /** What the booted machine does is in its user-data and nowhere else. It does nothing more once it is not `alive`. */
  async boot(machine: BootedMachine, userData: string, alive: () => boolean): Promise<void> {
    const { files } = readCloudConfig(userData);
    const config =
      files.get('/run/kubeadm/kubeadm.yaml') ?? files.get('/run/kubeadm/kubeadm-join-config.yaml');
    const documents = parseAllDocuments(config?.content ?? '').map(
      (document) => document.toJS() as Record<string, never>,
    );
    const find = (kind: string) =>
      documents.find((document) => document['kind'] === kind) as Record<string, any> | undefined;
    const version =
      /PCG_KUBERNETES_VERSION='(v[^']+)'/.exec(files.get('/etc/pcg/bootstrap.env')?.content ?? '')?.[1] ?? '';
    const init = find('InitConfiguration');
    if (init) {
      const [host = ''] = String(find('ClusterConfiguration')?.['controlPlaneEndpoint']).split(':');
      const api = new FakeApi(host);
      this.apis.set(host, api);
      api.start(machine, true, version);
      await this.clock.sleep(this.#bootMs);
      if (alive()) api.configured = true;
      return;
    }
    const join = find('JoinConfiguration');
    const [host = ''] = String(join?.['discovery'].bootstrapToken.apiServerEndpoint).split(':');
    const token = String(join?.['discovery'].bootstrapToken.token).split('.')[0];
    for (;;) {
      if (!alive()) return;
      const api = this.apis.get(host);
      if (
        api?.endpointUp() &&
        api.objects.has(`/api/v1/namespaces/kube-system/secrets/bootstrap-token-${token}`)
      ) {
        const control = join?.['controlPlane'] !== undefined;
        if (control) {
          if (api.joining) this.violations.push(`two control-plane nodes join at once: ${machine.hostname}`);
          api.joining = true;
          await this.clock.sleep(this.#bootMs);
          api.joining = false;
          if (!alive()) return;
          // etcd takes one learner at a time, and kubeadm gives up.
          if ([...api.etcd.values()].some(({ learner }) => learner)) return;
        }
        api.start(machine, control, version);
        return;
      }
      await this.clock.sleep(this.#pollMs);
    }
  }

  /** etcd of the cluster that runs at one of these addresses now: a cluster before it may have had the same. */
  etcd(endpoints: readonly string[]): EtcdClient {
    const hosts = endpoints.map((endpoint) => new URL(endpoint).hostname);
    const api = [...this.apis.values()].find((candidate) =>
      [...candidate.members.values()].some((member) => member.control && hosts.includes(member.ip)),
    );
    if (!api) throw new PcgError('KUBE_UNREACHABLE', 'no etcd there');
    const site = this;
    const list = () =>
      [...api.etcd].map(([id, member]) => ({
        id,
        name: member.hostname,
        peerUrls: [member.learner ? member.ip : `https://${member.ip}:2380`],
        clientUrls: member.learner ? [] : [`https://${member.ip}:2379`],
        learner: member.learner === true,
        healthy: api.members.has(id),
        leader: false,
        problem: undefined,
        version: '3.6.0',
        dbSizeBytes: 1,
      }));
    const unused = async (): Promise<never> => {
      throw new Error('not part of this fake');
    };
    return {
      members: async () => list(),
      health: async () => list(),
      alarms: async () => [],
      async remove(id) {
        const verdict = judgeRemoval(list(), id);
        if (verdict.kind === 'refused') throw new PcgError('ETCD_QUORUM_AT_RISK', verdict.reason);
        api.etcd.delete(id);
        const voters = list().filter(({ learner }) => !learner);
        const alive = voters.filter((member) => member.healthy).length;
        if (alive * 2 <= voters.length) site.violations.push('quorum broken');
        return 'removed';
      },
      async addLearner(peerUrl) {
        if (list().some(({ learner }) => learner))
          throw new PcgError('KUBE_UNREACHABLE', 'etcdserver: too many learner members in cluster');
        const id = '9009';
        api.etcd.set(id, { ip: peerUrl, hostname: '', learner: true });
        return id;
      },
      promote: unused,
      transferLeadership: unused,
      snapshot: unused as never,
      async [Symbol.asyncDispose]() {},
    };
  }

  kube(target: KubeTarget): KubeClient {
    return new FakeKubeClient(this, target);
  }
}

/** One cluster's API: objects by path; a Node is Ready once a CNI DaemonSet is there. */
export class FakeApi {
  readonly host: string;
  readonly objects = new Map<string, KubeObject>();
  readonly members = new Map<string, { ip: string; hostname: string; control: boolean }>();
  /** System id -> member: stays when its machine stops without being removed first. Of a learner `ip` is the peer URL. */
  readonly etcd = new Map<string, { ip: string; hostname: string; learner?: boolean }>();
  configured = false;
  storedVersion = 'v1.36.1';
  joining = false;
  /** Evictions etc. that tests look at. */
  readonly log: string[] = [];

  constructor(host: string) {
    this.host = host;
  }

  serves(host: string): boolean {
    if (host === this.host) return this.endpointUp();
    return [...this.members.values()].some((member) => member.control && member.ip === host);
  }

  /** kube-vip holds the address once it may take its lease; other kinds of endpoint need any member. */
  endpointUp(): boolean {
    const control = [...this.members.values()].some((member) => member.control);
    const isVip = /^\d/.test(this.host);
    return control && (!isVip || [...this.objects.keys()].some((path) => path.includes('kube-vip')));
  }

  start(machine: BootedMachine, control: boolean, version: string): void {
    const { ip } = machine;
    this.members.set(machine.systemId, { ip, hostname: machine.hostname, control });
    if (control) {
      this.etcd.set(machine.systemId, { ip, hostname: machine.hostname });
      this.#mirror(machine.hostname);
    }
    this.objects.set(`/api/v1/nodes/${machine.hostname}`, {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: machine.hostname,
        resourceVersion: '1',
        labels: control ? { 'node-role.kubernetes.io/control-plane': '' } : {},
      },
      spec: { providerID: `maas:///${machine.zone}/${machine.systemId}` },
      status: { nodeInfo: { kubeletVersion: version, bootID: machine.systemId } },
    });
  }

  /** The static pods of a control-plane node, as its kubelet mirrors them. */
  #mirror(hostname: string): void {
    for (const component of ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler']) {
      const name = `${component}-${hostname}`;
      this.objects.set(`/api/v1/namespaces/kube-system/pods/${name}`, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          name,
          namespace: 'kube-system',
          resourceVersion: '1',
          labels: { component, tier: 'control-plane' },
        },
        spec: { nodeName: hostname },
        status: {
          phase: 'Running',
          conditions: [{ type: 'Ready', status: 'True' }],
          containerStatuses: [{ name: component, restartCount: 0, state: { running: {} } }],
        },
      });
    }
  }

  stop(systemId: string): void {
    this.members.delete(systemId);
  }

  node(object: KubeObject): KubeObject {
    const alive = [...this.members.values()].some((member) => member.hostname === object.metadata.name);
    const cni = [...this.objects.values()].some((other) => other.kind === 'DaemonSet');
    const status = object['status'] as Record<string, unknown>;
    return {
      ...object,
      status: {
        ...status,
        conditions: [{ type: 'Ready', status: alive ? (cni ? 'True' : 'False') : 'Unknown' }],
      },
    };
  }
}

class FakeKubeClient implements KubeClient {
  readonly target: KubeTarget;
  readonly #site: FakeKubernetes;

  constructor(site: FakeKubernetes, target: KubeTarget) {
    this.#site = site;
    this.target = target;
  }

  async #api(signal: AbortSignal): Promise<FakeApi> {
    await this.#site.clock.sleep(1);
    signal.throwIfAborted();
    const host = new URL(this.target.server).hostname;
    const api = [...this.#site.apis.values()].find((candidate) => candidate.serves(host));
    if (!api) throw new PcgError('KUBE_UNREACHABLE', `${host} does not answer`);
    return api;
  }

  async request(): Promise<never> {
    throw new Error('not part of this fake');
  }

  async get(path: string, signal: AbortSignal) {
    const api = await this.#api(signal);
    if (path.endsWith('/configmaps/kubeadm-config') || path.endsWith('/configmaps/cluster-info')) {
      if (!api.configured) return undefined;
      const data = { ClusterConfiguration: `kubernetesVersion: ${api.storedVersion}\n` };
      return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x' }, data };
    }
    const object = api.objects.get(path);
    if (object?.kind === 'DaemonSet')
      return {
        ...object,
        status: {
          observedGeneration: 9,
          desiredNumberScheduled: 1,
          numberAvailable: 1,
          updatedNumberScheduled: 1,
        },
      };
    return object && object.kind === 'Node' ? api.node(object) : object;
  }

  async list(path: string, signal: AbortSignal) {
    const api = await this.#api(signal);
    const items = [...api.objects]
      .filter(([key]) => key.startsWith(`${path.split('?')[0]}/`))
      .map(([, object]) => (object.kind === 'Node' ? api.node(object) : object));
    return { items, resourceVersion: '1' };
  }

  // biome-ignore lint/correctness/useYield: nothing ever happens here
  async *watch(): AsyncGenerator<never> {}

  async apply(object: KubeObject, _options: unknown, signal: AbortSignal) {
    const api = await this.#api(signal);
    const resource = builtinKind(object.apiVersion, object.kind);
    const path = resource ? objectPath(resource, object) : `/custom/${object.kind}/${object.metadata.name}`;
    api.objects.set(path, object);
    return object;
  }

  async create(object: KubeObject, signal: AbortSignal) {
    return await this.apply(object, {}, signal);
  }

  async patch(path: string, patch: unknown, _type: string, signal: AbortSignal) {
    const api = await this.#api(signal);
    if (path.endsWith('/configmaps/kubeadm-config')) {
      const { data } = patch as { data: { ClusterConfiguration: string } };
      api.storedVersion = /kubernetesVersion: (\S+)/.exec(data.ClusterConfiguration)?.[1] ?? '';
      return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kubeadm-config' } };
    }
    const before = api.objects.get(path);
    if (!before) throw new PcgError('NOT_FOUND', path);
    const after = merge(before, patch) as KubeObject;
    api.objects.set(path, after);
    return after;
  }

  async delete(path: string, signal: AbortSignal) {
    const api = await this.#api(signal);
    api.objects.delete(path);
  }

  async ready(signal: AbortSignal) {
    await this.#api(signal);
    return true;
  }

  async [Symbol.asyncDispose]() {}
}

function merge(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const base =
    target !== null && typeof target === 'object' ? { ...(target as Record<string, unknown>) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined) continue;
    if (value === null) delete base[key];
    else base[key] = merge(base[key], value);
  }
  return base;
}
