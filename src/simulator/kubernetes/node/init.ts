/** `kubeadm init` on one machine: keys, control plane, Node, the objects of a new cluster. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { parseAllDocuments } from 'yaml';
import { runControllers } from '../controllers/run.ts';
import type { Json } from '../api/json.ts';
import { R } from '../api/resources.ts';
import { SimCluster } from './cluster.ts';
import { type NodeContext, minorOf, writeFile } from './context.ts';
import { ControlPlane } from './control-plane.ts';
import { createDefaults } from './default-rbac.ts';
import { KUBE_VIP_MANIFEST, runKubeVip } from './kube-vip.ts';
import { durationMs, KubeadmError, readKubeadmFile, validateInit } from './kubeadm-config.ts';
import {
  createAddons,
  createAdminBindings,
  createJoinObjects,
  uploadConfiguration,
} from './kubeadm-objects.ts';
import { renderKubeconfig } from './kubeconfig.ts';
import { Kubelet } from './kubelet.ts';
import { kubeletFailed, kubeletOptions } from './kubelet-options.ts';
import { readClusterKeys } from './node-keys.ts';
import { issueLeaf } from './pki.ts';
import { preflight } from './preflight.ts';
import { staticPods } from './static-pods.ts';

/** Milliseconds on real hardware. */
const TIMES = {
  keys: 4000,
  images: 45_000,
  controlPlane: 25_000,
  failure: 240_000,
  phases: 6000,
  endpointPoll: 2000,
};
/** kubeadm's own limit for the API to answer (timeouts.kubernetesAPICall). */
const API_CALL_MS = 60_000;
/** RBAC that the bootstrap script applies as admin while init runs. */
const EXTRA_OBJECTS = /^\/run\/kubeadm\/.*rbac.*\.(json|ya?ml)$/;

/** Throws KubeadmError with kubeadm's words. */
export async function kubeadmInit(context: NodeContext, path: string): Promise<void> {
  const { site, machine, files, signal } = context;
  const minor = minorOf(context.version);
  const documents = readKubeadmFile(files.get(path)?.content ?? '', path, minor);
  validateInit(documents, minor);
  const configuration: Json = { clusterName: 'kubernetes', ...documents.cluster };
  configuration.networking = {
    serviceSubnet: '10.96.0.0/12',
    dnsDomain: 'cluster.local',
    ...configuration.networking,
  };
  const init: Json = documents.init ?? {};
  preflight('init', machine, files, init);
  await site.pace.sleep(TIMES.images, signal);
  const keys = await readClusterKeys(files);
  await site.pace.sleep(TIMES.keys, signal);
  const advertise: string = init.localAPIEndpoint?.advertiseAddress ?? machine.ip;
  const port: number = init.localAPIEndpoint?.bindPort ?? 6443;
  if (advertise !== machine.ip)
    throw new KubeadmError(
      `error execution phase wait-control-plane: etcd: listen tcp ${advertise}:2380: bind: cannot assign requested address`,
    );

  const version: string = configuration.kubernetesVersion;
  const repository: string = configuration.imageRepository ?? 'registry.k8s.io';
  const local = minor >= 36 || configuration.featureGates?.ControlPlaneKubeletLocalMode === true;
  const kubeVip = kubeVipImage(files.get(KUBE_VIP_MANIFEST)?.content);
  const options = kubeletOptions(machine, init.nodeRegistration, {
    version: context.version,
    controlPlane: true,
    local,
    staticPods: staticPods(repository, version, kubeVip),
  });
  if (site.faults.take('init-fails', machine)) {
    await site.pace.sleep(TIMES.failure, signal);
    throw kubeletFailed(
      'failed to run Kubelet: misconfiguration: kubelet cgroup driver: "systemd" is different from docker cgroup driver',
    );
  }
  checkApiServerArgs(configuration);

  const cluster = new SimCluster(site, configuration.clusterName, keys, configuration, {
    version,
    serviceSubnet: configuration.networking.serviceSubnet,
    serviceAccountKeys: {
      publicKey: createPublicKey(keys.serviceAccount.publicPem),
      privateKey: createPrivateKey(keys.serviceAccount.privatePem),
    },
  });
  const nowMs = site.clock.now();
  const admin = await issueLeaf(keys.ca, {
    commonName: 'kubernetes-admin',
    organizations: ['kubeadm:cluster-admins'],
    client: true,
    nowMs,
  });
  const superAdmin = await issueLeaf(keys.ca, {
    commonName: 'kubernetes-super-admin',
    organizations: ['system:masters'],
    client: true,
    nowMs,
  });
  const server = `https://${cluster.endpoint ? `${cluster.endpoint.host}:${cluster.endpoint.port}` : `${advertise}:${port}`}`;
  writeFile(
    context,
    '/etc/kubernetes/admin.conf',
    renderKubeconfig(server, keys.ca.certPem, 'kubernetes-admin', admin),
  );
  writeFile(
    context,
    '/etc/kubernetes/super-admin.conf',
    renderKubeconfig(server, keys.ca.certPem, 'kubernetes-super-admin', superAdmin),
  );

  await site.pace.sleep(TIMES.controlPlane, signal);
  const member = cluster.etcd.bootstrap(options.nodeName, machine.ip);
  createDefaults(cluster.core);
  const control = await ControlPlane.start({
    cluster,
    machine,
    nodeName: options.nodeName,
    port,
    advertise,
    memberId: member.id,
  });
  context.own({ control });
  signal.throwIfAborted();
  context.clusters.add(cluster);
  runControllers(cluster);
  if (kubeVip !== undefined) context.background('kube-vip', (ended) => runKubeVip(control, files, ended));
  applyExtraObjects(context, cluster);

  const kubelet = new Kubelet(cluster, options);
  // Without local mode the first kubelet registers through an endpoint that somebody must hold by now.
  const patience = durationMs(String(init.timeouts?.kubernetesAPICall ?? '1m')) || API_CALL_MS;
  await waitFor(
    context,
    patience,
    async () => kubelet.apiReachable(),
    `error execution phase mark-control-plane: error applying control-plane label and taints: nodes "${options.nodeName}" not found: the kubelet cannot reach https://${cluster.endpoint?.host}`,
  );
  writeFile(context, '/etc/kubernetes/kubelet.conf', 'kubelet');
  context.own({ kubelet });
  kubelet.register();
  context.background('kubelet', () => kubelet.run());

  createAdminBindings(cluster.core);
  uploadConfiguration(cluster.core, configuration);
  markControlPlane(cluster, options.nodeName);
  await site.pace.sleep(TIMES.phases, signal);
  createJoinObjects(
    cluster.core,
    init.bootstrapTokens ?? [],
    cluster.endpoint ? `${cluster.endpoint.host}:${cluster.endpoint.port}` : `${advertise}:${port}`,
    keys.ca.certPem,
  );
  createAddons(cluster.core, configuration);
}

