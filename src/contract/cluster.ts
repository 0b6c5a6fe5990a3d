/**
 * A tenant cluster: what the user wants (spec), what the gateway receives (document), what the gateway
 * reports (status). Intent only travels down, facts only travel up.
 */
import { z } from 'zod';
import { ConditionSchema } from './conditions.ts';
import { ProblemDetailsSchema } from './errors.ts';
import {
  CidrSchema,
  DescriptionSchema,
  DnsLabelSchema,
  IdSchema,
  Ipv4Schema,
  KubernetesVersionSchema,
  LabelsSchema,
  TaintSchema,
  TimeSchema,
} from './names.ts';
import { PoliciesRequestSchema, PoliciesSchema } from './policies.ts';
import { ResolvedProfileSchema } from './profile.ts';

/** How nodes are replaced: Expand first starts the new node before the old one goes, Contract first the other way round. */
export const RolloutSchema = z.enum(['expand-first', 'contract-first']);

export const PlacementSchema = z.object({
  /** MAAS resource pool by name. */
  resourcePool: z.string().min(1).default('default'),
  /** MAAS availability zones by name; nodes are spread evenly. Empty = any zone. */
  zones: z.array(z.string().min(1)).max(20).default([]),
  minCpu: z.int().min(1).max(1024).default(2),
  minMemoryMiB: z.int().min(1024).max(16_777_216).default(4096),
  minDiskGb: z.int().min(8).max(1_000_000).default(40),
  /** MAAS tags that a machine must carry (all of them). */
  tags: z.array(z.string().min(1)).max(20).default([]),
  /** MAAS tags that a machine must not carry. */
  notTags: z.array(z.string().min(1)).max(20).default([]),
});
export type Placement = z.infer<typeof PlacementSchema>;

const PoolBase = {
  name: DnsLabelSchema.max(40),
  placement: PlacementSchema.prefault({}),
  rollout: RolloutSchema.default('expand-first'),
  labels: LabelsSchema.default({}),
  taints: z.array(TaintSchema).max(20).default([]),
};

export const ControlPlanePoolSchema = z.object({
  ...PoolBase,
  role: z.literal('control-plane'),
  size: z.union([z.literal(1), z.literal(3), z.literal(5)], { error: 'must be 1, 3 or 5' }),
  /** Workloads may run on control-plane nodes. */
  allowWorkers: z.boolean().default(false),
});
export const WorkerPoolSchema = z.object({
  ...PoolBase,
  role: z.literal('worker'),
  size: z.int().min(0).max(1000),
});
export const PoolSchema = z.discriminatedUnion('role', [ControlPlanePoolSchema, WorkerPoolSchema]);
export type Pool = z.infer<typeof PoolSchema>;

/** The address that clients and nodes use for the API server; cannot change later. */
export const EndpointSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('kube-vip'),
    /** MAAS subnet (CIDR) to reserve the address in; default: the subnet of the first control-plane machine. */
    subnet: CidrSchema.optional(),
    /** A fixed address instead of the first free one. */
    address: Ipv4Schema.optional(),
  }),
  z.object({ kind: z.literal('maas-dns') }),
  z.object({
    kind: z.literal('external'),
    host: z.string().min(1).max(253),
    port: z.int().min(1).max(65535).default(6443),
  }),
]);
export type EndpointSpec = z.infer<typeof EndpointSchema>;

export const NetworkSchema = z.object({
  podCidr: CidrSchema.default('192.168.0.0/16'),
  serviceCidr: CidrSchema.default('10.96.0.0/12'),
  endpoint: EndpointSchema.prefault({ kind: 'kube-vip' }),
});

/** Settings that every node of the cluster gets; the gateway's own site settings are merged below these. */
export const NodeSettingsSchema = z.object({
  httpProxy: z.string().optional(),
  httpsProxy: z.string().optional(),
  noProxy: z.array(z.string()).max(200).default([]),
  /** Extra trusted CAs, PEM. */
  caCertificates: z.array(z.string()).max(20).default([]),
  sshAuthorizedKeys: z.array(z.string()).max(50).default([]),
  ntpServers: z.array(z.string()).max(10).default([]),
  /** Registry host -> mirror URL. */
  registryMirrors: z.record(z.string(), z.url()).default({}),
  /** Replaces registry.k8s.io for kubeadm's images. */
  imageRepository: z.string().optional(),
  /** Replaces https://pkgs.k8s.io for packages. */
  packageMirror: z.url().optional(),
});
export type NodeSettings = z.infer<typeof NodeSettingsSchema>;

