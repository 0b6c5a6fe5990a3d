/**
 * The control-plane part of one machine: etcd member, API server on its own address, and the virtual address
 * while kube-vip holds it. Everything ends with the machine, or when its etcd member is removed.
 */
import type { Duplex } from 'node:stream';
import { ApiFront } from '../api/serve.ts';
import type { BootedMachine } from '../../ports.ts';
import { EtcdGateway } from '../etcd/gateway.ts';
import type { SimCluster } from './cluster.ts';
import { issueLeaf, type KeyPairPem } from './pki.ts';

export const ETCD_PORT = 2379;
/** Life of a leaf under the fault `certificates-expire`. */
const SHORT_LIFE_MS = 20 * 24 * 3600 * 1000;
/** A static pod whose container was stopped is back after this long on real hardware. */
const RESTART_MS = 10_000;

export interface ControlPlaneOptions {
  readonly cluster: SimCluster;
  readonly machine: BootedMachine;
  readonly nodeName: string;
  readonly port: number;
  readonly advertise: string;
  readonly memberId: bigint;
}

export class ControlPlane implements AsyncDisposable {
  readonly cluster: SimCluster;
  readonly machine: BootedMachine;
  readonly nodeName: string;
  readonly port: number;
  readonly memberId: bigint;
  readonly front: ApiFront;
  /** Names and addresses in the API server's certificate. */
  readonly sans: readonly string[];
  readonly #options: ControlPlaneOptions;
  readonly #etcd: EtcdGateway;
  /** Written by `kubeadm certs renew`, not yet read by the processes. */
  #onDisk: Leafs | undefined;
  #listeners: Disposable[] = [];
  #virtual: { address: string; listener: Disposable } | undefined;
  #stopped = false;

  private constructor(
    options: ControlPlaneOptions,
    front: ApiFront,
    etcd: EtcdGateway,
    sans: readonly string[],
  ) {
    this.#options = options;
    this.cluster = options.cluster;
    this.machine = options.machine;
    this.nodeName = options.nodeName;
    this.port = options.port;
    this.memberId = options.memberId;
    this.front = front;
    this.sans = sans;
    this.#etcd = etcd;
  }

  /** Issues the certificates and opens the ports. Throws when an address or port is taken. */
  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    const { cluster, machine, nodeName, advertise } = options;
    const { site, keys, configuration } = cluster;
    const domain = configuration.networking?.dnsDomain ?? 'cluster.local';
    const endpoint = cluster.endpoint?.host;
    const sans = [
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      `kubernetes.default.svc.${domain}`,
      nodeName,
      cluster.core.kubernetesServiceIp,
      advertise,
      ...(endpoint ? [endpoint] : []),
      ...(configuration.apiServer?.certSANs ?? []),
    ];
    const lifeMs = site.faults.take('certificates-expire', machine) ? SHORT_LIFE_MS : undefined;
    const leafs = await issueLeafs(options, sans, lifeMs);
    const front = new ApiFront(cluster.core, { ...leafs.api, clientCaPem: keys.ca.certPem });
    const etcd = new EtcdGateway(cluster, options.memberId, {
      ...leafs.etcd,
      clientCaPem: keys.etcdCa.certPem,
    });
    const node = new ControlPlane(options, front, etcd, sans);
    node.#open();
    cluster.controlPlanes.set(machine.systemId, node);
    return node;
  }

  get serving(): boolean {
    return !this.#stopped && this.#listeners.length > 0;
  }

  get virtualAddress(): string | undefined {
    return this.#virtual?.address;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  #open(): void {
    const { network } = this.cluster.site;
    const { ip } = this.machine;
    this.#listeners = [
      network.listen(ip, this.port, (socket: Duplex) => this.front.accept(socket)),
      network.listen(ip, ETCD_PORT, (socket: Duplex) => this.#etcd.accept(socket)),
    ];
  }

  /** Answers for the virtual address. False when somebody else on the segment already does. */
  takeVirtualAddress(address: string, port: number): boolean {
    if (this.#virtual?.address === address) return true;
    const { network } = this.cluster.site;
    if (network.isUp(address)) return false;
    try {
      const listener = network.listen(address, port, (socket: Duplex) => {
        if (this.serving) this.front.accept(socket);
        else socket.destroy(Object.assign(new Error('connection refused'), { code: 'ECONNRESET' }));
      });
      network.setAddressUp(address, true);
      this.#virtual = { address, listener };
      return true;
    } catch {
      return false;
    }
  }

  dropVirtualAddress(): void {
    if (!this.#virtual) return;
    this.#virtual.listener[Symbol.dispose]();
    this.cluster.site.network.setAddressUp(this.#virtual.address, false);
    this.#virtual = undefined;
  }

  /** The API server restarts: every connection is cut and the port stays closed for a while. */
  async flap(downMs: number, signal: AbortSignal): Promise<void> {
    if (!this.serving) return;
    const [api, ...rest] = this.#listeners;
    api?.[Symbol.dispose]();
    this.#listeners = [];
    this.front.cut();
    try {
      await this.cluster.site.pace.sleep(downMs, signal);
    } finally {
      for (const listener of rest) listener[Symbol.dispose]();
      if (!this.#stopped) this.#open();
    }
  }

  /** `kubeadm certs renew all`: new files; the processes go on with what they have read. */
  async renewFiles(): Promise<void> {
    this.#onDisk = await issueLeafs(this.#options, this.sans, undefined);
  }

  /** The static pods restart and read their files again. */
  async restart(signal: AbortSignal): Promise<void> {
    const { keys } = this.cluster;
    if (this.#onDisk) {
      this.front.renew({ ...this.#onDisk.api, clientCaPem: keys.ca.certPem });
      this.#etcd.renew({ ...this.#onDisk.etcd, clientCaPem: keys.etcdCa.certPem });
    }
    this.#etcd.cut();
    this.cluster.etcd.stopped(this.memberId);
    await this.flap(RESTART_MS, signal);
    if (!this.#stopped) this.cluster.etcd.started(this.memberId, this.nodeName, this.machine.ip);
  }

  /** Ends the processes: the machine stopped, or the etcd member was removed and took the API server with it. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.dropVirtualAddress();
    for (const listener of this.#listeners) listener[Symbol.dispose]();
    this.#listeners = [];
    this.front.cut();
    this.#etcd.cut();
    this.cluster.etcd.stopped(this.memberId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    const { controlPlanes } = this.cluster;
    // After a reboot another one stands in its place.
    if (controlPlanes.get(this.machine.systemId) === this) controlPlanes.delete(this.machine.systemId);
    await this.front[Symbol.asyncDispose]();
    await this.#etcd[Symbol.asyncDispose]();
    this.cluster.nodeStopped();
  }
}

interface Leafs {
  readonly api: KeyPairPem;
  readonly etcd: KeyPairPem;
}

/** What kubeadm makes on a node: serving certificates of its API server and its etcd member. */
async function issueLeafs(
  { cluster, nodeName, advertise }: ControlPlaneOptions,
  sans: readonly string[],
  lifeMs: number | undefined,
): Promise<Leafs> {
  const { site, keys } = cluster;
  const life = { nowMs: site.clock.now(), lifeMs };
  return {
    api: await issueLeaf(keys.ca, { commonName: 'kube-apiserver', sans, server: true, ...life }),
    etcd: await issueLeaf(keys.etcdCa, {
      commonName: nodeName,
      sans: [nodeName, 'localhost', advertise, '127.0.0.1', '::1'],
      server: true,
      client: true,
      ...life,
    }),
  };
}
