/**
 * `kubeadm join` on one machine. Everything that proves something goes over the wire: discovery with signature
 * and CA pin, the token, the certificate request. What fails there fails here with kubeadm's words.
 */
import { createHash, createHmac } from 'node:crypto';
import { parse } from 'yaml';
import type { Json } from '../api/json.ts';
import { ControlPlane, type ControlPlaneOptions, ETCD_PORT } from './control-plane.ts';
import { Dialer, type Endpoint } from './dialer.ts';
import type { SimCluster } from './cluster.ts';
import { type NodeContext, minorOf, writeFile } from './context.ts';
import { kubeVipImage, markControlPlane } from './init.ts';
import { KUBE_VIP_MANIFEST, runKubeVip } from './kube-vip.ts';
import { durationMs, KubeadmError, readKubeadmFile, validateJoin } from './kubeadm-config.ts';
import { renderKubeconfig } from './kubeconfig.ts';
import { Kubelet } from './kubelet.ts';
import { kubeletOptions } from './kubelet-options.ts';
import { readClusterKeys } from './node-keys.ts';
import { createRequest, issueLeaf, publicKeyHash } from './pki.ts';
import { preflight } from './preflight.ts';
import { siteRequest } from './site-http.ts';
import { staticPods } from './static-pods.ts';

/** Milliseconds on real hardware; retries as kubeadm's. */
const TIMES = {
  discoveryRetry: 5000,
  images: 45_000,
  csrPoll: 1000,
  kubeletStart: 5000,
  etcdSync: 8000,
  controlPlane: 12_000,
  hang: 24 * 3_600_000,
};
const DISCOVERY_MS = 300_000;
const TLS_BOOTSTRAP_MS = 300_000;
/** Polls are not simulated faster than this (real milliseconds): many machines join at once. */
const MIN_POLL_MS = 40;
/** kubeadm's patience with API calls (timeouts.kubernetesAPICall). */
const API_CALL_MS = 60_000;
/** kubeadm's patience with etcd calls (timeouts.etcdAPICall). */
const ETCD_CALL_MS = 120_000;

interface Session {
  readonly context: NodeContext;
  readonly dialer: Dialer;
  /** How long one API call may be tried, milliseconds of hardware time. */
  readonly callMs: number;
  readonly endpoint: Endpoint;
  readonly caPem: string;
  readonly token: string;
}

