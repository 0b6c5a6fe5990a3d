/**
 * A small data centre for tests of the Kubernetes double: machines with hand-written user-data (an independent
 * reading of the contract between user-data and machines), and a client that speaks TLS over the site network.
 */
import 'reflect-metadata';
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { stringify } from 'yaml';
import type { Clock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import type { KubernetesFault, KubernetesFaults } from '../../src/simulator/kubernetes/faults.ts';
import { siteRequest } from '../../src/simulator/kubernetes/node/site-http.ts';
import { type KubernetesRuntime, createKubernetesRuntime } from '../../src/simulator/kubernetes/runtime.ts';
import { createSiteNetwork } from '../../src/simulator/network.ts';
import { createPace } from '../../src/simulator/pace.ts';
import type { SiteNetwork } from '../../src/simulator/ports.ts';
import { LeapingClock } from './leaping-clock.ts';
import { steadyClock } from './steady-clock.ts';

x509.cryptoProvider.set(webcrypto as Crypto);

export interface Pair {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface TestPki {
  readonly ca: Pair;
  readonly etcdCa: Pair;
  readonly frontProxyCa: Pair;
  readonly sa: { readonly publicPem: string; readonly privatePem: string };
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 24 * 3600 * 1000;

async function exportKey(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key as never));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
}

export async function testAuthority(name: string): Promise<Pair> {
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(8).toString('hex').replace(/^./, '1'),
    name: `CN=${name}`,
    keys,
    signingAlgorithm: ALGORITHM,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 3650 * DAY_MS),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature, true),
    ],
  });
  return { certPem: certificate.toString('pem'), keyPem: await exportKey(keys.privateKey) };
}

/** A client certificate with CN and O, as the gateway would issue it. */
export async function testClient(
  authority: Pair,
  commonName: string,
  organizations: string[] = [],
  validMs = DAY_MS,
): Promise<Pair> {
  const der = new Uint8Array(createPrivateKey(authority.keyPem).export({ type: 'pkcs8', format: 'der' }));
  const signingKey = (await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, [
    'sign',
  ])) as CryptoKey;
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomBytes(8).toString('hex').replace(/^./, '1'),
    subject: new x509.Name([...organizations.map((name) => ({ O: [name] })), { CN: [commonName] }]).toJSON(),
    issuer: new x509.X509Certificate(authority.certPem).subjectName.toJSON(),
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    notBefore: new Date(Date.now() - 2 * DAY_MS),
    notAfter: new Date(Date.now() + validMs),
    extensions: [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])],
  });
  return { certPem: certificate.toString('pem'), keyPem: await exportKey(keys.privateKey) };
}

export async function testPki(): Promise<TestPki> {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    ca: await testAuthority('kubernetes'),
    etcdCa: await testAuthority('etcd-ca'),
    frontProxyCa: await testAuthority('front-proxy-ca'),
    sa: {
      publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
      privatePem: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
    },
  };
}

export function caHash(certPem: string): string {
  return `sha256:${createHash('sha256')
    .update(new X509Certificate(certPem).publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')}`;
}

export const VIP = '10.20.0.200';
export const TOKEN = 'abcdef.0123456789abcdef';
export const VERSION = 'v1.36.1';

// biome-ignore lint/suspicious/noExplicitAny: documents that tests bend on purpose
export type Doc = any;

export interface ClusterFiles {
  readonly pki: TestPki;
  readonly kubeVip?: Pair;
  /** Bends the ClusterConfiguration, InitConfiguration or JoinConfiguration before it is written. */
  readonly edit?: (documents: Doc[]) => void;
  /** Bends the list of files (path -> content; undefined removes it). */
  readonly files?: Record<string, string | undefined>;
  readonly token?: string;
  readonly caHash?: string;
  readonly endpoint?: string;
  readonly providerId?: string;
  readonly version?: string;
}

