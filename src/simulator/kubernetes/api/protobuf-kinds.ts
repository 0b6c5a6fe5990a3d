/** Field numbers of the kinds that kubectl sends as protobuf, as far as its commands fill them. */

export type Field = {
  readonly name: string;
  /**
   * `map`: string to string; `bytes`: string to base64; `quantities`: string to quantity; `each`: a list of objects;
   * `inline`: a message whose fields JSON shows in the object around it.
   */
  readonly type:
    | 'string'
    | 'integer'
    | 'boolean'
    | 'integer or string'
    | 'strings'
    | 'map'
    | 'bytes'
    | 'quantities'
    | Shape
    | { readonly each: Shape }
    | { readonly inline: Shape };
};
export interface Shape {
  readonly [number: number]: Field;
}

export const text = (name: string): Field => ({ name, type: 'string' });
const number = (name: string): Field => ({ name, type: 'integer' });
const flag = (name: string): Field => ({ name, type: 'boolean' });
const texts = (name: string): Field => ({ name, type: 'strings' });
const map = (name: string): Field => ({ name, type: 'map' });
const part = (name: string, type: Shape): Field => ({ name, type });
const each = (name: string, shape: Shape): Field => ({ name, type: { each: shape } });
const either = (name: string): Field => ({ name, type: 'integer or string' });

const METADATA: Shape = {
  1: text('name'),
  2: text('generateName'),
  3: text('namespace'),
  11: map('labels'),
  12: map('annotations'),
  13: each('ownerReferences', {
    1: text('kind'),
    3: text('name'),
    4: text('uid'),
    5: text('apiVersion'),
    6: flag('controller'),
    7: flag('blockOwnerDeletion'),
  }),
};
const metadata = part('metadata', METADATA);
const object = (spec: Shape): Shape => ({ 1: metadata, 2: part('spec', spec) });

const SELECTOR: Shape = {
  1: map('matchLabels'),
  2: each('matchExpressions', { 1: text('key'), 2: text('operator'), 3: texts('values') }),
};
const CONTAINER: Shape = {
  1: text('name'),
  2: text('image'),
  3: texts('command'),
  4: texts('args'),
  5: text('workingDir'),
  6: each('ports', {
    1: text('name'),
    2: number('hostPort'),
    3: number('containerPort'),
    4: text('protocol'),
  }),
  7: each('env', { 1: text('name'), 2: text('value') }),
  8: part('resources', {
    1: { name: 'limits', type: 'quantities' },
    2: { name: 'requests', type: 'quantities' },
  }),
  9: each('volumeMounts', { 1: text('name'), 2: flag('readOnly'), 3: text('mountPath'), 4: text('subPath') }),
  13: text('terminationMessagePath'),
  14: text('imagePullPolicy'),
  15: part('securityContext', {
    1: part('capabilities', { 1: texts('add'), 2: texts('drop') }),
    2: flag('privileged'),
  }),
  16: flag('stdin'),
  17: flag('stdinOnce'),
  18: flag('tty'),
  20: text('terminationMessagePolicy'),
};
const VOLUME_SOURCE: Shape = {
  1: part('hostPath', { 1: text('path'), 2: text('type') }),
  2: part('emptyDir', { 1: text('medium') }),
};
const POD_SPEC: Shape = {
  1: each('volumes', { 1: text('name'), 2: { name: '', type: { inline: VOLUME_SOURCE } } }),
  2: each('containers', CONTAINER),
  3: text('restartPolicy'),
  4: number('terminationGracePeriodSeconds'),
  6: text('dnsPolicy'),
  7: map('nodeSelector'),
  8: text('serviceAccountName'),
  10: text('nodeName'),
  11: flag('hostNetwork'),
  12: flag('hostPID'),
  13: flag('hostIPC'),
  20: each('initContainers', CONTAINER),
  22: each('tolerations', {
    1: text('key'),
    2: text('operator'),
    3: text('value'),
    4: text('effect'),
    5: number('tolerationSeconds'),
  }),
  27: flag('shareProcessNamespace'),
};
const TEMPLATE: Shape = { 1: metadata, 2: part('spec', POD_SPEC) };
const JOB_SPEC: Shape = {
  1: number('parallelism'),
  2: number('completions'),
  6: part('template', TEMPLATE),
  7: number('backoffLimit'),
};
const RULES = each('rules', {
  1: texts('verbs'),
  2: texts('apiGroups'),
  3: texts('resources'),
  4: texts('resourceNames'),
  5: texts('nonResourceURLs'),
});
const BINDING: Shape = {
  1: metadata,
  2: each('subjects', { 1: text('kind'), 2: text('apiGroup'), 3: text('name'), 4: text('namespace') }),
  3: part('roleRef', { 1: text('apiGroup'), 2: text('kind'), 3: text('name') }),
};
const BACKEND: Shape = {
  4: part('service', { 1: text('name'), 2: part('port', { 1: text('name'), 2: number('number') }) }),
};