const poolsField = z
  .array(PoolSchema)
  .min(1)
  .max(50)
  .superRefine((pools, context) => {
    const control = pools.filter((pool) => pool.role === 'control-plane');
    if (control.length !== 1)
      context.addIssue({ code: 'custom', message: 'needs exactly one control-plane pool', input: pools });
    const seen = new Set<string>();
    pools.forEach((pool, index) => {
      if (seen.has(pool.name))
        context.addIssue({
          code: 'custom',
          path: [index, 'name'],
          message: `pool name "${pool.name}" is used twice`,
          input: pools,
        });
      seen.add(pool.name);
    });
  });

/** What the user asks for. */
export const ClusterSpecSchema = z.object({
  name: DnsLabelSchema.max(40),
  description: DescriptionSchema,
  tags: z.array(z.string().min(1).max(64)).max(50).default([]),
  /** Cloud account id: which MAAS, through which gateway. */
  cloudAccount: IdSchema,
  /** Profile id. */
  profile: IdSchema,
  /** Pack name -> parameter -> value; overrides the profile's defaults. */
  packValues: z
    .record(z.string(), z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])))
    .default({}),
  /** MAAS domain of the machines. */
  domain: z.string().min(1).max(253).default('maas'),
  pools: poolsField,
  network: NetworkSchema.prefault({}),
  nodes: NodeSettingsSchema.prefault({}),
  policies: PoliciesSchema.prefault({}),
});
export type ClusterSpec = z.infer<typeof ClusterSpecSchema>;

/** The same as a request may give it: with credentials in the clear, which the portal seals before it stores anything. */
export const ClusterSpecRequestSchema = ClusterSpecSchema.extend({
  policies: PoliciesRequestSchema.prefault({}),
});
export type ClusterSpecRequest = z.infer<typeof ClusterSpecRequestSchema>;
export type ClusterSpecInput = z.input<typeof ClusterSpecRequestSchema>;

/** What is to become of the cluster. */
export const IntentSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('present') }),
  /** Delete a provisioned cluster, or abort one in provisioning: release everything. */
  z.object({ kind: z.literal('delete'), requestedAt: TimeSchema, reason: z.enum(['delete', 'abort']) }),
  /** Forget without waiting for MAAS; reports what is left behind. */
  z.object({ kind: z.literal('force-delete'), requestedAt: TimeSchema }),
]);
export type Intent = z.infer<typeof IntentSchema>;

/** Name of a backup, as `status.policies` lists them. */
const BackupNameSchema = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/, 'is not the name of a backup');

/** The document of kind `cluster` that goes down to the gateway. */
export const ClusterDocumentSchema = z.object({
  id: IdSchema,
  spec: ClusterSpecSchema,
  profile: ResolvedProfileSchema,
  intent: IntentSchema,
  /** One-off requests, each acted on once: id -> what. */
  actions: z
    .array(
      z.discriminatedUnion('kind', [
        z.object({ id: IdSchema, kind: z.literal('retry') }),
        z.object({ id: IdSchema, kind: z.literal('replace-node'), machine: z.string() }),
        z.object({ id: IdSchema, kind: z.literal('maintenance'), machine: z.string(), on: z.boolean() }),
        z.object({ id: IdSchema, kind: z.literal('approve-rollout'), plan: z.string() }),
        z.object({
          id: IdSchema,
          kind: z.literal('run-policy'),
          policy: z.enum(['patching', 'cis', 'conformance', 'vulnerabilities', 'backup', 'etcd-snapshot']),
        }),
        z.object({
          id: IdSchema,
          kind: z.literal('restore-backup'),
          backup: BackupNameSchema,
          /** Empty = all namespaces of the backup. */
          namespaces: z.array(DnsLabelSchema).max(200).default([]),
        }),
        z.object({ id: IdSchema, kind: z.literal('delete-backup'), backup: BackupNameSchema }),
        z.object({ id: IdSchema, kind: z.literal('rotate-certificates') }),
      ]),
    )
    .max(100)
    .default([]),
});
export type ClusterDocument = z.infer<typeof ClusterDocumentSchema>;

export const CLUSTER_PHASES = [
  'Pending',
  'Queued',
  'Provisioning',
  'Running',
  'Updating',
  'Failed',
  'Deleting',
  'Deleted',
  'Unknown',
] as const;
export const ClusterPhaseSchema = z.enum(CLUSTER_PHASES);
export type ClusterPhase = z.infer<typeof ClusterPhaseSchema>;

/** State words, the same in CLI, API and page. */
export const TASK_STATES = [
  'pending',
  'running',
  'waiting',
  'retrying',
  'succeeded',
  'failed',
  'skipped',
  'cancelled',
  'unknown',
] as const;
export const TaskStateSchema = z.enum(TASK_STATES);