function nodeRegistration(files: ClusterFiles, taints: Doc[]): Doc {
  return {
    criSocket: 'unix:///var/run/containerd/containerd.sock',
    taints,
    kubeletExtraArgs: [
      { name: 'node-ip', value: '__NODE_IP__' },
      ...(files.providerId ? [{ name: 'provider-id', value: files.providerId }] : []),
      { name: 'node-labels', value: 'pcg.example/pool=test' },
    ],
  };
}

const CONTROL_PLANE_TAINT = { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' };

export function kubeVipManifest(address: string, edit: (pod: Doc) => void = () => {}): string {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'kube-vip', namespace: 'kube-system' },
    spec: {
      hostNetwork: true,
      containers: [
        {
          name: 'kube-vip',
          image: 'ghcr.io/kube-vip/kube-vip:v1.2.3',
          args: ['manager'],
          env: Object.entries({
            vip_arp: 'true',
            port: '6443',
            cp_enable: 'true',
            cp_namespace: 'kube-system',
            vip_leaderelection: 'true',
            vip_leasename: 'plndr-cp-lock',
            vip_leaseduration: '5',
            vip_renewdeadline: '3',
            vip_retryperiod: '1',
            address,
          }).map(([name, value]) => ({ name, value })),
          securityContext: { capabilities: { add: ['NET_ADMIN', 'NET_RAW'] } },
          volumeMounts: [{ name: 'kubeconfig', mountPath: '/etc/kubernetes/admin.conf' }],
        },
      ],
      volumes: [{ name: 'kubeconfig', hostPath: { path: '/etc/kubernetes/kube-vip.conf' } }],
    },
  };
  edit(pod);
  return stringify(pod);
}

function controlPlaneFiles(files: ClusterFiles): Record<string, string> {
  const { pki } = files;
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const vip = files.kubeVip;
  return {
    '/etc/kubernetes/pki/ca.crt': pki.ca.certPem,
    '/etc/kubernetes/pki/ca.key': pki.ca.keyPem,
    '/etc/kubernetes/pki/etcd/ca.crt': pki.etcdCa.certPem,
    '/etc/kubernetes/pki/etcd/ca.key': pki.etcdCa.keyPem,
    '/etc/kubernetes/pki/front-proxy-ca.crt': pki.frontProxyCa.certPem,
    '/etc/kubernetes/pki/front-proxy-ca.key': pki.frontProxyCa.keyPem,
    '/etc/kubernetes/pki/sa.pub': pki.sa.publicPem,
    '/etc/kubernetes/pki/sa.key': pki.sa.privatePem,
    ...(vip
      ? {
          '/etc/kubernetes/manifests/kube-vip.yaml': kubeVipManifest(
            (files.endpoint ?? `${VIP}:6443`).split(':')[0] ?? VIP,
          ),
          '/etc/kubernetes/kube-vip.conf': stringify({
            apiVersion: 'v1',
            kind: 'Config',
            clusters: [
              {
                name: 'c',
                cluster: {
                  server: 'https://127.0.0.1:6443',
                  'certificate-authority-data': base64(pki.ca.certPem),
                },
              },
            ],
            users: [
              {
                name: 'u',
                user: {
                  'client-certificate-data': base64(vip.certPem),
                  'client-key-data': base64(vip.keyPem),
                },
              },
            ],
            contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
            'current-context': 'x',
          }),
        }
      : {}),
  };
}

function cloudConfig(files: Record<string, string | undefined>): string {
  return `#cloud-config\n${stringify({
    write_files: Object.entries(files)
      .filter(([, content]) => content !== undefined)
      .map(([path, content]) => ({
        path,
        permissions: path.includes('/sbin/') ? '0700' : '0600',
        encoding: 'b64',
        content: Buffer.from(content ?? '').toString('base64'),
      })),
    runcmd: [['/usr/local/sbin/pcg-bootstrap']],
  })}`;
}

