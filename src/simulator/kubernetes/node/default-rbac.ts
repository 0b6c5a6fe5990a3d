/** Roles, bindings and other objects that every API server creates at its first start. */
import type { KubeObject } from '../api/json.ts';
import type { ApiCore } from '../api/core.ts';
import { R } from '../api/resources.ts';

const RBAC = 'rbac.authorization.k8s.io';
const READ = ['get', 'list', 'watch'];
const WRITE = ['create', 'delete', 'deletecollection', 'patch', 'update'];
const BOOTSTRAPPING = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };

type Rule = Record<string, string[]>;
const rule = (groups: string[], resources: string[], verbs: string[]): Rule => ({
  apiGroups: groups,
  resources,
  verbs,
});
const paths = (urls: string[]): Rule => ({ nonResourceURLs: urls, verbs: ['get'] });

const WORKLOADS: Rule[] = [
  rule(
    [''],
    [
      'pods',
      'services',
      'configmaps',
      'endpoints',
      'persistentvolumeclaims',
      'replicationcontrollers',
      'serviceaccounts',
      'pods/log',
      'pods/status',
      'events',
      'namespaces',
      'resourcequotas',
      'limitranges',
      'bindings',
    ],
    READ,
  ),
  rule(['apps', 'batch', 'autoscaling', 'policy', 'networking.k8s.io', 'discovery.k8s.io'], ['*'], READ),
];
const CHANGES: Rule[] = [
  rule(
    [''],
    [
      'pods',
      'services',
      'configmaps',
      'secrets',
      'endpoints',
      'persistentvolumeclaims',
      'serviceaccounts',
      'events',
    ],
    WRITE,
  ),
  rule([''], ['secrets'], READ),
  rule(
    [''],
    ['pods/exec', 'pods/attach', 'pods/portforward', 'pods/proxy', 'services/proxy'],
    ['get', ...READ, ...WRITE],
  ),
  rule([''], ['pods/eviction', 'serviceaccounts/token'], ['create']),
  rule(['apps', 'batch', 'autoscaling', 'policy', 'networking.k8s.io'], ['*'], WRITE),
];

