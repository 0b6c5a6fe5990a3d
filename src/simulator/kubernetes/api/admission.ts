/**
 * What happens to an object between decoding and storing: names, defaults and validation of the built-in
 * kinds that clusters are made of. Follows the real server where clients notice (messages, reasons, immutability).
 */
import { randomUUID } from 'node:crypto';
import { type Json, type KubeObject, sameJson } from './json.ts';
import { R, type ResourceType } from './resources.ts';
import { ApiError, type StatusCause, invalid } from './status.ts';
import type { ObjectStore } from './store.ts';

export interface AdmissionContext {
  readonly store: ObjectStore;
  readonly user: { readonly name: string; readonly groups: readonly string[]; readonly uid?: string };
  /** Hands out the next free cluster IP, or takes the wanted one. */
  readonly serviceIp: (wanted: string | undefined) => string;
}

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
const TOKEN_SECRET = 'bootstrap.kubernetes.io/token';

function checkMetadata(type: ResourceType, object: KubeObject, causes: StatusCause[]): void {
  const { name, labels, annotations, finalizers } = object.metadata;
  const say = (field: string, value: unknown, message: string) =>
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(value)}: ${message}`,
      field,
    });
  if (type.group === 'rbac.authorization.k8s.io') {
    if (name.includes('/') || name.includes('%') || name === '.' || name === '..')
      say('metadata.name', name, 'may not contain / or %');
  } else if (type.plural === 'namespaces' || (type.plural === 'services' && type.group === '')) {
    if (!LABEL.test(name) || name.length > 63)
      say(
        'metadata.name',
        name,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
      );
  } else if (!SUBDOMAIN.test(name) || name.length > 253)
    say(
      'metadata.name',
      name,
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
    );
  for (const [key, value] of Object.entries(labels ?? {})) {
    if (!QUALIFIED.test(key))
      say('metadata.labels', key, 'name part must consist of alphanumeric characters');
    if (typeof value !== 'string' || !LABEL_VALUE.test(value) || value.length > 63)
      say(
        'metadata.labels',
        value,
        'a valid label must be an empty string or consist of alphanumeric characters',
      );
  }
  let size = 0;
  for (const [key, value] of Object.entries(annotations ?? {})) {
    if (!QUALIFIED.test(key))
      say('metadata.annotations', key, 'name part must consist of alphanumeric characters');
    size += key.length + String(value).length;
  }
  if (size > 262_144)
    causes.push({
      reason: 'FieldValueTooLong',
      message: 'Too long: may not be more than 262144 bytes',
      field: 'metadata.annotations',
    });
  for (const finalizer of finalizers ?? [])
    if (
      type.group === '' &&
      !finalizer.includes('/') &&
      !['orphan', 'foregroundDeletion', 'kubernetes'].includes(finalizer)
    )
      say(
        'metadata.finalizers',
        finalizer,
        'name is neither a standard finalizer name nor is it fully qualified',
      );
}

function required(causes: StatusCause[], value: unknown, field: string): void {
  if (value === undefined || value === null || value === '')
    causes.push({ reason: 'FieldValueRequired', message: 'Required value', field });
}

function immutable(causes: StatusCause[], before: Json, after: Json, field: string): void {
  if (!sameJson(before, after))
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(after)}: field is immutable`,
      field,
    });
}

function defaultContainers(containers: Json[] | undefined): void {
  for (const container of containers ?? []) {
    container.imagePullPolicy ??= /:latest$|^[^:]+$/.test(container.image ?? '') ? 'Always' : 'IfNotPresent';
    container.terminationMessagePath ??= '/dev/termination-log';
    container.terminationMessagePolicy ??= 'File';
    container.resources ??= {};
    for (const port of container.ports ?? []) port.protocol ??= 'TCP';
    for (const env of container.env ?? [])
      if (env.valueFrom?.fieldRef) env.valueFrom.fieldRef.apiVersion ??= 'v1';
    for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
      const probe = container[name];
      if (!probe) continue;
      probe.timeoutSeconds ??= 1;
      probe.periodSeconds ??= 10;
      probe.successThreshold ??= 1;
      probe.failureThreshold ??= 3;
      if (probe.httpGet) probe.httpGet.scheme ??= 'HTTP';
    }
  }
}