const SCRIPT = { '/usr/local/sbin/pcg-bootstrap': '#!/bin/bash\nexit 0\n' };
const yaml = (documents: Doc[]) => documents.map((document) => stringify(document)).join('---\n');
const environment = (files: ClusterFiles) => ({
  '/etc/pcg/bootstrap.env': `PCG_KUBERNETES_VERSION='${files.version ?? VERSION}'\n`,
});

export function initUserData(files: ClusterFiles): string {
  const endpoint = files.endpoint ?? `${VIP}:6443`;
  const documents: Doc[] = [
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'ClusterConfiguration',
      clusterName: 'demo',
      kubernetesVersion: files.version ?? VERSION,
      controlPlaneEndpoint: endpoint,
      networking: { podSubnet: '192.168.0.0/16', serviceSubnet: '10.96.0.0/12', dnsDomain: 'cluster.local' },
      apiServer: { certSANs: ['127.0.0.1'] },
    },
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'InitConfiguration',
      bootstrapTokens: [
        {
          token: files.token ?? TOKEN,
          ttl: '1h0m0s',
          usages: ['signing', 'authentication'],
          groups: ['system:bootstrappers:kubeadm:default-node-token'],
        },
      ],
      localAPIEndpoint: { advertiseAddress: '__NODE_IP__', bindPort: 6443 },
      nodeRegistration: nodeRegistration(files, [CONTROL_PLANE_TAINT]),
    },
  ];
  files.edit?.(documents);
  return cloudConfig({
    ...SCRIPT,
    ...environment(files),
    ...controlPlaneFiles(files),
    '/run/kubeadm/kubeadm.yaml': yaml(documents),
    ...files.files,
  });
}

export function joinUserData(files: ClusterFiles, role: 'control-plane' | 'worker'): string {
  const endpoint = files.endpoint ?? `${VIP}:6443`;
  const documents: Doc[] = [
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'JoinConfiguration',
      discovery: {
        bootstrapToken: {
          apiServerEndpoint: endpoint,
          token: files.token ?? TOKEN,
          caCertHashes: [files.caHash ?? caHash(files.pki.ca.certPem)],
        },
      },
      nodeRegistration: nodeRegistration(files, role === 'control-plane' ? [CONTROL_PLANE_TAINT] : []),
      ...(role === 'control-plane'
        ? { controlPlane: { localAPIEndpoint: { advertiseAddress: '__NODE_IP__', bindPort: 6443 } } }
        : {}),
    },
  ];
  files.edit?.(documents);
  return cloudConfig({
    ...SCRIPT,
    ...environment(files),
    ...(role === 'control-plane' ? controlPlaneFiles(files) : {}),
    '/run/kubeadm/kubeadm-join-config.yaml': yaml(documents),
    ...files.files,
  });
}

export interface ConsoleEvent {
  readonly level: string;
  readonly type: string;
  readonly description: string;
}

/** Time starts this far behind the real one, by which TLS judges certificates: more than a test lasts. */
const BEHIND_MS = 12 * 3600 * 1000;

export class KubeSite implements AsyncDisposable {
  readonly clock: Clock & Partial<Disposable>;
  readonly network: SiteNetwork = createSiteNetwork();
  readonly runtime: KubernetesRuntime;
  readonly events = new Map<string, ConsoleEvent[]>();
  /** Fault name -> how often it still strikes, on machines whose host name contains the text after `@`. */
  readonly faults = new Map<string, number>();
  readonly pki: TestPki;
  readonly kubeVip: Pair;
  readonly admin: Pair;
  #next = 11;

  private constructor(pki: TestPki, kubeVip: Pair, admin: Pair, speed: number, realTime: boolean) {
    const startedMs = Date.now() - BEHIND_MS;
    this.clock = realTime ? { ...steadyClock, now: () => startedMs } : new LeapingClock(BEHIND_MS);
    this.pki = pki;
    this.kubeVip = kubeVip;
    this.admin = admin;
    const faults: KubernetesFaults = {
      take: (name: KubernetesFault, at) => {
        for (const key of [name, `${name}@${at.hostname}`]) {
          const left = this.faults.get(key) ?? 0;
          if (left > 0) {
            this.faults.set(key, left - 1);
            return true;
          }
        }
        return false;
      },
    };
    this.runtime = createKubernetesRuntime({
      network: this.network,
      pace: createPace(this.clock, speed),
      log: silentLog,
      clock: this.clock,
      faults,
    });
  }