/** The role label and the labels that only kubeadm (as admin) may set. */
export function markControlPlane(cluster: SimCluster, nodeName: string): void {
  cluster.core.edit(R.nodes, { name: nodeName }, (node) => {
    node.metadata.labels = {
      ...node.metadata.labels,
      'node-role.kubernetes.io/control-plane': '',
      'node.kubernetes.io/exclude-from-external-load-balancers': '',
    };
  });
}

export function kubeVipImage(manifest: string | undefined): string | undefined {
  if (manifest === undefined) return undefined;
  return /image:\s*["']?([^\s"']+)/.exec(manifest)?.[1] ?? 'ghcr.io/kube-vip/kube-vip';
}

async function waitFor(
  context: NodeContext,
  limitMs: number,
  test: () => Promise<boolean>,
  failure: string,
): Promise<void> {
  for (let waited = 0; !(await test()); waited += TIMES.endpointPoll) {
    if (waited >= limitMs) throw new KubeadmError(failure);
    await context.site.pace.sleep(TIMES.endpointPoll, context.signal);
  }
}

/** `kubectl apply` of what the bootstrap script brings along. */
function applyExtraObjects(context: NodeContext, cluster: SimCluster): void {
  for (const [path, file] of context.files) {
    if (!EXTRA_OBJECTS.test(path)) continue;
    for (const document of parseAllDocuments(file.content)) {
      const value: Json = document.toJS();
      for (const object of value?.kind === 'List' ? value.items : [value]) {
        const type = object && cluster.core.registry.byKind(object.apiVersion, object.kind);
        if (type) cluster.core.ensure(type.storage, object);
      }
    }
  }
}

const API_SERVER_FLAG =
  /^(admission-control-config-file|advertise-address|allow-privileged|anonymous-auth|api-audiences|audit-.*|authentication-.*|authorization-.*|bind-address|client-ca-file|cors-allowed-origins|default-.*-toleration-seconds|delete-collection-workers|disable-admission-plugins|egress-selector-config-file|enable-.*|encryption-provider-config.*|etcd-.*|event-ttl|external-hostname|feature-gates|goaway-chance|http2-max-streams-per-connection|kubelet-.*|lease-reuse-duration-seconds|livez-grace-period|max-.*|min-request-timeout|oidc-.*|profiling|proxy-client-.*|request-timeout|requestheader-.*|runtime-config|secure-port|service-account-.*|service-cluster-ip-range|service-node-port-range|shutdown-.*|storage-.*|strict-transport-security-directives|tls-.*|token-auth-file|tracing-config-file|v|vmodule|watch-cache.*)$/;

/** An unknown flag puts the static pod in a crash loop until kubeadm gives up. */
function checkApiServerArgs(configuration: Json): void {
  for (const { name } of configuration.apiServer?.extraArgs ?? [])
    if (!API_SERVER_FLAG.test(name))
      throw new KubeadmError(
        `error execution phase wait-control-plane: failed while waiting for the control plane to start: kube-apiserver check failed at https://127.0.0.1:6443/livez: connect: connection refused (kube-apiserver: Error: unknown flag: --${name})`,
      );
}
