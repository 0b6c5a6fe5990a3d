/**
 * One cluster's API as data and rules, without sockets: every API server of the cluster serves this one core.
 * Everything that a request may touch hangs off it: store, resources, keys, health, and the kubelets behind it.
 */
import type { KeyObject } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../../base/clock.ts';
import type { Log } from '../../../base/log.ts';
import type { Json, KubeObject } from './json.ts';
import { Objects, type WriteOptions } from './objects.ts';
import type { UserInfo } from './request.ts';
import { R, ResourceRegistry, type ResourceType } from './resources.ts';
import { ApiError, invalid } from './status.ts';
import { ObjectStore } from './store.ts';

/** How API servers reach containers; implemented by the kubelets. Throws ApiError when the node cannot be reached. */
export interface PodAccess {
  /** Throws ApiError when the API server cannot reach or may not use the pod's kubelet. */
  reach(pod: KubeObject): void;
  logs(
    pod: KubeObject,
    options: {
      container: string;
      follow: boolean;
      tailLines?: number;
      previous: boolean;
      timestamps: boolean;
    },
    signal: AbortSignal,
  ): AsyncIterable<string>;
  /** Runs a command; resolves with its exit code. `stdout`/`stderr` are written as they come. */
  exec(pod: KubeObject, options: ExecRequest, signal: AbortSignal): Promise<number>;
  /** A connection to a port inside the pod. */
  connect(pod: KubeObject, port: number): Promise<Duplex>;
}

export interface ExecRequest {
  readonly container: string;
  readonly command: readonly string[];
  /** Attach to what runs already instead of running `command`. */
  readonly attach: boolean;
  readonly tty: boolean;
  readonly stdin: AsyncIterable<Buffer> | undefined;
  readonly stdout: (chunk: Buffer) => void;
  readonly stderr: (chunk: Buffer) => void;
}

export interface ApiCoreOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** e.g. v1.36.1 */
  readonly version: string;
  readonly serviceSubnet?: string;
  readonly serviceAccountKeys?: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  /** Throws what clients see while etcd cannot serve. */
  readonly guard?: () => void;
  /** Throws what they see while it serves, but takes nothing new. */
  readonly guardWrite?: () => void;
}

export const CONTROLLER_MANAGER: UserInfo = {
  name: 'system:kube-controller-manager',
  groups: ['system:masters', 'system:authenticated'],
};

export class ApiCore {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: ObjectStore;
  readonly registry = new ResourceRegistry();
  readonly objects: Objects;
  readonly serviceAccountKeys: ApiCoreOptions['serviceAccountKeys'];
  readonly guard: () => void;
  readonly guardWrite: () => void;
  pods: PodAccess | undefined;
  /** Milliseconds of simulated slowness before each write (slow etcd). */
  writeDelayMs: () => number = () => 0;
  /** Asked before an eviction; true = the budget says no, whatever it says. */
  blockEviction: (pod: KubeObject) => boolean = () => false;
  version: string;
  readonly #serviceNetwork: { base: number; size: number };

  constructor(options: ApiCoreOptions) {
    this.clock = options.clock;
    this.log = options.log;
    this.version = options.version;
    this.serviceAccountKeys = options.serviceAccountKeys;
    this.guard = options.guard ?? (() => {});
    this.guardWrite = options.guardWrite ?? (() => {});
    this.store = new ObjectStore(() => options.clock.now());
    this.#serviceNetwork = network(options.serviceSubnet ?? '10.96.0.0/12');
    this.objects = new Objects({
      store: this.store,
      registry: this.registry,
      now: () => options.clock.now(),
      guard: this.guard,
      guardWrite: this.guardWrite,
      serviceIp: (wanted) => this.#serviceIp(wanted),
    });
    this.store.subscribe(R.crds, ({ type, object }) => {
      const established = (object.status?.conditions ?? []).some(
        (item: Json) => item.type === 'Established' && item.status === 'True',
      );
      if (type === 'DELETED') this.registry.withdraw(object.metadata.name);
      else if (established) this.registry.serve(object);
    });
  }

  /** First address of the service network, the API's own cluster IP. */
  get kubernetesServiceIp(): string {
    return dotted(this.#serviceNetwork.base + 1);
  }

  #serviceIp(wanted: string | undefined): string {
    const used = new Set([...this.store.values(R.services)].map((service) => service.spec?.clusterIP));
    if (wanted !== undefined) {
      if (used.has(wanted))
        throw invalid('Service', '', wanted, [
          {
            reason: 'FieldValueInvalid',
            message: `Invalid value: ["${wanted}"]: failed to allocate IP ${wanted}: provided IP is already allocated`,
            field: 'spec.clusterIPs',
          },
        ]);
      return wanted;
    }
    // The first addresses stay free for those who ask for a fixed one (.1 the API, .10 DNS).
    for (let offset = 20; offset < this.#serviceNetwork.size - 1; offset += 1) {
      const candidate = dotted(this.#serviceNetwork.base + offset);
      if (!used.has(candidate)) return candidate;
    }
    throw new ApiError(500, 'InternalError', 'failed to allocate a serviceIP: range is full');
  }

  type(storage: string): ResourceType {
    const type = this.registry.byStorage(storage);
    if (!type) throw new Error(`no resource is stored at ${storage}`);
    return type;
  }

  /** Writes as a component of the cluster. */
  as(user: UserInfo, subresource?: string): WriteOptions {
    return {
      user,
      fieldManager: user.name.replace(/^system:/, ''),
      ...(subresource === undefined ? {} : { subresource }),
    };
  }

  /** Creates an object unless it is there; for bootstrap phases and controllers. Throws like any write. */
  ensure(storage: string, object: KubeObject, user: UserInfo = CONTROLLER_MANAGER): KubeObject {
    const existing = this.store.get(storage, object.metadata.namespace, object.metadata.name);
    return (
      existing ?? this.objects.create(this.type(storage), object.metadata.namespace, object, this.as(user))
    );
  }

  /** Edits spec, metadata and status at once as a controller; undefined when the object is gone. */
  edit(
    storage: string,
    at: { namespace?: string | undefined; name: string },
    change: (draft: KubeObject) => void,
    user: UserInfo = CONTROLLER_MANAGER,
  ): KubeObject | undefined {
    return this.objects.change(this.type(storage), at.namespace, at.name, change, this.as(user, '*'));
  }

  /** true = etcd answers. */
  healthy(): boolean {
    try {
      this.guard();
      return true;
    } catch {
      return false;
    }
  }
}

function network(cidr: string): { base: number; size: number } {
  const [address = '', prefix = '12'] = cidr.split(',')[0]?.split('/') ?? [];
  const base = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  return { base, size: 2 ** (32 - Number(prefix)) };
}

const dotted = (value: number) =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