  /**
   * `realTime`: for programs that live in it; its wall clock stands, or at such a speed events would be gone after seconds.
   * In any other site time leaps, and nobody waits for hardware.
   */
  static async create(speed = 500, realTime = false): Promise<KubeSite> {
    const pki = await testPki();
    return new KubeSite(
      pki,
      await testClient(pki.ca, 'kube-vip'),
      await testClient(pki.ca, 'kubernetes-admin', ['system:masters']),
      speed,
      realTime,
    );
  }

  /** Boots a machine; returns its address. */
  boot(hostname: string, userData: string, more: { cpuCount?: number; memoryMiB?: number } = {}): string {
    const ip = `10.20.0.${this.#next}`;
    this.#next += 1;
    const events: ConsoleEvent[] = [];
    this.events.set(hostname, events);
    this.runtime.boot(
      {
        systemId: `id-${hostname}`,
        hostname,
        fqdn: `${hostname}.maas`,
        zone: 'zone-a',
        ip,
        subnetCidr: '10.20.0.0/24',
        cpuCount: 4,
        memoryMiB: 8192,
        image: 'ubuntu/noble',
        userData,
        ...more,
      },
      { event: (level, type, description) => events.push({ level, type, description }), log: () => {} },
    );
    return ip;
  }

  stop(hostname: string): void {
    this.runtime.stop(`id-${hostname}`);
  }

  get files(): ClusterFiles {
    return { pki: this.pki, kubeVip: this.kubeVip };
  }

  /** One request over the site network as admin (or with other credentials). */
  async request(
    ip: string,
    path: string,
    options: {
      method?: string;
      body?: unknown;
      contentType?: string;
      as?: Pair | 'nobody';
      token?: string;
      port?: number;
      caPem?: string;
    } = {},
  ): Promise<{ status: number; body: Doc }> {
    const pair = options.as ?? (options.token === undefined ? this.admin : 'nobody');
    return siteRequest(
      this.network,
      {
        ip,
        port: options.port ?? 6443,
        from: '10.20.0.1',
        caPem: options.caPem ?? this.pki.ca.certPem,
        path,
        method: options.method ?? 'GET',
        ...(pair === 'nobody' ? {} : pair),
        ...(options.body === undefined ? {} : { body: options.body }),
        ...(options.contentType ? { contentType: options.contentType } : {}),
        ...(options.token ? { token: options.token } : {}),
      },
      new AbortController().signal,
    );
  }

  /** Applies an object at the address by server-side apply. */
  async apply(
    ip: string,
    path: string,
    object: Doc,
    query = 'fieldManager=test&force=true',
  ): Promise<{ status: number; body: Doc }> {
    return this.request(ip, `${path}/${object.metadata.name}?${query}`, {
      method: 'PATCH',
      contentType: 'application/apply-patch+yaml',
      body: object,
    });
  }

  /** Asks the JSON gateway of the etcd member at the address, as a client of etcd's own CA. */
  async etcd(ip: string, path: string, body: unknown = {}): Promise<{ status: number; body: Doc }> {
    const { etcdCa } = this.pki;
    const as = await testClient(etcdCa, 'pcg', []);
    return this.request(ip, path, { method: 'POST', body, port: 2379, as, caPem: etcdCa.certPem });
  }

