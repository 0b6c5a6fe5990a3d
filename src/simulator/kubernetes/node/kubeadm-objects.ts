/** The objects that the late phases of `kubeadm init` create in a new cluster. */
import { createHmac } from 'node:crypto';
import { stringify } from 'yaml';
import { decode64 } from '../api/authenticate.ts';
import type { ApiCore } from '../api/core.ts';
import type { Json, KubeObject } from '../api/json.ts';
import { R } from '../api/resources.ts';
import { clusterRole, clusterRoleBinding, role, roleBinding } from './default-rbac.ts';
import { durationMs } from './kubeadm-config.ts';

const BOOTSTRAP_GROUP = 'system:bootstrappers:kubeadm:default-node-token';
const DEFAULT_TOKEN_TTL = '24h0m0s';

/** ConfigMaps kubeadm-config and kubelet-config with the roles that let nodes read them. */
export function uploadConfiguration(core: ApiCore, configuration: Json): void {
  const text = stringify({
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'ClusterConfiguration',
    ...configuration,
  });
  core.ensure(R.configmaps, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'kubeadm-config', namespace: 'kube-system' },
    data: { ClusterConfiguration: text },
  });
  core.ensure(R.configmaps, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'kubelet-config', namespace: 'kube-system' },
    data: {
      kubelet: stringify({
        apiVersion: 'kubelet.config.k8s.io/v1beta1',
        kind: 'KubeletConfiguration',
        cgroupDriver: 'systemd',
        clusterDNS: [dnsAddress(core)],
        clusterDomain: configuration.networking?.dnsDomain ?? 'cluster.local',
      }),
    },
  });
  const readers: [string, string][] = [
    ['Group', 'system:nodes'],
    ['Group', BOOTSTRAP_GROUP],
  ];
  for (const [name, map] of [
    ['kubeadm:nodes-kubeadm-config', 'kubeadm-config'],
    ['kubeadm:kubelet-config', 'kubelet-config'],
  ] as const) {
    core.ensure(
      R.roles,
      role('kube-system', name, [
        { verbs: ['get'], apiGroups: [''], resources: ['configmaps'], resourceNames: [map] },
      ]),
    );
    core.ensure(R.rolebindings, roleBinding('kube-system', name, readers));
  }
}

/** Bindings for people and for the API server's kubelet client (the latter since the patch releases of 2026-05). */
export function createAdminBindings(core: ApiCore): void {
  core.ensure(
    R.clusterrolebindings,
    clusterRoleBinding('kubeadm:cluster-admins', 'cluster-admin', 'Group', 'kubeadm:cluster-admins'),
  );
  core.ensure(
    R.clusterrolebindings,
    clusterRoleBinding(
      'kubeadm:apiserver-kubelet-client',
      'system:kubelet-api-admin',
      'User',
      'kube-apiserver-kubelet-client',
    ),
  );
}

/** Tokens, cluster-info and everything that lets machines join. */
export function createJoinObjects(core: ApiCore, tokens: Json[], endpoint: string, caPem: string): void {
  for (const token of tokens) core.ensure(R.secrets, tokenSecret(core, token));
  const kubeconfig = stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: '',
        cluster: {
          server: `https://${endpoint}`,
          'certificate-authority-data': Buffer.from(caPem).toString('base64'),
        },
      },
    ],
    contexts: null,
    'current-context': '',
    preferences: {},
    users: null,
  });
  core.ensure(R.configmaps, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'cluster-info', namespace: 'kube-public' },
    data: { kubeconfig },
  });
  core.ensure(
    R.roles,
    role('kube-public', 'kubeadm:bootstrap-signer-clusterinfo', [
      { verbs: ['get'], apiGroups: [''], resources: ['configmaps'], resourceNames: ['cluster-info'] },
    ]),
  );
  core.ensure(
    R.rolebindings,
    roleBinding('kube-public', 'kubeadm:bootstrap-signer-clusterinfo', [['User', 'system:anonymous']]),
  );
  const bind = (name: string, to: string, group: string) =>
    core.ensure(R.clusterrolebindings, clusterRoleBinding(name, to, 'Group', group));
  bind('kubeadm:kubelet-bootstrap', 'system:node-bootstrapper', BOOTSTRAP_GROUP);
  bind(
    'kubeadm:node-autoapprove-bootstrap',
    'system:certificates.k8s.io:certificatesigningrequests:nodeclient',
    BOOTSTRAP_GROUP,
  );
  bind(
    'kubeadm:node-autoapprove-certificate-rotation',
    'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient',
    'system:nodes',
  );
  core.ensure(
    R.clusterroles,
    clusterRole('kubeadm:get-nodes', [{ verbs: ['get'], apiGroups: [''], resources: ['nodes'] }]),
  );
  bind('kubeadm:get-nodes', 'kubeadm:get-nodes', BOOTSTRAP_GROUP);
  signClusterInfo(core);
}

