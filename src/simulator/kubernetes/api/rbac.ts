/**
 * Who may do what: RBAC over the stored roles and bindings, with the built-in shortcut for system:masters
 * and the node authorizer for kubelets. Reads the store at every decision, so a new binding works at once.
 */
import type { Json, KubeObject } from './json.ts';
import type { RequestInfo, UserInfo } from './request.ts';
import { R } from './resources.ts';
import { ApiError } from './status.ts';
import type { ObjectStore } from './store.ts';

export interface Attributes {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  /** Set for paths that are no resources, such as /readyz. */
  readonly path?: string;
}

export function attributesOf(info: RequestInfo): Attributes {
  const { target, verb } = info;
  if (!target)
    return { verb, group: '', resource: '', subresource: '', namespace: '', name: '', path: info.path };
  const named =
    target.name ?? /(?:^|,)metadata\.name=([^,]+)/.exec(info.query.get('fieldSelector') ?? '')?.[1] ?? '';
  return {
    verb,
    group: target.group,
    resource: target.plural,
    subresource: target.subresource ?? '',
    // The namespace itself counts as inside of it, as in Kubernetes.
    namespace: target.namespace ?? (target.group === '' && target.plural === 'namespaces' ? named : ''),
    name: named,
  };
}

export function ruleAllows(rule: Json, at: Attributes): boolean {
  const has = (list: string[] | undefined, wanted: string) =>
    list?.some((item) => item === '*' || item === wanted) === true;
  if (!has(rule.verbs, at.verb)) return false;
  if (at.path !== undefined) {
    const path = at.path;
    return (rule.nonResourceURLs ?? []).some((pattern: string) =>
      pattern.endsWith('*') ? path.startsWith(pattern.slice(0, -1)) : pattern === path,
    );
  }
  if (!has(rule.apiGroups, at.group)) return false;
  const resource = at.subresource ? `${at.resource}/${at.subresource}` : at.resource;
  const fits = rule.resources?.some(
    (item: string) =>
      item === '*' || item === resource || (at.subresource !== '' && item === `*/${at.subresource}`),
  );
  if (!fits) return false;
  return !rule.resourceNames?.length || rule.resourceNames.includes(at.name);
}

function subjectMatches(subject: Json, user: UserInfo): boolean {
  if (subject.kind === 'User') return subject.name === user.name;
  if (subject.kind === 'Group') return user.groups.includes(subject.name);
  return (
    subject.kind === 'ServiceAccount' &&
    user.name === `system:serviceaccount:${subject.namespace}:${subject.name}`
  );
}

function rulesOf(store: ObjectStore, binding: KubeObject): Json[] {
  const { kind, name } = binding.roleRef ?? {};
  const role =
    kind === 'ClusterRole'
      ? store.get(R.clusterroles, undefined, name)
      : store.get(R.roles, binding.metadata.namespace, name);
  return role?.rules ?? [];
}

/** All rules that apply to the user in the namespace ('' = cluster-wide only). */
export function rulesFor(store: ObjectStore, user: UserInfo, namespace: string): Json[] {
  const found: Json[] = [];
  const collect = (binding: KubeObject) => {
    if ((binding.subjects ?? []).some((subject: Json) => subjectMatches(subject, user)))
      found.push(...rulesOf(store, binding));
  };
  for (const binding of store.values(R.clusterrolebindings)) collect(binding);
  if (namespace !== '')
    for (const binding of store.values(R.rolebindings))
      if (binding.metadata.namespace === namespace) collect(binding);
  return found;
}

export function isAllowed(store: ObjectStore, user: UserInfo, at: Attributes): boolean {
  if (user.groups.includes('system:masters')) return true;
  if (user.groups.includes('system:nodes') && nodeMay(store, user, at)) return true;
  return rulesFor(store, user, at.namespace).some((rule) => ruleAllows(rule, at));
}

/** The node authorizer: a kubelet touches its own Node, its own Lease and pods bound to it. */
function nodeMay(store: ObjectStore, user: UserInfo, at: Attributes): boolean {
  if (!user.name.startsWith('system:node:')) return false;
  const self = user.name.slice('system:node:'.length);
  const reading = ['get', 'list', 'watch'].includes(at.verb);
  if (at.path !== undefined) return false;
  switch (`${at.group}/${at.resource}`) {
    case '/nodes':
      if (at.verb === 'create') return true;
      return reading
        ? at.name === self || at.name === ''
        : at.name === self && ['update', 'patch'].includes(at.verb);
    case 'coordination.k8s.io/leases':
      return at.namespace === 'kube-node-lease' && (at.name === self || at.verb === 'create');
    case '/pods': {
      if (reading || at.verb === 'create') return true;
      const pod = store.get(R.pods, at.namespace, at.name);
      return pod === undefined || pod.spec?.nodeName === self;
    }
    case '/events':
    case 'events.k8s.io/events':
      return ['create', 'patch', 'update'].includes(at.verb);
    case '/services':
    case 'storage.k8s.io/csidrivers':
    case 'node.k8s.io/runtimeclasses':
      return reading;
    case 'storage.k8s.io/csinodes':
      return at.name === self || at.verb === 'create';
    case '/configmaps':
    case '/secrets':
      return reading && usedByPodsOf(store, self, at);
    case '/serviceaccounts':
      return at.verb === 'create' && at.subresource === 'token';
    case 'certificates.k8s.io/certificatesigningrequests':
      return at.verb === 'create' || at.verb === 'get';
    default:
      return false;
  }
}

function usedByPodsOf(store: ObjectStore, node: string, at: Attributes): boolean {
  const needle = `"${at.name}"`;
  for (const pod of store.values(R.pods))
    if (
      pod.spec?.nodeName === node &&
      pod.metadata.namespace === at.namespace &&
      JSON.stringify(pod.spec).includes(needle)
    )
      return true;
  return false;
}

export function forbidden(user: UserInfo, at: Attributes): ApiError {
  if (at.path !== undefined)
    return new ApiError(
      403,
      'Forbidden',
      `forbidden: User "${user.name}" cannot ${at.verb} path "${at.path}"`,
      {},
    );
  const resource = at.subresource ? `${at.resource}/${at.subresource}` : at.resource;
  const named = at.name ? ` "${at.name}"` : '';
  const scope = at.namespace ? ` in the namespace "${at.namespace}"` : ' at the cluster scope';
  const message = `${at.resource}${at.group ? `.${at.group}` : ''}${named} is forbidden: User "${user.name}" cannot ${at.verb} resource "${resource}" in API group "${at.group}"${scope}`;
  return new ApiError(403, 'Forbidden', message, {
    ...(at.name ? { name: at.name } : {}),
    ...(at.group ? { group: at.group } : {}),
    kind: at.resource,
  });
}
