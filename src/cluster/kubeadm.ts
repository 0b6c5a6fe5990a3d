/**
 * kubeadm configuration (API v1beta4, Kubernetes 1.31 and later) of one node. Addresses of the node itself are
 * placeholders that the bootstrap script fills in. Everything a user may add was checked by packs.ts before.
 */
import { stringify } from 'yaml';
import { PcgError } from '../base/errors.ts';
import { parseVersion } from '../kube/versions.ts';
import type { NodeTaint } from '../kube/nodes.ts';
import { LABEL_CLUSTER, LABEL_POOL, providerId } from './node-identity.ts';
import { CONTROL_PLANE_TAINT, taintsOfPool } from './pool-taints.ts';
import { mergeNodeSettings } from './site-settings.ts';
import { NODE_IP_PLACEHOLDER } from './node-proxy.ts';
import { checkApiServerArgs, checkKubeletArgs } from './packs.ts';
import type { NodeInput } from './user-data.ts';

export const INIT_CONFIG_PATH = '/run/kubeadm/kubeadm.yaml';
export const JOIN_CONFIG_PATH = '/run/kubeadm/kubeadm-join-config.yaml';
export const CRI_SOCKET = 'unix:///var/run/containerd/containerd.sock';
/** Group that RBAC of kubeadm lets join. */
export const BOOTSTRAP_GROUP = 'system:bootstrappers:kubeadm:default-node-token';

const API_VERSION = 'kubeadm.k8s.io/v1beta4';
/** Port of API servers behind a load balancer that we do not own. */
const DEFAULT_API_PORT = 6443;
/** Machines boot slowly: the token of the first config must outlive one deployment. */
const INIT_TOKEN_TTL = '1h0m0s';
/**
 * Image pulls over a site's link and slow name servers on bare metal: kubeadm's 4 and 5 minutes are too short.
 * The API call limit also bridges the moment until kube-vip has the endpoint address.
 */
const TIMEOUTS = {
  controlPlaneComponentHealthCheck: '10m0s',
  kubeletHealthCheck: '5m0s',
  kubernetesAPICall: '3m0s',
  etcdAPICall: '2m0s',
  tlsBootstrap: '10m0s',
  // Until its token is granted a machine waits here for its turn: five control-plane nodes join one by one.
  discovery: '1h0m0s',
};
/** kubeadm: a node's range is at most 16 bits longer than the cluster's. */
const MAX_SPREAD_BITS = 16;
/** The usual range per node (256 addresses), and the smallest that still serves a kubelet (32 addresses). */
const NODE_MASK = { usual: 24, smallest: 27 };

/** MAAS allows spaces in names of zones, Kubernetes does not. */
const LABEL_VALUE = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** The file for this node's kind; multi-document YAML. */
export function renderKubeadmConfig(input: NodeInput): string {
  const documents =
    input.kind === 'init'
      ? [
          clusterConfiguration(input),
          initConfiguration(input),
          kubeletConfiguration(),
          kubeProxyConfiguration(),
        ]
      : [joinConfiguration(input)];
  // YAML 1.1 quoting, because Go's reader takes yes, no, on and off for booleans.
  return documents.map((document) => stringify(document, { lineWidth: 0, version: '1.1' })).join('---\n');
}

/** Port on which this cluster's API servers listen on their nodes. */
export function apiServerPort(input: Pick<NodeInput, 'spec' | 'endpoint'>): number {
  return input.spec.network.endpoint.kind === 'external' ? DEFAULT_API_PORT : input.endpoint.port;
}

function clusterConfiguration(input: NodeInput) {
  const { spec, profile, endpoint } = input;
  const { imageRepository } = mergeNodeSettings(input.site, spec.nodes);
  const version = profile.kubernetes.kubernetesVersion;
  const mask = nodeCidrMask(
    spec.network.podCidr,
    spec.pools.reduce((sum, pool) => sum + pool.size, 0),
  );
  return {
    apiVersion: API_VERSION,
    kind: 'ClusterConfiguration',
    clusterName: input.cluster.name,
    kubernetesVersion: version,
    controlPlaneEndpoint: `${endpoint.host}:${endpoint.port}`,
    networking: {
      podSubnet: spec.network.podCidr,
      serviceSubnet: spec.network.serviceCidr,
      dnsDomain: 'cluster.local',
    },
    apiServer: {
      // 127.0.0.1: kube-vip and people on the node use the local server.
      certSANs: [...new Set([endpoint.host, 'localhost', '127.0.0.1'])],
      extraArgs: apiServerExtraArgs(profile),
    },
    ...(mask === NODE_MASK.usual
      ? {}
      : { controllerManager: { extraArgs: extraArgs({ 'node-cidr-mask-size': String(mask) }) } }),
    etcd: { local: { dataDir: '/var/lib/etcd' } },
    ...(imageRepository === undefined ? {} : { imageRepository }),
    ...(needsLocalMode(version) ? { featureGates: { [LOCAL_MODE]: true } } : {}),
  };
}

/** kubeadm's gate for kubelets of control-plane nodes that speak to their own API server. */
export const LOCAL_MODE = 'ControlPlaneKubeletLocalMode';