/** Throws KubeadmError with kubeadm's words. */
export async function kubeadmJoin(context: NodeContext, path: string): Promise<void> {
  const { site, machine, files, signal } = context;
  const minor = minorOf(context.version);
  const documents = readKubeadmFile(files.get(path)?.content ?? '', path, minor);
  validateJoin(documents);
  const join: Json = documents.join;
  const controlPlane = join.controlPlane !== undefined && join.controlPlane !== null;
  preflight(controlPlane ? 'control-plane' : 'worker', machine, files, join);
  if (site.faults.take('join-hangs', machine)) await site.pace.sleep(TIMES.hang, signal);

  using dialer = new Dialer(context);
  const session = await discover(context, dialer, join);
  site.reached(machine.systemId, 'discovered');
  const configuration = await readConfiguration(session, minor);
  const local =
    controlPlane && (minor >= 36 || configuration.featureGates?.ControlPlaneKubeletLocalMode === true);
  const repository: string = configuration.imageRepository ?? 'registry.k8s.io';
  const kubeVip = controlPlane ? kubeVipImage(files.get(KUBE_VIP_MANIFEST)?.content) : undefined;
  const options = kubeletOptions(machine, join.nodeRegistration, {
    version: context.version,
    controlPlane,
    local,
    staticPods: controlPlane ? staticPods(repository, configuration.kubernetesVersion, kubeVip) : [],
  });
  if (controlPlane) await site.pace.sleep(TIMES.images, signal);
  const keys = controlPlane ? await readClusterKeys(files) : undefined;
  if (keys && keys.ca.hash !== publicKeyHash(session.caPem))
    throw new KubeadmError(
      'error execution phase control-plane-prepare/certs: the ca.crt on this node is not the CA of the cluster',
    );
  const cluster = await clusterBehind(session);

  if (controlPlane && keys) {
    await site.pace.sleep(TIMES.kubeletStart, signal);
    const advertise: string = join.controlPlane.localAPIEndpoint?.advertiseAddress ?? machine.ip;
    if (advertise !== machine.ip)
      throw new KubeadmError(
        `error execution phase control-plane-join/etcd: etcd: listen tcp ${advertise}:2380: bind: cannot assign requested address`,
      );
    if (keys.etcdCa.hash !== cluster.keys.etcdCa.hash)
      throw new KubeadmError(
        'error execution phase check-etcd: error syncing endpoints with etcd: context deadline exceeded: tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of "crypto/rsa: verification error" while trying to verify candidate authority certificate "etcd-ca")',
      );
    if (keys.serviceAccount.publicPem.trim() !== cluster.keys.serviceAccount.publicPem.trim())
      throw new KubeadmError(
        'error execution phase wait-control-plane: the service account key of this node is not the one of the cluster',
      );
    const memberId = await joinEtcd(session, cluster, keys.etcdCa, options.nodeName, advertise);
    const control = await startControlPlane(context, {
      cluster,
      machine,
      nodeName: options.nodeName,
      port: join.controlPlane.localAPIEndpoint?.bindPort ?? 6443,
      advertise,
      memberId,
    });
    context.own({ control });
    signal.throwIfAborted();
    const admin = await issueLeaf(keys.ca, {
      commonName: 'kubernetes-admin',
      organizations: ['kubeadm:cluster-admins'],
      client: true,
      nowMs: site.clock.now(),
    });
    writeFile(
      context,
      '/etc/kubernetes/admin.conf',
      renderKubeconfig(
        `https://${session.endpoint.host}:${session.endpoint.port}`,
        keys.ca.certPem,
        'kubernetes-admin',
        admin,
      ),
    );
    if (kubeVip !== undefined) context.background('kube-vip', (ended) => runKubeVip(control, files, ended));
  }
  await bootstrapKubelet(session, join, options.nodeName);
  await site.pace.sleep(TIMES.kubeletStart, signal);
  const kubelet = new Kubelet(cluster, options);
  context.own({ kubelet });
  cluster.core.guard();
  kubelet.register();
  if (controlPlane) markControlPlane(cluster, options.nodeName);
  context.background('kubelet', () => kubelet.run());
}

/** The member's process ends with the machine, also before there is anything else on it. */
async function startControlPlane(
  { site, signal }: NodeContext,
  options: ControlPlaneOptions,
): Promise<ControlPlane> {
  try {
    await site.pace.sleep(TIMES.controlPlane, signal);
    return await ControlPlane.start(options);
  } catch (error) {
    options.cluster.etcd.stopped(options.memberId);
    throw error;
  }
}

/** cluster-info without trust, its signature by the token, the CA pin, then again with trust. */
async function discover(context: NodeContext, dialer: Dialer, join: Json): Promise<Session> {
  const { site, signal } = context;
  const discovery = join.discovery.bootstrapToken;
  if (!discovery)
    throw new KubeadmError(
      'error execution phase preflight: discovery by file is not supported on this machine',
    );
  const [host = '', port = '6443'] = String(discovery.apiServerEndpoint).split(':');
  const endpoint = { host, port: Number(port) };
  const limit = durationMs(String(join.timeouts?.discovery ?? '')) || DISCOVERY_MS;
  const startedAt = site.clock.monotonic();
  for (;;) {
    try {
      const { caPem, server } = await tryDiscovery(dialer, discovery, endpoint);
      const callMs = durationMs(String(join.timeouts?.kubernetesAPICall ?? '')) || API_CALL_MS;
      return { context, dialer, callMs, endpoint: server, caPem, token: discovery.token };
    } catch (error) {
      signal.throwIfAborted();
      // A wrong pin is final; everything else may still come up.
      if (error instanceof PinError)
        throw new KubeadmError(
          `error execution phase preflight: couldn't validate the identity of the API Server: ${error.message}`,
        );
      if ((site.clock.monotonic() - startedAt) * site.pace.speed >= limit)
        throw new KubeadmError(
          `error execution phase preflight: couldn't validate the identity of the API Server: ${error instanceof Error ? error.message : error}`,
        );
      site.reached(context.machine.systemId, 'refused');
      await site.pace.sleep(TIMES.discoveryRetry, signal);
    }
  }
}

class PinError extends Error {}