function defaultPodSpec(spec: Json): void {
  defaultContainers(spec.containers);
  defaultContainers(spec.initContainers);
  spec.restartPolicy ??= 'Always';
  spec.terminationGracePeriodSeconds ??= 30;
  spec.dnsPolicy ??= 'ClusterFirst';
  spec.securityContext ??= {};
  spec.schedulerName ??= 'default-scheduler';
  if (spec.serviceAccountName) spec.serviceAccount ??= spec.serviceAccountName;
  else if (spec.serviceAccount) spec.serviceAccountName = spec.serviceAccount;
  for (const volume of spec.volumes ?? []) {
    if (volume.hostPath) volume.hostPath.type ??= '';
    if (volume.configMap) volume.configMap.defaultMode ??= 420;
    if (volume.secret) volume.secret.defaultMode ??= 420;
    if (Object.keys(volume).length === 1) volume.emptyDir = {};
  }
}

function checkPodSpec(spec: Json, at: string, causes: StatusCause[]): void {
  if (!Array.isArray(spec?.containers) || spec.containers.length === 0) {
    required(causes, undefined, `${at}.containers`);
    return;
  }
  const names = new Set<string>();
  const volumes = new Set((spec.volumes ?? []).map((volume: Json) => volume.name));
  for (const list of ['containers', 'initContainers']) {
    (spec[list] ?? []).forEach((container: Json, index: number) => {
      const here = `${at}.${list}[${index}]`;
      required(causes, container.name, `${here}.name`);
      required(causes, container.image, `${here}.image`);
      if (names.has(container.name))
        causes.push({
          reason: 'FieldValueDuplicate',
          message: `Duplicate value: "${container.name}"`,
          field: `${here}.name`,
        });
      names.add(container.name);
      (container.volumeMounts ?? []).forEach((mount: Json, mountIndex: number) => {
        required(causes, mount.mountPath, `${here}.volumeMounts[${mountIndex}].mountPath`);
        if (!volumes.has(mount.name) && !String(mount.name).startsWith('kube-api-access'))
          causes.push({
            reason: 'FieldValueNotFound',
            message: `Not found: "${mount.name}"`,
            field: `${here}.volumeMounts[${mountIndex}].name`,
          });
      });
    });
  }
}

function admitWorkload(object: KubeObject, before: KubeObject | undefined, causes: StatusCause[]): void {
  const { spec } = object;
  if (!spec) return required(causes, undefined, 'spec');
  required(causes, spec.template, 'spec.template');
  if (spec.template?.spec) defaultPodSpec(spec.template.spec);
  checkPodSpec(spec.template?.spec, 'spec.template.spec', causes);
  if (object.kind === 'Job') {
    if (!['OnFailure', 'Never'].includes(spec.template?.spec?.restartPolicy))
      causes.push({
        reason: 'FieldValueNotSupported',
        message: `Unsupported value: "${spec.template?.spec?.restartPolicy}": supported values: "OnFailure", "Never"`,
        field: 'spec.template.spec.restartPolicy',
      });
    spec.parallelism ??= 1;
    if (spec.completions === undefined && spec.parallelism === 1) spec.completions = 1;
    if (!before) labelJob(object);
    spec.backoffLimit ??= 6;
    spec.completionMode ??= 'NonIndexed';
    spec.suspend ??= false;
    if (before) immutable(causes, before.spec.template, spec.template, 'spec.template');
    return;
  }
  required(causes, spec.selector, 'spec.selector');
  const labels = spec.template?.metadata?.labels;
  for (const [key, value] of Object.entries(spec.selector?.matchLabels ?? {}))
    if (labels?.[key] !== value) {
      causes.push({
        reason: 'FieldValueInvalid',
        message: `Invalid value: ${JSON.stringify(labels ?? null)}: \`selector\` does not match template \`labels\``,
        field: 'spec.template.metadata.labels',
      });
      break;
    }
  if (before) immutable(causes, before.spec.selector, spec.selector, 'spec.selector');
  spec.revisionHistoryLimit ??= 10;
  if (object.kind === 'DaemonSet') {
    spec.updateStrategy ??= { type: 'RollingUpdate' };
    if (spec.updateStrategy.type === 'RollingUpdate')
      spec.updateStrategy.rollingUpdate = {
        maxSurge: 0,
        maxUnavailable: 1,
        ...spec.updateStrategy.rollingUpdate,
      };
    return;
  }
  spec.replicas ??= 1;
  if (object.kind === 'Deployment') {
    spec.strategy ??= { type: 'RollingUpdate' };
    spec.strategy.type ??= 'RollingUpdate';
    if (spec.strategy.type === 'RollingUpdate')
      spec.strategy.rollingUpdate = {
        maxSurge: '25%',
        maxUnavailable: '25%',
        ...spec.strategy.rollingUpdate,
      };
    spec.progressDeadlineSeconds ??= 600;
  }
  if (object.kind === 'StatefulSet') {
    spec.podManagementPolicy ??= 'OrderedReady';
    spec.updateStrategy ??= { type: 'RollingUpdate', rollingUpdate: { partition: 0 } };
  }
}

