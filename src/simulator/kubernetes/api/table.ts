/** Tables as the server prints them for `kubectl get`: columns per kind, CRD printer columns, name and age else. */
import { AGE, type Column, count, NAME, printLabels, shortAge } from './column.ts';
import type { Json, KubeObject } from './json.ts';
import { MORE_COLUMNS } from './more-columns.ts';
import type { ResourceType } from './resources.ts';

const containersOf = (object: KubeObject): Json[] =>
  object.spec?.template?.spec?.containers ?? object.spec?.containers ?? [];
const CONTAINERS: Column[] = [
  {
    name: 'Containers',
    wide: true,
    cell: (object) =>
      containersOf(object)
        .map((item) => item.name)
        .join(','),
  },
  {
    name: 'Images',
    wide: true,
    cell: (object) =>
      containersOf(object)
        .map((item) => item.image)
        .join(','),
  },
];
const SELECTOR: Column = {
  name: 'Selector',
  wide: true,
  cell: (object) => printLabels(object.spec?.selector?.matchLabels ?? object.spec?.selector),
};
const condition = (object: KubeObject, type: string) =>
  (object.status?.conditions ?? []).find((item: Json) => item.type === type);

function nodeStatus(node: KubeObject): string {
  const status = condition(node, 'Ready')?.status;
  const word =
    status === 'True'
      ? 'Ready'
      : status === 'False'
        ? 'NotReady'
        : status === 'Unknown'
          ? 'NotReady'
          : 'Unknown';
  return node.spec?.unschedulable ? `${word},SchedulingDisabled` : word;
}

function nodeRoles(node: KubeObject): string {
  const roles = Object.keys(node.metadata.labels ?? {})
    .filter((key) => key.startsWith('node-role.kubernetes.io/'))
    .map((key) => key.slice('node-role.kubernetes.io/'.length));
  return roles.length > 0 ? roles.sort().join(',') : '<none>';
}

const address = (node: KubeObject, type: string) =>
  (node.status?.addresses ?? []).find((item: Json) => item.type === type)?.address ?? '<none>';

export function podStatus(pod: KubeObject): string {
  if (pod.metadata.deletionTimestamp) return 'Terminating';
  const statuses: Json[] = pod.status?.containerStatuses ?? [];
  for (const { state } of statuses) {
    if (state?.waiting?.reason) return state.waiting.reason;
    if (state?.terminated?.reason) return state.terminated.reason;
  }
  return pod.status?.reason ?? pod.status?.phase ?? 'Unknown';
}