const CLUSTER_ROLES: Record<string, Rule[]> = {
  'cluster-admin': [rule(['*'], ['*'], ['*']), { nonResourceURLs: ['*'], verbs: ['*'] }],
  view: WORKLOADS,
  edit: [...WORKLOADS, ...CHANGES, rule([''], ['serviceaccounts'], ['impersonate'])],
  admin: [...WORKLOADS, ...CHANGES, rule([RBAC], ['roles', 'rolebindings'], [...READ, ...WRITE])],
  'system:discovery': [
    paths([
      '/api',
      '/api/*',
      '/apis',
      '/apis/*',
      '/healthz',
      '/livez',
      '/openapi',
      '/openapi/*',
      '/readyz',
      '/version',
      '/version/',
      '/',
    ]),
  ],
  'system:public-info-viewer': [paths(['/healthz', '/livez', '/readyz', '/version', '/version/'])],
  'system:basic-user': [
    rule(['authorization.k8s.io'], ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'], ['create']),
    rule(['authentication.k8s.io'], ['selfsubjectreviews'], ['create']),
  ],
  'system:node-bootstrapper': [
    rule(['certificates.k8s.io'], ['certificatesigningrequests'], ['create', ...READ]),
  ],
  'system:certificates.k8s.io:certificatesigningrequests:nodeclient': [
    rule(['certificates.k8s.io'], ['certificatesigningrequests/nodeclient'], ['create']),
  ],
  'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient': [
    rule(['certificates.k8s.io'], ['certificatesigningrequests/selfnodeclient'], ['create']),
  ],
  'system:kubelet-api-admin': [
    rule([''], ['nodes'], READ),
    rule([''], ['nodes'], ['proxy']),
    rule(
      [''],
      [
        'nodes/log',
        'nodes/metrics',
        'nodes/proxy',
        'nodes/stats',
        'nodes/healthz',
        'nodes/pods',
        'nodes/configz',
      ],
      ['*'],
    ),
  ],
  'system:node': [],
  'system:node-proxier': [
    rule([''], ['services', 'endpoints', 'nodes'], READ),
    rule(['discovery.k8s.io'], ['endpointslices'], READ),
    rule(['', 'events.k8s.io'], ['events'], ['create', 'patch', 'update']),
  ],
  'system:coredns': [
    rule([''], ['endpoints', 'services', 'pods', 'namespaces'], READ),
    rule(['discovery.k8s.io'], ['endpointslices'], READ),
  ],
  'system:kube-scheduler': [
    rule(['', 'apps', 'policy', 'storage.k8s.io'], ['*'], READ),
    rule(['coordination.k8s.io'], ['leases'], ['create', 'get', 'update', 'list', 'watch']),
  ],
  'system:kube-controller-manager': [
    rule(['*'], ['*'], READ),
    rule(['coordination.k8s.io'], ['leases'], ['create', 'get', 'update', 'list', 'watch']),
  ],
};

const CLUSTER_BINDINGS: [string, string, string, string][] = [
  ['cluster-admin', 'cluster-admin', 'Group', 'system:masters'],
  ['system:discovery', 'system:discovery', 'Group', 'system:authenticated'],
  ['system:basic-user', 'system:basic-user', 'Group', 'system:authenticated'],
  ['system:public-info-viewer', 'system:public-info-viewer', 'Group', 'system:unauthenticated'],
  ['system:kube-scheduler', 'system:kube-scheduler', 'User', 'system:kube-scheduler'],
  [
    'system:kube-controller-manager',
    'system:kube-controller-manager',
    'User',
    'system:kube-controller-manager',
  ],
  ['system:node-proxier', 'system:node-proxier', 'User', 'system:kube-proxy'],
];

export function clusterRole(name: string, rules: Rule[], labels: Record<string, string> = {}): KubeObject {
  return { apiVersion: `${RBAC}/v1`, kind: 'ClusterRole', metadata: { name, labels }, rules };
}

export function clusterRoleBinding(
  name: string,
  role: string,
  kind: string,
  subject: string,
  labels: Record<string, string> = {},
): KubeObject {
  return {
    apiVersion: `${RBAC}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name, labels },
    roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: role },
    subjects: [{ apiGroup: RBAC, kind, name: subject }],
  };
}

export function role(namespace: string, name: string, rules: Record<string, string[]>[]): KubeObject {
  return { apiVersion: `${RBAC}/v1`, kind: 'Role', metadata: { name, namespace }, rules };
}

export function roleBinding(namespace: string, name: string, subjects: [string, string][]): KubeObject {
  return {
    apiVersion: `${RBAC}/v1`,
    kind: 'RoleBinding',
    metadata: { name, namespace },
    roleRef: { apiGroup: RBAC, kind: 'Role', name },
    subjects: subjects.map(([kind, subject]) => ({ apiGroup: RBAC, kind, name: subject })),
  };
}

/** What the API server's post-start hooks create. */
export function createDefaults(core: ApiCore): void {
  for (const name of ['default', 'kube-system', 'kube-public', 'kube-node-lease'])
    core.ensure(R.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  for (const [name, rules] of Object.entries(CLUSTER_ROLES))
    core.ensure(R.clusterroles, clusterRole(name, rules, BOOTSTRAPPING));
  for (const [name, to, kind, subject] of CLUSTER_BINDINGS)
    core.ensure(R.clusterrolebindings, clusterRoleBinding(name, to, kind, subject, BOOTSTRAPPING));
  for (const [name, value] of [
    ['system-cluster-critical', 2_000_000_000],
    ['system-node-critical', 2_000_001_000],
  ] as const)
    core.ensure(R.priorityclasses, {
      apiVersion: 'scheduling.k8s.io/v1',
      kind: 'PriorityClass',
      metadata: { name },
      value,
      globalDefault: false,
    });
  core.ensure(R.services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'kubernetes',
      namespace: 'default',
      labels: { component: 'apiserver', provider: 'kubernetes' },
    },
    spec: {
      type: 'ClusterIP',
      clusterIP: core.kubernetesServiceIp,
      ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: 6443 }],
    },
  });
}