/** A Job selects its pods by its own uid, which is therefore decided here. */
function labelJob(job: KubeObject): void {
  const uid = (job.metadata.uid ??= randomUUID());
  const { spec } = job;
  if (spec.manualSelector) return;
  spec.selector = { matchLabels: { 'batch.kubernetes.io/controller-uid': uid } };
  const { name } = job.metadata;
  const labels = {
    'batch.kubernetes.io/controller-uid': uid,
    'batch.kubernetes.io/job-name': name,
    'controller-uid': uid,
    'job-name': name,
  };
  spec.template.metadata = {
    ...spec.template.metadata,
    labels: { ...spec.template.metadata?.labels, ...labels },
  };
}

function admitPod(
  object: KubeObject,
  before: KubeObject | undefined,
  context: AdmissionContext,
  causes: StatusCause[],
): void {
  const { spec } = object;
  if (!spec) return required(causes, undefined, 'spec');
  if (before) {
    for (const field of ['nodeName', 'hostNetwork', 'serviceAccountName', 'restartPolicy', 'volumes'])
      if (before.spec[field] !== undefined && !sameJson(before.spec[field], spec[field]))
        causes.push({
          reason: 'FieldValueForbidden',
          message:
            'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
          field: 'spec',
        });
    return;
  }
  defaultPodSpec(spec);
  checkPodSpec(spec, 'spec', causes);
  const mirror = object.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
  if (!mirror) {
    spec.serviceAccountName ??= 'default';
    spec.serviceAccount = spec.serviceAccountName;
    if (!context.store.get(R.serviceaccounts, object.metadata.namespace, spec.serviceAccountName))
      throw new ApiError(
        403,
        'Forbidden',
        `pods "${object.metadata.name}" is forbidden: error looking up service account ${object.metadata.namespace}/${spec.serviceAccountName}: serviceaccount "${spec.serviceAccountName}" not found`,
        { name: object.metadata.name, kind: 'pods' },
      );
  }
  if (spec.priorityClassName) {
    const priority = context.store.get(R.priorityclasses, undefined, spec.priorityClassName);
    if (!priority)
      throw new ApiError(
        403,
        'Forbidden',
        `pods "${object.metadata.name}" is forbidden: no PriorityClass with name ${spec.priorityClassName} was found`,
        { name: object.metadata.name, kind: 'pods' },
      );
    spec.priority = priority.value;
  } else spec.priority ??= 0;
  spec.preemptionPolicy ??= 'PreemptLowerPriority';
  spec.enableServiceLinks ??= true;
  // DefaultTolerationSeconds admission.
  const tolerations: Json[] = (spec.tolerations ??= []);
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'])
    if (
      !mirror &&
      !tolerations.some(
        (item) => (item.key === key || !item.key) && (!item.effect || item.effect === 'NoExecute'),
      )
    )
      tolerations.push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 });
  object.status = { phase: 'Pending', qosClass: 'BestEffort' };
}

function admitService(
  object: KubeObject,
  before: KubeObject | undefined,
  context: AdmissionContext,
  causes: StatusCause[],
): void {
  const spec = (object.spec ??= {});
  spec.type ??= 'ClusterIP';
  spec.sessionAffinity ??= 'None';
  if (spec.type !== 'ExternalName') {
    if (!spec.clusterIP) spec.clusterIP = before?.spec.clusterIP ?? context.serviceIp(undefined);
    else if (!before && spec.clusterIP !== 'None') spec.clusterIP = context.serviceIp(spec.clusterIP);
    spec.clusterIPs ??= [spec.clusterIP];
    spec.ipFamilies ??= ['IPv4'];
    spec.ipFamilyPolicy ??= 'SingleStack';
    spec.internalTrafficPolicy ??= 'Cluster';
    if (before?.spec.clusterIP) immutable(causes, before.spec.clusterIP, spec.clusterIP, 'spec.clusterIP');
  }
  (spec.ports ?? []).forEach((port: Json, index: number) => {
    required(causes, port.port, `spec.ports[${index}].port`);
    port.protocol ??= 'TCP';
    port.targetPort ??= port.port;
    if (['NodePort', 'LoadBalancer'].includes(spec.type))
      port.nodePort ??= 30_000 + ((port.port * 7 + index) % 2768);
    if (spec.ports.length > 1) required(causes, port.name, `spec.ports[${index}].name`);
  });
  object.status ??= { loadBalancer: {} };
}