const COLUMNS: Record<string, readonly Column[]> = {
  ...MORE_COLUMNS,
  Pod: [
    NAME,
    {
      name: 'Ready',
      cell: (pod) =>
        `${(pod.status?.containerStatuses ?? []).filter((item: Json) => item.ready).length}/${containersOf(pod).length}`,
    },
    { name: 'Status', cell: podStatus },
    {
      name: 'Restarts',
      cell: (pod) =>
        String(
          (pod.status?.containerStatuses ?? []).reduce(
            (sum: number, item: Json) => sum + (item.restartCount ?? 0),
            0,
          ),
        ),
    },
    AGE,
    { name: 'IP', wide: true, cell: (pod) => pod.status?.podIP ?? '<none>' },
    { name: 'Node', wide: true, cell: (pod) => pod.spec?.nodeName ?? '<none>' },
    { name: 'Nominated Node', wide: true, cell: () => '<none>' },
    { name: 'Readiness Gates', wide: true, cell: () => '<none>' },
  ],
  Node: [
    NAME,
    { name: 'Status', cell: nodeStatus },
    { name: 'Roles', cell: nodeRoles },
    AGE,
    { name: 'Version', cell: (node) => node.status?.nodeInfo?.kubeletVersion ?? '' },
    { name: 'Internal-IP', wide: true, cell: (node) => address(node, 'InternalIP') },
    { name: 'External-IP', wide: true, cell: (node) => address(node, 'ExternalIP') },
    { name: 'OS-Image', wide: true, cell: (node) => node.status?.nodeInfo?.osImage ?? '<unknown>' },
    {
      name: 'Kernel-Version',
      wide: true,
      cell: (node) => node.status?.nodeInfo?.kernelVersion ?? '<unknown>',
    },
    {
      name: 'Container-Runtime',
      wide: true,
      cell: (node) => node.status?.nodeInfo?.containerRuntimeVersion ?? '<unknown>',
    },
  ],
  Deployment: [
    NAME,
    { name: 'Ready', cell: (object) => `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}` },
    count('Up-to-date', (object) => object.status?.updatedReplicas),
    count('Available', (object) => object.status?.availableReplicas),
    AGE,
    ...CONTAINERS,
    SELECTOR,
  ],
  ReplicaSet: [
    NAME,
    count('Desired', (object) => object.spec?.replicas),
    count('Current', (object) => object.status?.replicas),
    count('Ready', (object) => object.status?.readyReplicas),
    AGE,
    ...CONTAINERS,
    SELECTOR,
  ],
  DaemonSet: [
    NAME,
    count('Desired', (object) => object.status?.desiredNumberScheduled),
    count('Current', (object) => object.status?.currentNumberScheduled),
    count('Ready', (object) => object.status?.numberReady),
    count('Up-to-date', (object) => object.status?.updatedNumberScheduled),
    count('Available', (object) => object.status?.numberAvailable),
    { name: 'Node Selector', cell: (object) => printLabels(object.spec?.template?.spec?.nodeSelector) },
    AGE,
    ...CONTAINERS,
    SELECTOR,
  ],
  StatefulSet: [
    NAME,
    { name: 'Ready', cell: (object) => `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}` },
    AGE,
    ...CONTAINERS,
  ],
  Job: [
    NAME,
    {
      name: 'Status',
      cell: (object) =>
        condition(object, 'Complete') ? 'Complete' : condition(object, 'Failed') ? 'Failed' : 'Running',
    },
    {
      name: 'Completions',
      cell: (object) => `${object.status?.succeeded ?? 0}/${object.spec?.completions ?? 1}`,
    },
    {
      name: 'Duration',
      cell: (object, now) =>
        object.status?.startTime
          ? shortAge(
              object.status.startTime,
              object.status.completionTime ? Date.parse(object.status.completionTime) : now,
            )
          : '',
    },
    AGE,
    ...CONTAINERS,
  ],
  Service: [
    NAME,
    { name: 'Type', cell: (object) => object.spec?.type },
    { name: 'Cluster-IP', cell: (object) => object.spec?.clusterIP ?? '<none>' },
    {
      name: 'External-IP',
      cell: (object) =>
        object.status?.loadBalancer?.ingress?.[0]?.ip ??
        (object.spec?.type === 'LoadBalancer' ? '<pending>' : '<none>'),
    },
    {
      name: 'Port(s)',
      cell: (object) =>
        (object.spec?.ports ?? [])
          .map((port: Json) => `${port.port}${port.nodePort ? `:${port.nodePort}` : ''}/${port.protocol}`)
          .join(',') || '<none>',
    },
    AGE,
    SELECTOR,
  ],
  Namespace: [NAME, { name: 'Status', cell: (object) => object.status?.phase }, AGE],
  ConfigMap: [
    NAME,
    count(
      'Data',
      (object) => Object.keys(object.data ?? {}).length + Object.keys(object.binaryData ?? {}).length,
    ),
    AGE,
  ],
  Secret: [
    NAME,
    { name: 'Type', cell: (object) => object.type },
    count('Data', (object) => Object.keys(object.data ?? {}).length),
    AGE,
  ],
  ServiceAccount: [NAME, count('Secrets', (object) => object.secrets?.length), AGE],
  Lease: [NAME, { name: 'Holder', cell: (object) => object.spec?.holderIdentity ?? '' }, AGE],
  PodDisruptionBudget: [
    NAME,
    { name: 'Min Available', cell: (object) => String(object.spec?.minAvailable ?? 'N/A') },
    { name: 'Max Unavailable', cell: (object) => String(object.spec?.maxUnavailable ?? 'N/A') },
    count('Allowed Disruptions', (object) => object.status?.disruptionsAllowed),
    AGE,
  ],
  CustomResourceDefinition: [
    NAME,
    { name: 'Created At', cell: (object) => object.metadata.creationTimestamp },
  ],
  CertificateSigningRequest: [
    NAME,
    AGE,
    { name: 'SignerName', cell: (object) => object.spec?.signerName },
    { name: 'Requestor', cell: (object) => object.spec?.username },
    {
      name: 'Condition',
      cell: (object) =>
        [
          ...(object.status?.conditions ?? []).map((item: Json) => item.type),
          ...(object.status?.certificate ? ['Issued'] : []),
        ].join(',') || 'Pending',
    },
  ],
  ClusterRoleBinding: [
    NAME,
    { name: 'Role', cell: (object) => `${object.roleRef?.kind}/${object.roleRef?.name}` },
    AGE,
  ],
  RoleBinding: [
    NAME,
    { name: 'Role', cell: (object) => `${object.roleRef?.kind}/${object.roleRef?.name}` },
    AGE,
  ],
  Event: [
    {
      name: 'Last Seen',
      cell: (object, now) => shortAge(object.lastTimestamp ?? object.metadata.creationTimestamp, now),
    },
    { name: 'Type', cell: (object) => object.type },
    { name: 'Reason', cell: (object) => object.reason },
    {
      name: 'Object',
      cell: (object) => `${String(object.involvedObject?.kind).toLowerCase()}/${object.involvedObject?.name}`,
    },
    { name: 'Message', cell: (object) => object.message },
  ],
};