const AUTOSCALER: Shape = {
  1: part('scaleTargetRef', { 1: text('kind'), 2: text('name'), 3: text('apiVersion') }),
  2: number('minReplicas'),
  3: number('maxReplicas'),
};

export const KINDS: Record<string, Shape> = {
  Namespace: { 1: metadata },
  ServiceAccount: { 1: metadata },
  ConfigMap: { 1: metadata, 2: map('data'), 3: { name: 'binaryData', type: 'bytes' } },
  Secret: { 1: metadata, 2: { name: 'data', type: 'bytes' }, 3: text('type'), 4: map('stringData') },
  Pod: object(POD_SPEC),
  Service: object({
    1: each('ports', {
      1: text('name'),
      2: text('protocol'),
      3: number('port'),
      4: either('targetPort'),
      5: number('nodePort'),
    }),
    2: map('selector'),
    3: text('clusterIP'),
    4: text('type'),
    10: text('externalName'),
  }),
  ResourceQuota: object({ 1: { name: 'hard', type: 'quantities' }, 2: texts('scopes') }),
  Deployment: object({ 1: number('replicas'), 2: part('selector', SELECTOR), 3: part('template', TEMPLATE) }),
  Job: object(JOB_SPEC),
  CronJob: object({
    1: text('schedule'),
    3: text('concurrencyPolicy'),
    4: flag('suspend'),
    5: part('jobTemplate', { 1: metadata, 2: part('spec', JOB_SPEC) }),
    8: text('timeZone'),
  }),
  'autoscaling/v1/HorizontalPodAutoscaler': object({
    ...AUTOSCALER,
    4: number('targetCPUUtilizationPercentage'),
  }),
  HorizontalPodAutoscaler: object({
    ...AUTOSCALER,
    4: each('metrics', {
      1: text('type'),
      4: part('resource', {
        1: text('name'),
        2: part('target', { 1: text('type'), 4: number('averageUtilization') }),
      }),
    }),
  }),
  PodDisruptionBudget: object({
    1: either('minAvailable'),
    2: part('selector', SELECTOR),
    3: either('maxUnavailable'),
  }),
  PriorityClass: {
    1: metadata,
    2: number('value'),
    3: flag('globalDefault'),
    4: text('description'),
    5: text('preemptionPolicy'),
  },
  Ingress: object({
    1: part('defaultBackend', BACKEND),
    2: each('tls', { 1: texts('hosts'), 2: text('secretName') }),
    3: each('rules', {
      1: text('host'),
      2: {
        name: '',
        type: {
          inline: {
            1: part('http', {
              1: each('paths', { 1: text('path'), 2: part('backend', BACKEND), 3: text('pathType') }),
            }),
          },
        },
      },
    }),
    4: text('ingressClassName'),
  }),
  Role: { 1: metadata, 2: RULES },
  ClusterRole: { 1: metadata, 2: RULES },
  RoleBinding: BINDING,
  ClusterRoleBinding: BINDING,
  SelfSubjectAccessReview: object({
    1: part('resourceAttributes', {
      1: text('namespace'),
      2: text('verb'),
      3: text('group'),
      4: text('version'),
      5: text('resource'),
      6: text('subresource'),
      7: text('name'),
    }),
    2: part('nonResourceAttributes', { 1: text('path'), 2: text('verb') }),
  }),
  SelfSubjectRulesReview: object({ 1: text('namespace') }),
  SelfSubjectReview: { 1: metadata },
  TokenReview: object({ 1: text('token'), 2: texts('audiences') }),
  TokenRequest: object({ 1: texts('audiences'), 4: number('expirationSeconds') }),
};
