/**
 * From an object's kind to its REST path. Kinds that every supported Kubernetes serves are a table (their
 * plurals never change), everything else is asked of the API server's discovery and remembered.
 */
import { PcgError } from '../base/errors.ts';
import type { KubeObject } from './client.ts';
import { asRecord } from './errors.ts';

export interface ResourceKind {
  /** `/api/v1` or `/apis/<group>/<version>` */
  readonly prefix: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

const CLUSTER_SCOPED: Record<string, Record<string, string>> = {
  v1: { Namespace: 'namespaces', Node: 'nodes', PersistentVolume: 'persistentvolumes' },
  'rbac.authorization.k8s.io/v1': { ClusterRole: 'clusterroles', ClusterRoleBinding: 'clusterrolebindings' },
  'apiextensions.k8s.io/v1': { CustomResourceDefinition: 'customresourcedefinitions' },
  'admissionregistration.k8s.io/v1': {
    MutatingWebhookConfiguration: 'mutatingwebhookconfigurations',
    ValidatingWebhookConfiguration: 'validatingwebhookconfigurations',
    ValidatingAdmissionPolicy: 'validatingadmissionpolicies',
    ValidatingAdmissionPolicyBinding: 'validatingadmissionpolicybindings',
  },
  'apiregistration.k8s.io/v1': { APIService: 'apiservices' },
  'scheduling.k8s.io/v1': { PriorityClass: 'priorityclasses' },
  'storage.k8s.io/v1': {
    StorageClass: 'storageclasses',
    CSIDriver: 'csidrivers',
    VolumeAttachment: 'volumeattachments',
  },
  'networking.k8s.io/v1': { IngressClass: 'ingressclasses' },
  'node.k8s.io/v1': { RuntimeClass: 'runtimeclasses' },
};

const NAMESPACED: Record<string, Record<string, string>> = {
  v1: {
    ConfigMap: 'configmaps',
    Endpoints: 'endpoints',
    LimitRange: 'limitranges',
    PersistentVolumeClaim: 'persistentvolumeclaims',
    Pod: 'pods',
    ReplicationController: 'replicationcontrollers',
    ResourceQuota: 'resourcequotas',
    Secret: 'secrets',
    Service: 'services',
    ServiceAccount: 'serviceaccounts',
  },
  'apps/v1': {
    DaemonSet: 'daemonsets',
    Deployment: 'deployments',
    ReplicaSet: 'replicasets',
    StatefulSet: 'statefulsets',
  },
  'batch/v1': { CronJob: 'cronjobs', Job: 'jobs' },
  'autoscaling/v2': { HorizontalPodAutoscaler: 'horizontalpodautoscalers' },
  'coordination.k8s.io/v1': { Lease: 'leases' },
  'networking.k8s.io/v1': { Ingress: 'ingresses', NetworkPolicy: 'networkpolicies' },
  'policy/v1': { PodDisruptionBudget: 'poddisruptionbudgets' },
  'rbac.authorization.k8s.io/v1': { Role: 'roles', RoleBinding: 'rolebindings' },
};

/** `/api/v1` for core, `/apis/<group>/<version>` otherwise. */
export function prefixOf(apiVersion: string): string {
  return apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
}

/** Undefined for kinds outside the table. */
export function builtinKind(apiVersion: string, kind: string): ResourceKind | undefined {
  const prefix = prefixOf(apiVersion);
  const wide = CLUSTER_SCOPED[apiVersion]?.[kind];
  if (wide !== undefined) return { prefix, plural: wide, namespaced: false };
  const plural = NAMESPACED[apiVersion]?.[kind];
  return plural === undefined ? undefined : { prefix, plural, namespaced: true };
}

/** Path of one object, or of its collection. A namespaced object without namespace goes to `default`. */
export function collectionPath(resource: ResourceKind, namespace: string | undefined): string {
  return resource.namespaced
    ? `${resource.prefix}/namespaces/${encodeURIComponent(namespace ?? 'default')}/${resource.plural}`
    : `${resource.prefix}/${resource.plural}`;
}

export function objectPath(resource: ResourceKind, object: KubeObject): string {
  return `${collectionPath(resource, object.metadata.namespace)}/${encodeURIComponent(object.metadata.name)}`;
}

/** Asks one group version's resource list; undefined when the group version does not exist (404). */
export type FetchResourceList = (path: string, signal: AbortSignal) => Promise<unknown>;

/** Remembers what discovery said; a kind that is not there yet is asked for again (its CRD may have come). */
export class Discovery {
  readonly #fetch: FetchResourceList;
  readonly #known = new Map<string, Map<string, ResourceKind>>();

  constructor(fetch: FetchResourceList) {
    this.#fetch = fetch;
  }

  /** Throws KUBE_REJECTED (retryable, details.reason `NoKindMatch`) when the server does not serve the kind. */
  async resolve(apiVersion: string, kind: string, signal: AbortSignal): Promise<ResourceKind> {
    const known = builtinKind(apiVersion, kind) ?? this.#known.get(apiVersion)?.get(kind);
    if (known !== undefined) return known;
    const prefix = prefixOf(apiVersion);
    const found = readResourceList(prefix, await this.#fetch(prefix, signal));
    this.#known.set(apiVersion, found);
    const resource = found.get(kind);
    if (resource !== undefined) return resource;
    throw new PcgError('KUBE_REJECTED', `no matches for kind ${kind} in ${apiVersion}`, {
      retryable: true,
      details: { reason: 'NoKindMatch', apiVersion, kind },
      fix: 'Apply the CustomResourceDefinition of this kind first, or correct apiVersion and kind.',
    });
  }
}

function readResourceList(prefix: string, body: unknown): Map<string, ResourceKind> {
  const found = new Map<string, ResourceKind>();
  const resources = asRecord(body)['resources'];
  if (!Array.isArray(resources)) return found;
  for (const entry of resources) {
    const { name, kind, namespaced } = asRecord(entry);
    if (typeof name !== 'string' || typeof kind !== 'string' || name.includes('/')) continue; // subresource
    found.set(kind, { prefix, plural: name, namespaced: namespaced === true });
  }
  return found;
}
