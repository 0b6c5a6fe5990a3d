/**
 * The resources that the API server serves: built-in ones from a table, custom ones from their
 * CustomResourceDefinition. Discovery, routing and storage all read this one registry.
 */
import type { Json, KubeObject } from './json.ts';
import type { ResourceKey } from './store.ts';

export interface ResourceType {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly string[];
  readonly verbs: readonly string[];
  /** Where the objects live; versions of one resource share it. */
  readonly storage: ResourceKey;
  /** The CustomResourceDefinition's version entry, for custom resources. */
  readonly custom?: Json;
}

const ALL_VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
/** Resources that only answer a POST and store nothing. */
const REVIEW_VERBS = ['create'];

/** group/version: plural Kind scope shortNames|- subresources|- categories|-   (scope N namespaced, C cluster, R review) */
const TABLE = `
v1
  bindings Binding NR - - -
  componentstatuses ComponentStatus C cs - -
  configmaps ConfigMap N cm - -
  endpoints Endpoints N ep - -
  events Event N ev - -
  limitranges LimitRange N limits - -
  namespaces Namespace C ns status,finalize -
  nodes Node C no status,proxy -
  persistentvolumeclaims PersistentVolumeClaim N pvc status -
  persistentvolumes PersistentVolume C pv status -
  pods Pod N po status,log,exec,attach,portforward,proxy,eviction,binding,ephemeralcontainers,resize all
  podtemplates PodTemplate N - - -
  replicationcontrollers ReplicationController N rc status,scale all
  resourcequotas ResourceQuota N quota status -
  secrets Secret N - - -
  serviceaccounts ServiceAccount N sa token -
  services Service N svc status,proxy all
apps/v1
  controllerrevisions ControllerRevision N - - -
  daemonsets DaemonSet N ds status all
  deployments Deployment N deploy status,scale all
  replicasets ReplicaSet N rs status,scale all
  statefulsets StatefulSet N sts status,scale all
batch/v1
  cronjobs CronJob N cj status all
  jobs Job N - status all
autoscaling/v2
  horizontalpodautoscalers HorizontalPodAutoscaler N hpa status all
autoscaling/v1
  horizontalpodautoscalers HorizontalPodAutoscaler N hpa status all
policy/v1
  poddisruptionbudgets PodDisruptionBudget N pdb status -
rbac.authorization.k8s.io/v1
  clusterrolebindings ClusterRoleBinding C - - -
  clusterroles ClusterRole C - - -
  rolebindings RoleBinding N - - -
  roles Role N - - -
coordination.k8s.io/v1
  leases Lease N - - -
storage.k8s.io/v1
  csidrivers CSIDriver C - - -
  csinodes CSINode C - - -
  csistoragecapacities CSIStorageCapacity N - - -
  storageclasses StorageClass C sc - -
  volumeattachments VolumeAttachment C - status -
networking.k8s.io/v1
  ingressclasses IngressClass C - - -
  ingresses Ingress N ing status -
  networkpolicies NetworkPolicy N netpol - -
discovery.k8s.io/v1
  endpointslices EndpointSlice N - - -
events.k8s.io/v1
  events Event N ev - -
apiextensions.k8s.io/v1
  customresourcedefinitions CustomResourceDefinition C crd,crds status api-extensions
apiregistration.k8s.io/v1
  apiservices APIService C - status api-extensions
admissionregistration.k8s.io/v1
  mutatingwebhookconfigurations MutatingWebhookConfiguration C - - api-extensions
  validatingwebhookconfigurations ValidatingWebhookConfiguration C - - api-extensions
  validatingadmissionpolicies ValidatingAdmissionPolicy C - status api-extensions
  validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding C - - api-extensions
certificates.k8s.io/v1
  certificatesigningrequests CertificateSigningRequest C csr status,approval -
scheduling.k8s.io/v1
  priorityclasses PriorityClass C pc - -
node.k8s.io/v1
  runtimeclasses RuntimeClass C - - -
flowcontrol.apiserver.k8s.io/v1
  flowschemas FlowSchema C - status -
  prioritylevelconfigurations PriorityLevelConfiguration C - status -
authentication.k8s.io/v1
  selfsubjectreviews SelfSubjectReview CR - - -
  tokenreviews TokenReview CR - - -
authorization.k8s.io/v1
  localsubjectaccessreviews LocalSubjectAccessReview NR - - -
  selfsubjectaccessreviews SelfSubjectAccessReview CR - - -
  selfsubjectrulesreviews SelfSubjectRulesReview CR - - -
  subjectaccessreviews SubjectAccessReview CR - - -
`;

