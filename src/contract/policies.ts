/**
 * Policies of a cluster: patching, scans, backups, remediation, erasing. Set at creation or later. In requests a
 * backup target may carry its credentials in the clear; everywhere else only the sealed form exists.
 */
import { z } from 'zod';
import { ScheduleSchema } from './names.ts';

/** One word of an S3 key pair. It becomes a line of a file, so it must stay one. */
const CredentialSchema = z
  .string()
  .regex(/^[\x21-\x7e]{1,1024}$/, 'must be 1 to 1024 visible ASCII characters without spaces');

/** S3 key pair of a backup target. */
export const BackupCredentialsSchema = z.object({
  accessKeyId: CredentialSchema,
  secretAccessKey: CredentialSchema,
});
export type BackupCredentials = z.infer<typeof BackupCredentialsSchema>;

/** An S3-compatible bucket. */
export const BackupTargetSchema = z.object({
  url: z
    .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
    .refine(
      (url) => !/^https?:\/\/[^/]*@/i.test(url),
      'must not hold credentials: they have a field of their own',
    ),
  bucket: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/, 'is not the name of a bucket'),
  prefix: z.string().max(500).default(''),
  region: z.string().min(1).max(64).default('us-east-1'),
  /** BackupCredentials as JSON, sealed to the gateway; see `backupTargetContext`. */
  sealedCredentials: z.string().max(16_384).optional(),
});
export type BackupTarget = z.infer<typeof BackupTargetSchema>;

/** Binds sealed credentials to the place they are for: nobody can have the gateway send them elsewhere. */
export function backupTargetContext(target: { readonly url: string; readonly bucket: string }): string {
  return `backup-target:${target.url}/${target.bucket}`;
}

const backupFields = {
  /** In UTC, unlike other schedules: Velero reads it inside the cluster and knows no other time zone. */
  schedule: ScheduleSchema.default('never'),
  /** Keep this many hours. */
  ttlHours: z.int().min(1).max(87_600).default(720),
  namespaces: z.array(z.string()).default(['*']),
  includeClusterResources: z.enum(['auto', 'always', 'never']).default('auto'),
  /** Back up namespaces with Velero, which must be an add-on of the profile; needs a target. */
  workloads: z.boolean().default(true),
  /** Save etcd to the target, or to the gateway's disk when there is none. */
  etcdSnapshots: z.boolean().default(true),
};
const BackupsSchema = z.object({ ...backupFields, target: BackupTargetSchema.optional() });
const BackupsRequestSchema = z.object({
  ...backupFields,
  target: BackupTargetSchema.extend({ credentials: BackupCredentialsSchema.optional() }).optional(),
});

export const PoliciesSchema = z.object({
  /** OS patching of nodes, one at a time. */
  patching: z
    .object({
      schedule: ScheduleSchema.default('never'),
      rebootIfRequired: z.boolean().default(true),
      /** A scheduled run begins no further node this long after its time; the rest has its turn next time. */
      windowMinutes: z.int().min(10).max(10_080).optional(),
      onBoot: z.boolean().default(false),
    })
    .prefault({}),
  scans: z
    .object({
      cis: ScheduleSchema.default('never'),
      conformance: ScheduleSchema.default('never'),
      vulnerabilities: ScheduleSchema.default('never'),
    })
    .prefault({}),
  backups: BackupsSchema.prefault({}),
  remediation: z
    .object({
      /** Replace nodes that fail to start or stay unhealthy. */
      enabled: z.boolean().default(true),
      /** Failed machines replaced in one provisioning before the cluster is Failed. */
      maxReplacements: z.int().min(0).max(20).default(3),
      unhealthyAfterSeconds: z.int().min(60).default(300),
      /** Give up remediation while more than this share of nodes is unhealthy. */
      maxUnhealthyPercent: z.int().min(0).max(100).default(40),
    })
    .prefault({}),
  certificates: z
    .object({
      /** kubeadm's certificates are renewed by a privileged Job on their node; without it they are only reported. */
      renewInPlace: z.boolean().default(true),
    })
    .prefault({}),
  /** What a drain would end for good: `hold` waits for a person, as kubectl drain does without force. */
  drain: z
    .object({
      /** Pods without a controller: nobody makes them again. */
      unmanagedPods: z.enum(['evict', 'hold']).default('evict'),
      /** Pods with an emptyDir or a volume that lies on the node. */
      localData: z.enum(['evict', 'hold']).default('evict'),
    })
    .prefault({}),
  erase: z.object({ mode: z.enum(['none', 'quick', 'secure', 'full']).default('none') }).prefault({}),
});
export type Policies = z.infer<typeof PoliciesSchema>;

/** Policies as a request may give them. */
export const PoliciesRequestSchema = PoliciesSchema.extend({ backups: BackupsRequestSchema.prefault({}) });
export type PoliciesRequest = z.infer<typeof PoliciesRequestSchema>;