function tokenSecret(core: ApiCore, token: Json): KubeObject {
  const [id = '', secret = ''] = String(token.token).split('.');
  const ttl = durationMs(String(token.ttl ?? DEFAULT_TOKEN_TTL));
  const usages: string[] = token.usages ?? ['signing', 'authentication'];
  const data: Record<string, string> = {
    'token-id': id,
    'token-secret': secret,
    'auth-extra-groups': (token.groups ?? [BOOTSTRAP_GROUP]).join(','),
    ...(token.description ? { description: token.description } : {}),
    // A TTL of zero never expires.
    ...(ttl > 0
      ? { expiration: new Date(core.clock.now() + ttl).toISOString().replace(/\.\d+Z$/, 'Z') }
      : {}),
    ...Object.fromEntries(usages.map((usage) => [`usage-bootstrap-${usage}`, 'true'])),
  };
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'bootstrap.kubernetes.io/token',
    metadata: { name: `bootstrap-token-${id}`, namespace: 'kube-system' },
    data: Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    ),
  };
}

/** The bootstrap signer: one detached signature per signing token in cluster-info, none for others. */
export function signClusterInfo(core: ApiCore): void {
  const map = core.store.get(R.configmaps, 'kube-public', 'cluster-info');
  const text = map?.data?.kubeconfig;
  if (!map || typeof text !== 'string') return;
  const wanted: Record<string, string> = { kubeconfig: text };
  for (const secret of core.store.values(R.secrets)) {
    if (
      secret.type !== 'bootstrap.kubernetes.io/token' ||
      secret.metadata.namespace !== 'kube-system' ||
      secret.metadata.deletionTimestamp
    )
      continue;
    const data = secret.data ?? {};
    if (decode64(data['usage-bootstrap-signing']) !== 'true') continue;
    if (data.expiration && !(Date.parse(decode64(data.expiration)) > core.clock.now())) continue;
    const id = decode64(data['token-id']);
    wanted[`jws-kubeconfig-${id}`] = detachedSignature(text, id, decode64(data['token-secret']));
  }
  if (JSON.stringify(wanted) === JSON.stringify(map.data)) return;
  core.edit(R.configmaps, map.metadata, (draft) => {
    draft.data = wanted;
  });
}

/** JWS with a detached payload, HS256 by the token's secret. */
export function detachedSignature(payload: string, id: string, secret: string): string {
  const header = Buffer.from(JSON.stringify({ alg: 'HS256', kid: id })).toString('base64url');
  const signature = createHmac('sha256', secret)
    .update(`${header}.${Buffer.from(payload).toString('base64url')}`)
    .digest('base64url');
  return `${header}..${signature}`;
}

/** What kubeadm of a minor has compiled in. */
function coreDnsOf(version: string): string {
  const minor = Number(version.split('.')[1]);
  return minor <= 35 ? 'v1.13.1' : minor === 36 ? 'v1.14.2' : 'v1.14.3';
}

const dnsAddress = (core: ApiCore) => core.kubernetesServiceIp.replace(/\d+$/, '10');