const words = (text: string | undefined) => (!text || text === '-' ? [] : text.split(','));

function parseTable(): ResourceType[] {
  const found: ResourceType[] = [];
  let group = '';
  let version = 'v1';
  for (const line of TABLE.split('\n')) {
    if (line.trim() === '') continue;
    if (!line.startsWith(' ')) {
      [group = '', version = 'v1'] = line.includes('/') ? line.split('/') : ['', line];
      continue;
    }
    const [plural = '', kind = '', scope = '', short, sub, categories] = line.trim().split(' ');
    found.push({
      group,
      version,
      plural,
      kind,
      singular: kind.toLowerCase(),
      namespaced: scope.startsWith('N'),
      shortNames: words(short),
      subresources: words(sub),
      categories: words(categories),
      verbs: scope.endsWith('R') ? REVIEW_VERBS : ALL_VERBS,
      // Both groups show the same events.
      storage: group === 'events.k8s.io' ? '/events' : `${group}/${plural}`,
    });
  }
  return found;
}

const BUILT_IN = parseTable();

/** Storage key of a built-in resource, for controllers: `builtIn('apps', 'deployments')` style constants. */
export const R = {
  configmaps: '/configmaps',
  endpoints: '/endpoints',
  events: '/events',
  namespaces: '/namespaces',
  nodes: '/nodes',
  pods: '/pods',
  secrets: '/secrets',
  serviceaccounts: '/serviceaccounts',
  services: '/services',
  daemonsets: 'apps/daemonsets',
  deployments: 'apps/deployments',
  replicasets: 'apps/replicasets',
  statefulsets: 'apps/statefulsets',
  jobs: 'batch/jobs',
  cronjobs: 'batch/cronjobs',
  leases: 'coordination.k8s.io/leases',
  pdbs: 'policy/poddisruptionbudgets',
  clusterroles: 'rbac.authorization.k8s.io/clusterroles',
  clusterrolebindings: 'rbac.authorization.k8s.io/clusterrolebindings',
  roles: 'rbac.authorization.k8s.io/roles',
  rolebindings: 'rbac.authorization.k8s.io/rolebindings',
  csrs: 'certificates.k8s.io/certificatesigningrequests',
  crds: 'apiextensions.k8s.io/customresourcedefinitions',
  apiservices: 'apiregistration.k8s.io/apiservices',
  endpointslices: 'discovery.k8s.io/endpointslices',
  priorityclasses: 'scheduling.k8s.io/priorityclasses',
} as const;

export class ResourceRegistry {
  readonly #byPath = new Map<string, ResourceType>();
  readonly #custom = new Map<string, readonly ResourceType[]>();

  constructor() {
    for (const type of BUILT_IN) this.#byPath.set(`${type.group}/${type.version}/${type.plural}`, type);
  }

  find(group: string, version: string, plural: string): ResourceType | undefined {
    return this.#byPath.get(`${group}/${version}/${plural}`);
  }

  byKind(apiVersion: string, kind: string): ResourceType | undefined {
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    for (const type of this.#byPath.values())
      if (type.kind === kind && type.group === group && type.version === version) return type;
    return undefined;
  }

  byStorage(storage: ResourceKey): ResourceType | undefined {
    for (const type of this.#byPath.values()) if (type.storage === storage) return type;
    return undefined;
  }

  all(): ResourceType[] {
    return [...this.#byPath.values()];
  }

  /** Begins to serve what an established CustomResourceDefinition describes; again after each change of it. */
  serve(crd: KubeObject): void {
    this.withdraw(crd.metadata.name);
    const { group, names, scope, versions } = crd.spec;
    const types = (versions as Json[])
      .filter((entry) => entry.served)
      .map(
        (entry): ResourceType => ({
          group,
          version: entry.name,
          plural: names.plural,
          singular: names.singular ?? names.kind.toLowerCase(),
          kind: names.kind,
          namespaced: scope === 'Namespaced',
          shortNames: names.shortNames ?? [],
          categories: names.categories ?? [],
          subresources: Object.keys(entry.subresources ?? {}),
          verbs: ALL_VERBS,
          storage: `${group}/${names.plural}`,
          custom: entry,
        }),
      );
    for (const type of types) this.#byPath.set(`${type.group}/${type.version}/${type.plural}`, type);
    this.#custom.set(crd.metadata.name, types);
  }

  withdraw(crdName: string): void {
    for (const type of this.#custom.get(crdName) ?? [])
      this.#byPath.delete(`${type.group}/${type.version}/${type.plural}`);
    this.#custom.delete(crdName);
  }
}