async function tryDiscovery(
  dialer: Dialer,
  discovery: Json,
  endpoint: Endpoint,
): Promise<{ caPem: string; server: Endpoint }> {
  const path = '/api/v1/namespaces/kube-public/configmaps/cluster-info';
  const [id = '', secret = ''] = String(discovery.token).split('.');
  const loose = await dialer.call(endpoint, { path });
  if (loose.status !== 200)
    throw new Error(`failed to request the cluster-info ConfigMap: ${loose.body?.message ?? loose.status}`);
  const kubeconfig: string = loose.body.data?.kubeconfig ?? '';
  const signature: string | undefined = loose.body.data?.[`jws-kubeconfig-${id}`];
  if (!signature)
    throw new Error(`could not find a JWS signature in the cluster-info ConfigMap for token ID "${id}"`);
  const [header = '', , mac] = signature.split('.');
  const expected = createHmac('sha256', secret)
    .update(`${header}.${Buffer.from(kubeconfig).toString('base64url')}`)
    .digest('base64url');
  if (mac !== expected)
    throw new Error(
      "failed to verify JWS signature of received cluster info object, can't trust this API Server",
    );
  const cluster: Json = parse(kubeconfig)?.clusters?.[0]?.cluster;
  const caPem = Buffer.from(cluster?.['certificate-authority-data'] ?? '', 'base64').toString();
  const hashes: string[] = (discovery.caCertHashes ?? []).map((hash: string) => hash.toLowerCase());
  if (hashes.length > 0 && !hashes.includes(publicKeyHash(caPem)))
    throw new PinError(
      `cluster CA found in cluster-info ConfigMap is invalid: none of the public keys "${publicKeyHash(caPem)}" are pinned`,
    );
  // From here on with the server named in cluster-info, verified by the CA.
  const server = new URL(cluster.server);
  const trusted = { host: server.hostname, port: Number(server.port || 443) };
  const again = await dialer.call(trusted, { path, caPem });
  if (again.status !== 200 || again.body.data?.kubeconfig !== kubeconfig)
    throw new Error('the second cluster-info is not the first');
  return { caPem, server: trusted };
}

function authorized(session: Session, request: { path: string; method?: string; body?: Json }) {
  const { dialer, endpoint, caPem, token, callMs } = session;
  return dialer.persist(endpoint, { ...request, caPem, token }, callMs);
}

async function readConfiguration(session: Session, minor: number): Promise<Json> {
  const read = async (name: string) => {
    const reply = await authorized(session, { path: `/api/v1/namespaces/kube-system/configmaps/${name}` });
    if (reply.status === 401)
      throw new KubeadmError(
        'error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: Unauthorized',
      );
    if (reply.status !== 200)
      throw new KubeadmError(
        `error execution phase preflight: unable to fetch the ${name} ConfigMap: failed to get config map: ${reply.body?.message ?? reply.status}`,
      );
    return reply.body;
  };
  const configuration: Json = parse((await read('kubeadm-config')).data?.ClusterConfiguration ?? '') ?? {};
  await read('kubelet-config');
  const cluster = minorOf(configuration.kubernetesVersion ?? '');
  if (minor < cluster || minor > cluster + 1)
    throw new KubeadmError(
      `error execution phase preflight: this version of kubeadm only supports joining clusters of its own minor version: kubeadm is 1.${minor}, the cluster is ${configuration.kubernetesVersion}`,
    );
  return configuration;
}

/** The cluster whose API server really answered at the endpoint. */
async function clusterBehind(session: Session): Promise<SimCluster> {
  for (const ip of await session.context.site.resolve(session.endpoint.host))
    for (const cluster of session.context.clusters) if (cluster.servingAt(ip)) return cluster;
  throw new KubeadmError(
    `error execution phase kubelet-start: dial tcp ${session.endpoint.host}:${session.endpoint.port}: connect: connection refused`,
  );
}