/** CoreDNS and kube-proxy, as kubeadm's addon phases write them. */
export function createAddons(core: ApiCore, configuration: Json): void {
  const repository: string = configuration.imageRepository ?? 'registry.k8s.io';
  const version: string = configuration.kubernetesVersion;
  const account = (name: string) =>
    core.ensure(R.serviceaccounts, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name, namespace: 'kube-system' },
    });
  if (configuration.proxy?.disabled !== true) {
    account('kube-proxy');
    core.ensure(R.configmaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'kube-proxy', namespace: 'kube-system', labels: { app: 'kube-proxy' } },
      data: { 'config.conf': 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n' },
    });
    core.ensure(
      R.roles,
      role('kube-system', 'kube-proxy', [
        { verbs: ['get'], apiGroups: [''], resources: ['configmaps'], resourceNames: ['kube-proxy'] },
      ]),
    );
    core.ensure(R.rolebindings, roleBinding('kube-system', 'kube-proxy', [['Group', BOOTSTRAP_GROUP]]));
    core.ensure(R.clusterrolebindings, {
      ...clusterRoleBinding('kubeadm:node-proxier', 'system:node-proxier', 'ServiceAccount', 'kube-proxy'),
      subjects: [{ kind: 'ServiceAccount', name: 'kube-proxy', namespace: 'kube-system' }],
    });
    core.ensure(R.daemonsets, {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: 'kube-proxy', namespace: 'kube-system', labels: { 'k8s-app': 'kube-proxy' } },
      spec: {
        selector: { matchLabels: { 'k8s-app': 'kube-proxy' } },
        template: {
          metadata: { labels: { 'k8s-app': 'kube-proxy' } },
          spec: {
            hostNetwork: true,
            priorityClassName: 'system-node-critical',
            serviceAccountName: 'kube-proxy',
            nodeSelector: { 'kubernetes.io/os': 'linux' },
            tolerations: [{ operator: 'Exists' }],
            containers: [
              {
                name: 'kube-proxy',
                image: `${repository}/kube-proxy:${version}`,
                command: [
                  '/usr/local/bin/kube-proxy',
                  '--config=/var/lib/kube-proxy/config.conf',
                  '--hostname-override=$(NODE_NAME)',
                ],
              },
            ],
          },
        },
      },
    });
  }
  if (configuration.dns?.disabled === true) return;
  account('coredns');
  core.ensure(R.configmaps, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'coredns', namespace: 'kube-system' },
    data: {
      Corefile:
        '.:53 {\n    errors\n    health\n    ready\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    forward . /etc/resolv.conf\n    cache 30\n}\n',
    },
  });
  core.ensure(R.clusterrolebindings, {
    ...clusterRoleBinding('system:coredns', 'system:coredns', 'ServiceAccount', 'coredns'),
    subjects: [{ kind: 'ServiceAccount', name: 'coredns', namespace: 'kube-system' }],
  });
  core.ensure(R.services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'kube-dns',
      namespace: 'kube-system',
      labels: { 'k8s-app': 'kube-dns', 'kubernetes.io/name': 'CoreDNS' },
    },
    spec: {
      clusterIP: dnsAddress(core),
      selector: { 'k8s-app': 'kube-dns' },
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns-tcp', port: 53, protocol: 'TCP' },
        { name: 'metrics', port: 9153, protocol: 'TCP' },
      ],
    },
  });
  core.ensure(R.deployments, {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'coredns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
    spec: {
      replicas: 2,
      selector: { matchLabels: { 'k8s-app': 'kube-dns' } },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } },
      template: {
        metadata: { labels: { 'k8s-app': 'kube-dns' } },
        spec: {
          priorityClassName: 'system-cluster-critical',
          serviceAccountName: 'coredns',
          nodeSelector: { 'kubernetes.io/os': 'linux' },
          tolerations: [
            { key: 'CriticalAddonsOnly', operator: 'Exists' },
            { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' },
          ],
          containers: [
            {
              name: 'coredns',
              image: `${repository === 'registry.k8s.io' ? `${repository}/coredns` : repository}/coredns:${coreDnsOf(version)}`,
              args: ['-conf', '/etc/coredns/Corefile'],
            },
          ],
        },
      },
    },
  });
}