function admitNode(
  object: KubeObject,
  before: KubeObject | undefined,
  context: AdmissionContext,
  causes: StatusCause[],
): void {
  const spec = (object.spec ??= {});
  if (before?.spec?.providerID && before.spec.providerID !== spec.providerID)
    causes.push({
      reason: 'FieldValueForbidden',
      message: 'Forbidden: node updates may not change providerID except from "" to valid',
      field: 'spec.providerID',
    });
  if (!before) {
    // TaintNodesByCondition: a new node takes no pods until it is known to be ready.
    const taints: Json[] = (spec.taints ??= []);
    if (!taints.some((taint) => taint.key === 'node.kubernetes.io/not-ready'))
      taints.push({ key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' });
  }
  if (context.user.groups.includes('system:nodes')) {
    // NodeRestriction: a kubelet gives itself no labels of these prefixes.
    for (const key of Object.keys(object.metadata.labels ?? {}))
      if (
        before?.metadata.labels?.[key] === undefined &&
        (key.startsWith('node-role.kubernetes.io/') || key.startsWith('node-restriction.kubernetes.io/'))
      )
        throw new ApiError(
          403,
          'Forbidden',
          `nodes "${object.metadata.name}" is forbidden: is not allowed to modify labels: ${key}`,
          { name: object.metadata.name, kind: 'nodes' },
        );
    if (object.metadata.name !== context.user.name.slice('system:node:'.length))
      throw new ApiError(
        403,
        'Forbidden',
        `nodes "${object.metadata.name}" is forbidden: node "${context.user.name.slice('system:node:'.length)}" is not allowed to modify node "${object.metadata.name}"`,
        { name: object.metadata.name, kind: 'nodes' },
      );
  }
}

function admitSecret(object: KubeObject, before: KubeObject | undefined, causes: StatusCause[]): void {
  object.type ??= before?.type ?? 'Opaque';
  if (object.stringData) {
    object.data = { ...object.data };
    for (const [key, value] of Object.entries(object.stringData))
      object.data[key] = Buffer.from(String(value)).toString('base64');
    delete object.stringData;
  }
  let size = 0;
  for (const [key, value] of Object.entries(object.data ?? {})) {
    size += String(value).length;
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value.replaceAll('\n', '')))
      throw new ApiError(
        400,
        'BadRequest',
        `Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0 (key ${key})`,
      );
  }
  if (size > 1_398_101)
    causes.push({
      reason: 'FieldValueTooLong',
      message: 'Too long: may not be more than 1048576 bytes',
      field: 'data',
    });
  if (before) immutable(causes, before.type, object.type, 'type');
  if (
    object.type === TOKEN_SECRET &&
    object.metadata.name !== `bootstrap-token-${decode(object.data?.['token-id'])}`
  )
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: "${object.metadata.name}": should be of the form bootstrap-token-<token id>`,
      field: 'metadata.name',
    });
}

const decode = (text: string | undefined) => Buffer.from(text ?? '', 'base64').toString();

function admitCrd(object: KubeObject, causes: StatusCause[]): void {
  const spec = object.spec ?? {};
  for (const field of ['group', 'scope']) required(causes, spec[field], `spec.${field}`);
  required(causes, spec.names?.plural, 'spec.names.plural');
  required(causes, spec.names?.kind, 'spec.names.kind');
  if (object.metadata.name !== `${spec.names?.plural}.${spec.group}`)
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: "${object.metadata.name}": must be spec.names.plural+"."+spec.group`,
      field: 'metadata.name',
    });
  if (!Array.isArray(spec.versions) || spec.versions.length === 0)
    required(causes, undefined, 'spec.versions');
  else {
    if (spec.versions.filter((version: Json) => version.storage).length !== 1)
      causes.push({
        reason: 'FieldValueInvalid',
        message: 'Invalid value: must have exactly one version marked as storage version',
        field: 'spec.versions',
      });
    spec.versions.forEach((version: Json, index: number) => {
      if (!version.schema?.openAPIV3Schema)
        required(causes, undefined, `spec.versions[${index}].schema.openAPIV3Schema`);
    });
  }
  if (spec.names) {
    spec.names.singular ??= String(spec.names.kind ?? '').toLowerCase();
    spec.names.listKind ??= `${spec.names.kind}List`;
  }
  spec.conversion ??= { strategy: 'None' };
}