/** TLS bootstrap: a certificate request by token, approved and signed by the controllers of the cluster. */
async function bootstrapKubelet(session: Session, join: Json, nodeName: string): Promise<void> {
  const { context } = session;
  const { site, signal } = context;
  const existing = await authorized(session, { path: `/api/v1/nodes/${nodeName}` });
  if (
    existing.status === 200 &&
    (existing.body.status?.conditions ?? []).some(
      (item: Json) => item.type === 'Ready' && item.status === 'True',
    )
  )
    throw new KubeadmError(
      `error execution phase kubelet-start: a Node with name "${nodeName}" and status "Ready" already exists in the cluster. You must delete the existing Node or change the name of this new joining Node`,
    );
  const { csrPem, keyPem } = await createRequest(`system:node:${nodeName}`, ['system:nodes']);
  // The kubelet names it after its key: a machine that was installed anew has a new one.
  const name = `node-csr-${createHash('sha256').update(csrPem).digest('base64url').replaceAll(/[_-]/g, '').toLowerCase().slice(0, 40)}`;
  const created = await authorized(session, {
    method: 'POST',
    path: '/apis/certificates.k8s.io/v1/certificatesigningrequests',
    body: {
      apiVersion: 'certificates.k8s.io/v1',
      kind: 'CertificateSigningRequest',
      metadata: { name },
      spec: {
        request: Buffer.from(csrPem).toString('base64'),
        signerName: 'kubernetes.io/kube-apiserver-client-kubelet',
        usages: ['digital signature', 'client auth'],
      },
    },
  });
  if (created.status !== 201)
    throw new KubeadmError(
      `error execution phase kubelet-start: cannot create certificate signing request: ${created.body?.message ?? created.status}`,
    );
  const limit = durationMs(String(join.timeouts?.tlsBootstrap ?? '')) || TLS_BOOTSTRAP_MS;
  const pause = Math.max(TIMES.csrPoll, MIN_POLL_MS * site.pace.speed);
  for (let waited = 0; ; waited += pause) {
    const reply = await authorized(session, {
      path: `/apis/certificates.k8s.io/v1/certificatesigningrequests/${name}`,
    });
    const certificate: string | undefined = reply.body?.status?.certificate;
    if (certificate) {
      writeFile(
        context,
        '/etc/kubernetes/kubelet.conf',
        renderKubeconfig(
          `https://${session.endpoint.host}:${session.endpoint.port}`,
          session.caPem,
          'default-auth',
          { certPem: Buffer.from(certificate, 'base64').toString(), keyPem },
        ),
      );
      return;
    }
    if (waited >= limit)
      throw new KubeadmError(
        'error execution phase kubelet-start: timed out waiting for the condition: the kubelet has not received a client certificate',
      );
    await site.pace.sleep(pause, signal);
  }
}

/** Adds this node as a learner, lets it catch up, promotes it: over etcd's own port. */
async function joinEtcd(
  session: Session,
  cluster: SimCluster,
  etcdCa: { certPem: string } & Parameters<typeof issueLeaf>[0],
  nodeName: string,
  ip: string,
): Promise<bigint> {
  const { context } = session;
  const { site, machine, signal } = context;
  const client = await issueLeaf(etcdCa, {
    commonName: 'kube-etcd-healthcheck-client',
    client: true,
    nowMs: site.clock.now(),
  });
  const ask = async (path: string, body: Json) => {
    let failure = 'no etcd member answers';
    for (const node of cluster.controlPlanes.values()) {
      try {
        const reply = await siteRequest(
          site.network,
          {
            ip: node.machine.ip,
            port: ETCD_PORT,
            from: machine.ip,
            caPem: etcdCa.certPem,
            ...client,
            method: 'POST',
            path,
            body,
          },
          signal,
        );
        if (reply.status === 200) return reply.body;
        failure = reply.body?.message ?? String(reply.status);
        if (reply.body?.code === 9) break;
      } catch (error) {
        signal.throwIfAborted();
        failure = error instanceof Error ? error.message : String(error);
      }
    }
    throw new KubeadmError(
      `error execution phase control-plane-join/etcd: error creating local etcd static pod manifest file: etcdclient: ${failure}`,
    );
  };
  const added = await ask('/v3/cluster/member/add', { peerURLs: [`https://${ip}:2380`], isLearner: true });
  const id = BigInt(added.member.ID);
  cluster.etcd.started(id, nodeName, ip);
  try {
    await site.pace.sleep(TIMES.etcdSync, signal);
    const member = cluster.etcd.get(id);
    if (member) member.inSync = true;
    const startedAt = site.clock.monotonic();
    for (;;) {
      try {
        await ask('/v3/cluster/member/promote', { ID: String(id) });
        return id;
      } catch (error) {
        if ((site.clock.monotonic() - startedAt) * site.pace.speed > ETCD_CALL_MS) throw error;
        await site.pace.sleep(1000, signal);
      }
    }
  } catch (error) {
    cluster.etcd.stopped(id);
    throw error;
  }
}