/** Before 1.36 the first kubelet would otherwise register through an endpoint that nobody holds yet. */
export function needsLocalMode(version: string): boolean {
  return parseVersion(version).minor < 36;
}

/** Arguments of every API server of the cluster, as kubeadm keeps them. */
export function apiServerExtraArgs({ kubernetes }: NodeInput['profile']): { name: string; value: string }[] {
  return extraArgs({
    // Pods leave a dead node after one minute instead of five.
    'default-not-ready-toleration-seconds': '60',
    'default-unreachable-toleration-seconds': '60',
    ...checkApiServerArgs(kubernetes.apiServerArgs, kubernetes.kubernetesVersion),
  });
}

function initConfiguration(input: NodeInput) {
  return {
    apiVersion: API_VERSION,
    kind: 'InitConfiguration',
    bootstrapTokens: [
      {
        token: `${input.token.id}.${input.token.secret}`,
        ttl: INIT_TOKEN_TTL,
        usages: ['signing', 'authentication'],
        groups: [BOOTSTRAP_GROUP],
        description: 'first nodes of the cluster',
      },
    ],
    localAPIEndpoint: { advertiseAddress: NODE_IP_PLACEHOLDER, bindPort: apiServerPort(input) },
    nodeRegistration: nodeRegistration(input),
    timeouts: TIMEOUTS,
  };
}

function joinConfiguration(input: NodeInput) {
  return {
    apiVersion: API_VERSION,
    kind: 'JoinConfiguration',
    discovery: {
      bootstrapToken: {
        apiServerEndpoint: `${input.endpoint.host}:${input.endpoint.port}`,
        token: `${input.token.id}.${input.token.secret}`,
        caCertHashes: [input.caHash],
      },
    },
    ...(input.kind === 'join-control-plane'
      ? {
          controlPlane: {
            localAPIEndpoint: { advertiseAddress: NODE_IP_PLACEHOLDER, bindPort: apiServerPort(input) },
          },
        }
      : {}),
    nodeRegistration: nodeRegistration(input),
    timeouts: TIMEOUTS,
  };
}

function nodeRegistration(input: NodeInput) {
  const { node, profile } = input;
  // Users' labels are set through the API: a kubelet that is told a label which it may not set itself refuses
  // to start. The zone is one of the few well-known ones that it may.
  const labels: Record<string, string> = {
    [LABEL_CLUSTER]: input.cluster.id,
    [LABEL_POOL]: node.pool,
    ...(LABEL_VALUE.test(node.zone) ? { 'topology.kubernetes.io/zone': node.zone } : {}),
  };
  return {
    name: node.hostname,
    criSocket: CRI_SOCKET,
    taints: taintsOf(input),
    kubeletExtraArgs: extraArgs({
      'provider-id': providerId(node.zone, node.systemId),
      'node-ip': NODE_IP_PLACEHOLDER, // otherwise a kubelet may pick the endpoint's address on its interface
      'node-labels': Object.entries(labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(','),
      ...checkKubeletArgs(profile.kubernetes.kubeletArgs, profile.kubernetes.kubernetesVersion),
    }),
  };
}

/** Always a list: kubeadm takes a missing key for "the default taint", an empty list for "none". */
function taintsOf(input: NodeInput): NodeTaint[] {
  const pool = input.spec.pools.find((candidate) => candidate.name === input.node.pool);
  if (pool) return taintsOfPool(pool);
  return input.node.role === 'worker' ? [] : [CONTROL_PLANE_TAINT];
}

function kubeletConfiguration() {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    cgroupDriver: 'systemd',
    // The kubelet asks for its next client certificate by itself; kubeadm's RBAC lets the controllers approve it.
    rotateCertificates: true,
    // Its serving certificate is its own: the API server does not check it, and an approver would be needed.
    serverTLSBootstrap: false,
  };
}

function kubeProxyConfiguration() {
  return { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: '' };
}

function extraArgs(args: Record<string, string>): { name: string; value: string }[] {
  return Object.entries(args).map(([name, value]) => ({ name, value }));
}

/**
 * Prefix length of one node's pod range: /24 where the cluster's range has room for twice the nodes, smaller
 * ranges otherwise. Throws INVALID_INPUT when even the smallest does not fit.
 */
export function nodeCidrMask(podCidr: string, nodes: number): number {
  const prefix = Number(podCidr.split('/')[1]);
  if (NODE_MASK.usual - prefix > MAX_SPREAD_BITS)
    throw new PcgError('INVALID_INPUT', `pod network ${podCidr} is too large`, {
      field: 'spec.network.podCidr',
      fix: 'Choose a network of /8 or smaller.',
    });
  for (let mask = NODE_MASK.usual; mask <= NODE_MASK.smallest; mask += 1) {
    const wanted = mask === NODE_MASK.smallest ? nodes + 1 : nodes * 2; // one more for the surge of a rollout
    if (2 ** (mask - prefix) >= wanted) return mask;
  }
  throw new PcgError('INVALID_INPUT', `pod network ${podCidr} is too small for ${nodes} nodes`, {
    field: 'spec.network.podCidr',
    fix: 'Choose a larger network; every node takes at least 32 addresses.',
  });
}