/** Defaults and checks `object` in place. Throws a 4xx Status. `before` undefined: it is created. */
export function admit(
  type: ResourceType,
  object: KubeObject,
  before: KubeObject | undefined,
  context: AdmissionContext,
): void {
  const causes: StatusCause[] = [];
  checkMetadata(type, object, causes);
  if (!type.custom) admitBuiltIn(object, before, context, causes);
  if (causes.length > 0) throw invalid(type.kind, type.group, object.metadata.name, causes);
}

function admitBuiltIn(
  object: KubeObject,
  before: KubeObject | undefined,
  context: AdmissionContext,
  causes: StatusCause[],
): void {
  switch (object.kind) {
    case 'Pod':
      return admitPod(object, before, context, causes);
    case 'Deployment':
    case 'DaemonSet':
    case 'StatefulSet':
    case 'ReplicaSet':
    case 'Job':
      return admitWorkload(object, before, causes);
    case 'Service':
      return admitService(object, before, context, causes);
    case 'Node':
      return admitNode(object, before, context, causes);
    case 'Secret':
      if (before?.immutable) immutable(causes, before.data, object.data, 'data');
      return admitSecret(object, before, causes);
    case 'ConfigMap':
      if (before?.immutable) immutable(causes, before.data, object.data, 'data');
      for (const [key, value] of Object.entries(object.data ?? {}))
        if (typeof value !== 'string')
          throw new ApiError(
            400,
            'BadRequest',
            `ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal ${typeof value} into Go struct field ConfigMap.data.${key} of type string`,
          );
      return;
    case 'Namespace':
      object.spec ??= { finalizers: ['kubernetes'] };
      object.status ??= { phase: 'Active' };
      object.metadata.labels = {
        ...object.metadata.labels,
        'kubernetes.io/metadata.name': object.metadata.name,
      };
      return;
    case 'CustomResourceDefinition':
      return admitCrd(object, causes);
    case 'RoleBinding':
    case 'ClusterRoleBinding':
      required(causes, object.roleRef?.name, 'roleRef.name');
      for (const subject of object.subjects ?? [])
        if (subject.kind !== 'ServiceAccount') subject.apiGroup ??= 'rbac.authorization.k8s.io';
      if (before) immutable(causes, before.roleRef, object.roleRef, 'roleRef');
      return;
    case 'Lease':
      if (object.spec?.leaseDurationSeconds !== undefined && object.spec.leaseDurationSeconds <= 0)
        causes.push({
          reason: 'FieldValueInvalid',
          message: `Invalid value: ${object.spec.leaseDurationSeconds}: must be greater than 0`,
          field: 'spec.leaseDurationSeconds',
        });
      for (const field of ['acquireTime', 'renewTime'])
        if (
          object.spec?.[field] !== undefined &&
          !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.test(object.spec[field])
        )
          throw new ApiError(
            400,
            'BadRequest',
            `Lease in version "v1" cannot be handled as a Lease: parsing time ${JSON.stringify(object.spec[field])} as "2006-01-02T15:04:05.000000Z07:00"`,
          );
      return;
    case 'CertificateSigningRequest':
      required(causes, object.spec?.request, 'spec.request');
      required(causes, object.spec?.signerName, 'spec.signerName');
      if (!before) {
        object.spec = { ...object.spec, username: context.user.name, groups: [...context.user.groups] };
        object.status = {};
      }
      return;
    case 'PodDisruptionBudget':
      if (object.spec?.minAvailable !== undefined && object.spec?.maxUnavailable !== undefined)
        causes.push({
          reason: 'FieldValueInvalid',
          message: 'Invalid value: minAvailable and maxUnavailable cannot be both set',
          field: 'spec',
        });
      return;
    default:
      return;
  }
}
