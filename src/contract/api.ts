/**
 * Questions that the portal (or `pcg` on the gateway's unix socket) asks the agent, and requests of the
 * portal's public API that are not plain resources. Short, with a deadline; anything long is a document.
 */
import { z } from 'zod';
import { NetworkSchema, PoolSchema } from './cluster.ts';
import { ErrorCodeSchema, ProblemDetailsSchema } from './errors.ts';
import { CidrSchema, DnsLabelSchema, IdSchema, TimeSchema } from './names.ts';

// ---- portal API ----
export const SignInRequestSchema = z.object({
  email: z.string().min(1).max(254),
  password: z.string().min(1).max(1024),
});
export const RoleSchema = z.enum(['tenant-admin', 'project-admin', 'viewer']);
export type Role = z.infer<typeof RoleSchema>;
export const UserSchema = z.object({ email: z.string(), role: RoleSchema });
export const SignInResultSchema = z.object({ token: z.string(), user: UserSchema, expiresAt: TimeSchema });

export const CreatePairingCodeRequestSchema = z.object({
  gatewayName: DnsLabelSchema.max(40),
  /** Re-pair this gateway in place. */ gateway: IdSchema.optional(),
});

/** `sealedKey` was sealed by the caller to the gateway's key; `apiKey` is sealed by the portal at once and not kept. */
export const CreateCloudAccountRequestSchema = z.object({
  /** The caller's choice when it seals the key itself: the seal is bound to the account's id. */
  id: IdSchema.optional(),
  name: DnsLabelSchema.max(40),
  description: z.string().max(500).default(''),
  gateway: IdSchema,
  endpoint: z.url(),
  apiKey: z.string().optional(),
  sealedKey: z.string().optional(),
  caPem: z.string().optional(),
  scope: z.enum(['tenant', 'project']).default('tenant'),
});

// ---- agent API ----
const HoldSchema = z.object({ reason: z.string(), since: z.string() });
/** The line of clusters that have not begun, oldest first; they wait only while there is a hold. */
export const QueueSchema = z.object({
  held: HoldSchema.optional(),
  waiting: z.array(z.object({ id: IdSchema, name: z.string(), position: z.int() })),
});
export type Queue = z.infer<typeof QueueSchema>;
export const HoldRequestSchema = z.object({ reason: z.string().trim().min(1).max(200) });

export const AgentStatusSchema = z.object({
  version: z.string(),
  gateway: z.object({ id: IdSchema, name: z.string(), words: z.string() }).optional(),
  startedAt: TimeSchema,
  portalUrl: z.string().optional(),
  /** Clusters are left alone: the store may be a restored backup, and the portal has not yet said what it wants. */
  held: z.object({ since: TimeSchema, until: TimeSchema }).optional(),
  tunnel: z.discriminatedUnion('state', [
    z.object({ state: z.literal('unpaired') }),
    z.object({ state: z.literal('connecting'), since: TimeSchema, attempt: z.int() }),
    z.object({ state: z.literal('connected'), since: TimeSchema, rttMs: z.number().optional() }),
    z.object({
      state: z.literal('waiting'),
      since: TimeSchema,
      nextAttemptAt: TimeSchema,
      cause: ProblemDetailsSchema,
    }),
  ]),
  accounts: z.array(
    z.object({
      id: IdSchema,
      endpoint: z.string(),
      state: z.enum(['ready', 'failed', 'unknown']),
      maasVersion: z.string().optional(),
      problem: ProblemDetailsSchema.optional(),
    }),
  ),
  clusters: z.array(
    z.object({
      id: IdSchema,
      name: z.string(),
      phase: z.string(),
      done: z.int(),
      total: z.int(),
      message: z.string(),
    }),
  ),
  outbox: z.object({ events: z.int(), snapshots: z.int(), dropped: z.int() }),
  /** New clusters wait, for this reason. */
  queue: HoldSchema.optional(),
});
export type AgentStatus = z.infer<typeof AgentStatusSchema>;

export const ValidateAccountRequestSchema = z.object({
  endpoint: z.string(),
  sealedKey: z.string().optional(),
  account: IdSchema.optional(),
  caPem: z.string().optional(),
});
export const AccountReportSchema = z.object({
  ok: z.boolean(),
  maasVersion: z.string().optional(),
  username: z.string().optional(),
  isAdmin: z.boolean().optional(),
  clockSkewMs: z.number().optional(),
  /** Calls that this key may not make, and what will not work for it. */
  rights: z.array(z.object({ call: z.string(), allowed: z.boolean(), consequence: z.string() })).default([]),
  problem: ProblemDetailsSchema.optional(),
});
export type AccountReport = z.infer<typeof AccountReportSchema>;

export const InventorySchema = z.object({
  zones: z.array(z.object({ name: z.string(), ready: z.int(), fitGateway: z.int() })),
  pools: z.array(z.object({ name: z.string(), ready: z.int(), fitGateway: z.int() })),
  domains: z.array(z.object({ name: z.string(), isDefault: z.boolean() })),
  subnets: z.array(
    z.object({ id: z.int(), cidr: z.string(), name: z.string(), managed: z.boolean(), available: z.int() }),
  ),
  images: z.array(z.object({ name: z.string(), architecture: z.string() })),
  freeCidr: CidrSchema.optional(),
});
export type Inventory = z.infer<typeof InventorySchema>;

export const ExplainRequestSchema = z.object({
  pools: z.array(PoolSchema).min(1),
  network: NetworkSchema.prefault({}),
  image: z.string().optional(),
  domain: z.string().optional(),
  /** On a site that takes long to list, be content with knowing that each pool has a fitting machine. */
  hurried: z.boolean().default(false),
});
/** Per pool: does it fit, and if not, which rule rejects which machine. */
export const PlacementReportSchema = z.object({
  feasible: z.boolean(),
  pools: z.array(
    z.object({
      pool: z.string(),
      wanted: z.int(),
      matching: z.int(),
      /** Machines that another pool of this request takes first. */
      contested: z.int().default(0),
      /** rule -> number of machines that this rule alone or first rejects */
      rejections: z.array(
        z.object({ rule: z.string(), count: z.int(), machines: z.array(z.string()), example: z.string() }),
      ),
      /** The one change that would admit most machines. */
      nearestFix: z.string().optional(),
    }),
  ),
  problems: z.array(ProblemDetailsSchema),
});
export type PlacementReport = z.infer<typeof PlacementReportSchema>;

export const CheckSchema = z.object({
  id: z.string(),
  group: z.enum(['Host', 'Proxy', 'Portal', 'MAAS', 'DNS', 'Network', 'Capacity', 'Time', 'Storage']),
  state: z.enum(['pass', 'warn', 'fail', 'skip']),
  measured: z.string(),
  required: z.string(),
  fix: z.string().default(''),
  code: ErrorCodeSchema.optional(),
});
export const CheckReportSchema = z.object({
  checks: z.array(CheckSchema),
  startedAt: TimeSchema,
  durationMs: z.number(),
});
export type Check = z.infer<typeof CheckSchema>;
export type CheckReport = z.infer<typeof CheckReportSchema>;

export const QuarantineEntrySchema = z.object({
  account: IdSchema,
  systemId: z.string(),
  hostname: z.string(),
  reason: z.string(),
  since: TimeSchema,
  until: TimeSchema,
});
export const OrphanSchema = z.object({
  account: IdSchema,
  systemId: z.string(),
  hostname: z.string(),
  status: z.string(),
  cluster: z.string(),
  node: z.string(),
  reason: z.string(),
});