/** One line of the timeline. Named by cluster + node + kind, so that a restart continues the same task. */
export const TaskSchema = z.object({
  /** e.g. `allocate`, `deploy`, `bootstrap`, `node-ready`, `release`, `reserve-endpoint`, `apply-cni` */
  name: z.string(),
  state: TaskStateSchema,
  attempt: z.int().min(1),
  startedAt: TimeSchema.optional(),
  finishedAt: TimeSchema.optional(),
  /** What it waits for, in words. */
  waitingFor: z.string().optional(),
  nextAttemptAt: TimeSchema.optional(),
  /** Expected end, from this site's history. */
  etaAt: TimeSchema.optional(),
  slowerThanUsual: z.boolean().optional(),
  error: ProblemDetailsSchema.optional(),
});
export type Task = z.infer<typeof TaskSchema>;

export const MACHINE_PHASES = [
  'Pending',
  'Allocated',
  'Deploying',
  'Bootstrapping',
  'Joining',
  'Ready',
  'NotReady',
  'Draining',
  'Releasing',
  'Released',
  'Failed',
  'Unknown',
] as const;

/** One wanted node and the machine that carries it. */
export const NodeStatusSchema = z.object({
  /** Our name of the node: `<cluster>-<pool>-<suffix>`, unique in the cluster and over time. */
  name: z.string(),
  pool: z.string(),
  role: z.enum(['control-plane', 'worker']),
  phase: z.enum(MACHINE_PHASES),
  /** MAAS system id, once allocated. */
  systemId: z.string().optional(),
  hostname: z.string().optional(),
  zone: z.string().optional(),
  addresses: z.array(z.string()).default([]),
  /** status_name as MAAS gives it. */
  maasStatus: z.string().optional(),
  maasMessage: z.string().optional(),
  kubernetesVersion: z.string().optional(),
  maintenance: z.boolean().default(false),
  tasks: z.array(TaskSchema).default([]),
  error: ProblemDetailsSchema.optional(),
});
export type NodeStatus = z.infer<typeof NodeStatusSchema>;

export const PolicyResultSchema = z.object({
  policy: z.string(),
  state: TaskStateSchema,
  lastRunAt: TimeSchema.optional(),
  nextRunAt: TimeSchema.optional(),
  summary: z.record(z.string(), z.unknown()).default({}),
  error: ProblemDetailsSchema.optional(),
});

/** The snapshot of kind `cluster` that goes up to the portal. */
export const ClusterStatusSchema = z.object({
  phase: ClusterPhaseSchema,
  /** Generation of the document that this status answers. */
  observedGeneration: z.int().min(0),
  /** When the gateway last observed the site. */
  observedAt: TimeSchema,
  conditions: z.array(ConditionSchema),
  /** host:port of the API server, once known. */
  endpoint: z.string().optional(),
  kubernetesVersion: KubernetesVersionSchema.optional(),
  nodes: z.array(NodeStatusSchema),
  tasks: z.array(TaskSchema).default([]).describe('Tasks of the cluster as a whole.'),
  progress: z.object({ done: z.int().min(0), total: z.int().min(0), etaAt: TimeSchema.optional() }),
  queue: z.object({ position: z.int().min(1), reason: z.string() }).optional(),
  policies: z.array(PolicyResultSchema).default([]),
  certificatesExpireAt: TimeSchema.optional(),
  /** A rollout that waits for approval or runs: what will move and why. */
  rollout: z
    .object({
      plan: z.string(),
      state: z.enum(['preview', 'running', 'blocked']),
      steps: z.array(z.object({ node: z.string(), action: z.string(), reason: z.string() })),
      /** What keeps it from starting, said already in the preview. */
      error: ProblemDetailsSchema.optional(),
    })
    .optional(),
  /** Why the cluster is Failed, with cause and next step. */
  error: ProblemDetailsSchema.optional(),
  /** After force delete: what nobody has released. */
  leftovers: z
    .array(
      z.object({
        kind: z.enum(['machine', 'address', 'dns']),
        id: z.string(),
        name: z.string(),
        reason: z.string(),
      }),
    )
    .default([]),
});
export type ClusterStatus = z.infer<typeof ClusterStatusSchema>;

/** The cluster as the portal's API shows it. */
export const ClusterSchema = z.object({
  id: IdSchema,
  generation: z.int().min(1),
  createdAt: TimeSchema,
  deletedAt: TimeSchema.optional(),
  gateway: IdSchema,
  spec: ClusterSpecSchema,
  intent: IntentSchema,
  status: ClusterStatusSchema.optional(),
  /** When the portal received this status; the page shows "as of". */
  statusReceivedAt: TimeSchema.optional(),
  /** True when the gateway is disconnected or the status is old: phase shows as Unknown. */
  stale: z.boolean(),
  /** The phase before it became Unknown. */
  lastKnownPhase: ClusterPhaseSchema.optional(),
  /** It was Running once: Delete applies, else Abort. */
  provisioned: z.boolean(),
  /** When force delete opens, while Deleting. */
  forceDeleteAt: TimeSchema.optional(),
});
export type Cluster = z.infer<typeof ClusterSchema>;