  /** Waits (in the time of the site, bounded) until the test gives a value. Throws with the last state when it never does. */
  async until<T>(
    what: string,
    test: () => Promise<T | undefined | false> | T | undefined | false,
    limitMs = 60_000,
  ): Promise<T> {
    const end = this.clock.monotonic() + limitMs;
    let failure: unknown;
    for (;;) {
      try {
        const value = await test();
        if (value !== undefined && value !== false) return value;
      } catch (error) {
        failure = error;
      }
      if (this.clock.monotonic() > end) {
        const events = [...this.events].flatMap(([host, list]) =>
          list.map((event) => `${host}: ${event.description}`),
        );
        throw new Error(
          `not in time: ${what}\n${String(failure ?? '')}\n${events.join('\n')}\n${JSON.stringify(this.runtime.clusters(), undefined, 1)}`,
        );
      }
      await this.clock.sleep(25);
    }
  }

  /** The failure event of a machine. */
  failed(hostname: string, limitMs?: number): Promise<ConsoleEvent> {
    return this.until(
      `${hostname} fails`,
      () =>
        this.events
          .get(hostname)
          ?.find((event) => event.type === 'NODE_POST_INSTALL_EVENT_FAILED' && event.level === 'ERROR'),
      limitMs,
    );
  }

  async node(ip: string, name: string): Promise<Doc | undefined> {
    const reply = await this.request(ip, `/api/v1/nodes/${name}`);
    return reply.status === 200 ? reply.body : undefined;
  }

  /** Boots a first control-plane node, gives kube-vip its rights and waits for the virtual address. */
  async firstNode(hostname = 'cp-1', files: Partial<ClusterFiles> = {}): Promise<string> {
    const ip = this.boot(hostname, initUserData({ ...this.files, ...files }));
    await this.until(
      'the API answers',
      async () => (await this.request(ip, '/readyz', { as: 'nobody' })).status === 200,
    );
    for (const object of KUBE_VIP_RBAC)
      await this.apply(
        ip,
        `/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/${object.kind.toLowerCase()}s`,
        object,
      );
    await this.until('the virtual address is up', () => this.network.isUp(VIP));
    await this.until(
      'init is finished',
      async () =>
        (await this.request(VIP, '/api/v1/namespaces/kube-public/configmaps/cluster-info', { as: 'nobody' }))
          .status === 200,
    );
    return ip;
  }

  /** Applies a CNI DaemonSet. */
  async applyCni(ip = VIP): Promise<void> {
    const reply = await this.apply(ip, '/apis/apps/v1/namespaces/kube-system/daemonsets', CNI);
    if (reply.status >= 300) throw new Error(JSON.stringify(reply.body));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.runtime[Symbol.asyncDispose]();
    this.clock[Symbol.dispose]?.();
  }
}

const RBAC = 'rbac.authorization.k8s.io';
export const KUBE_VIP_RBAC: Doc[] = [
  {
    apiVersion: `${RBAC}/v1`,
    kind: 'Role',
    metadata: { name: 'kube-vip', namespace: 'kube-system' },
    rules: [
      {
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        verbs: ['get', 'list', 'watch', 'create', 'update'],
      },
    ],
  },
  {
    apiVersion: `${RBAC}/v1`,
    kind: 'RoleBinding',
    metadata: { name: 'kube-vip', namespace: 'kube-system' },
    roleRef: { apiGroup: RBAC, kind: 'Role', name: 'kube-vip' },
    subjects: [{ kind: 'User', apiGroup: RBAC, name: 'kube-vip' }],
  },
];

export const CNI: Doc = {
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'kube-flannel-ds', namespace: 'kube-system', labels: { app: 'flannel' } },
  spec: {
    selector: { matchLabels: { app: 'flannel' } },
    template: {
      metadata: { labels: { app: 'flannel' } },
      spec: {
        hostNetwork: true,
        priorityClassName: 'system-node-critical',
        tolerations: [{ operator: 'Exists', effect: 'NoSchedule' }],
        containers: [
          {
            name: 'kube-flannel',
            image: 'ghcr.io/flannel-io/flannel:v0.27.4',
            command: ['/opt/bin/flanneld'],
            volumeMounts: [{ name: 'cni', mountPath: '/etc/cni/net.d' }],
          },
        ],
        volumes: [{ name: 'cni', hostPath: { path: '/etc/cni/net.d' } }],
      },
    },
  },
};