/** `.spec.size`, `.status.conditions[?(@.type=="Ready")].status`: the part of JSONPath that printer columns use. */
function jsonPath(object: Json, path: string): Json {
  let at = object;
  for (const [, key, filterKey, filterValue, index] of path.matchAll(
    /\.?([\w$-]+)|\[\?\(@\.(\w+)\s*==\s*["']([^"']*)["']\)\]|\[(\d+)\]/g,
  )) {
    if (at === undefined || at === null) return undefined;
    if (key !== undefined) at = at[key];
    else if (index !== undefined) at = at[Number(index)];
    else
      at = Array.isArray(at) ? at.find((item) => String(item?.[filterKey ?? '']) === filterValue) : undefined;
  }
  return at;
}

function columnsOf(type: ResourceType): readonly Column[] {
  if (!type.custom?.additionalPrinterColumns)
    return (type.custom ? undefined : COLUMNS[type.kind]) ?? [NAME, AGE];
  const own = (type.custom.additionalPrinterColumns as Json[]).map(
    (column): Column => ({
      name: column.name,
      type: column.type,
      wide: (column.priority ?? 0) > 0,
      cell: (object, now) => {
        const value = jsonPath(object, column.jsonPath);
        return column.type === 'date' ? (value ? shortAge(value, now) : '<unknown>') : (value ?? '');
      },
    }),
  );
  return [NAME, ...own];
}

/** `include`: what of each object goes with its row: None, Metadata (default) or Object. */
export function toTable(
  type: ResourceType,
  items: readonly KubeObject[],
  metadata: Json,
  include: string | null,
  now: number,
): Json {
  const columns = columnsOf(type);
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: columns.map((column) => ({
      name: column.name,
      type: column.type ?? 'string',
      format: column.name === 'Name' ? 'name' : '',
      description: '',
      priority: column.wide ? 1 : 0,
    })),
    rows: items.map((object) => ({
      cells: columns.map((column) => column.cell(object, now)),
      ...(include === 'None'
        ? {}
        : {
            object:
              include === 'Object'
                ? object
                : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata },
          }),
    })),
  };
}
