/**
 * The gateway's own access to a cluster's API server: a short admin certificate that never leaves the gateway
 * (made on demand, renewed at half of its life, kept in memory only) and clients per address. The endpoint is
 * the normal way; a control-plane node's own address serves while the endpoint does not answer yet.
 */
import type { Dispatcher } from 'undici';
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { KubeClient, KubeTarget } from '../kube/client.ts';
import { connectEtcd, type EtcdClient } from '../kube/etcd.ts';
import {
  ADMIN_VALIDITY_MS,
  type CertificatePair,
  type ClusterPki,
  isRenewalDue,
  issueClientCertificate,
} from '../kube/pki.ts';

export type MakeEtcdClient = (endpoints: readonly string[], through: Dispatcher) => EtcdClient;

/** kubeadm's etcd serves clients here on every control-plane node. */
const ETCD_CLIENT_PORT = 2379;
/** Group that every API server trusts without any binding: works before and while RBAC objects are broken. */
const ADMIN_GROUP = 'system:masters';
const ADMIN_NAME = 'pcg-gateway';

export class ClusterAccess implements AsyncDisposable {
  readonly #make: (target: KubeTarget) => KubeClient;
  readonly #makeEtcd: MakeEtcdClient;
  readonly #clock: Clock;
  readonly #proxyUrl: string | undefined;
  readonly #clients = new Map<string, KubeClient>();
  #etcd: { readonly certPem: string; readonly connections: Dispatcher } | undefined;
  #identity: { readonly caPem: string; readonly pair: CertificatePair } | undefined;

  constructor(
    doors: { readonly kube: (target: KubeTarget) => KubeClient; readonly etcd: MakeEtcdClient },
    clock: Clock,
    proxyUrl: string | undefined,
  ) {
    this.#make = doors.kube;
    this.#makeEtcd = doors.etcd;
    this.#clock = clock;
    this.#proxyUrl = proxyUrl;
  }

  /** Admin credentials for `host:port` of this cluster. */
  async target(pki: ClusterPki, host: string, port: number): Promise<KubeTarget> {
    const pair = await this.#admin(pki);
    return {
      server: `https://${host}:${port}`,
      caPem: pki.ca.certPem,
      certPem: pair.certPem,
      keyPem: pair.keyPem,
      ...(this.#proxyUrl === undefined ? {} : { proxyUrl: this.#proxyUrl }),
    };
  }

  async client(pki: ClusterPki, host: string, port: number): Promise<KubeClient> {
    const target = await this.target(pki, host, port);
    const known = this.#clients.get(target.server);
    if (known) {
      if (known.target.certPem === target.certPem) return known;
      await known[Symbol.asyncDispose]();
    }
    const client = this.#make(target);
    this.#clients.set(target.server, client);
    return client;
  }

  /** etcd through the client ports of these hosts: a client for once, on connections that the next one finds again. */
  async etcd(pki: ClusterPki, hosts: readonly string[]): Promise<EtcdClient> {
    const now = this.#clock.now();
    // Whoever still uses the connections before keeps them: they close once they are idle.
    if (this.#etcd === undefined || isRenewalDue(this.#etcd.certPem, now)) {
      const pair = await issueClientCertificate(pki.etcdCa, {
        commonName: ADMIN_NAME,
        nowMs: now,
        validityMs: ADMIN_VALIDITY_MS,
      });
      const proxy = this.#proxyUrl === undefined ? {} : { proxyUrl: this.#proxyUrl };
      const connections = connectEtcd({ caPem: pki.etcdCa.certPem, ...pair, ...proxy });
      this.#etcd = { certPem: pair.certPem, connections };
    }
    const endpoints = hosts.map((host) => `https://${host}:${ETCD_CLIENT_PORT}`);
    return this.#makeEtcd(endpoints, this.#etcd.connections);
  }

  async #admin(pki: ClusterPki): Promise<CertificatePair> {
    const now = this.#clock.now();
    const known = this.#identity;
    if (known && known.caPem === pki.ca.certPem && !isRenewalDue(known.pair.certPem, now)) return known.pair;
    const pair = await issueClientCertificate(pki.ca, {
      commonName: ADMIN_NAME,
      organizations: [ADMIN_GROUP],
      nowMs: now,
      validityMs: ADMIN_VALIDITY_MS,
    });
    this.#identity = { caPem: pki.ca.certPem, pair };
    return pair;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.allSettled([
      ...clients.map((client) => client[Symbol.asyncDispose]()),
      this.#etcd?.connections.destroy(),
    ]);
  }
}

export function unreachable(cluster: string): PcgError {
  return new PcgError('KUBE_UNREACHABLE', `the API server of ${cluster} does not answer`);
}
