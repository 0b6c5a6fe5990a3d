/**
 * Cluster profiles: ordered layers (OS, Kubernetes, CNI, add-ons) made of packs with typed parameters.
 * The portal resolves profile + overrides into a ResolvedProfile, which travels inside the cluster document.
 */
import { z } from 'zod';
import { DescriptionSchema, DnsLabelSchema, IdSchema, KubernetesVersionSchema } from './names.ts';

const PackBase = {
  /** Unique within the profile. */
  name: DnsLabelSchema,
  /** Pack version, free text such as `3.30.1`. */
  version: z.string().min(1).max(40),
};

export const OsPackSchema = z.object({
  ...PackBase,
  layer: z.literal('os'),
  /** MAAS image: `ubuntu/jammy`, `ubuntu/noble` or `custom/<name>`. */
  image: z
    .string()
    .regex(/^(ubuntu|custom)\/[A-Za-z0-9._-]+$/, 'give it like ubuntu/noble or custom/my-image'),
  /** stock: cloud-init installs containerd and kubeadm; prebaked: the image holds them. */
  variant: z.enum(['stock', 'prebaked']).default('stock'),
});

export const KubernetesPackSchema = z.object({
  ...PackBase,
  layer: z.literal('kubernetes'),
  kubernetesVersion: KubernetesVersionSchema,
  /** Extra API server arguments, checked against an allow-list. */
  apiServerArgs: z.record(z.string(), z.string()).default({}),
  kubeletArgs: z.record(z.string(), z.string()).default({}),
});

/** A typed parameter; `${name}` in the pack's manifests is replaced by its value. */
export const PackParameterSchema = z.object({
  name: z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,62}$/),
  type: z.enum(['string', 'integer', 'boolean', 'cidr']),
  description: DescriptionSchema,
  default: z.union([z.string(), z.number(), z.boolean()]).optional(),
  required: z.boolean().default(false),
  enum: z.array(z.string()).optional(),
});

/** Parameters that every cluster fills in by itself; a pack may declare them, and a profile may still override them. */
export const CLUSTER_PARAMETERS: readonly string[] = [
  'podCidr',
  'serviceCidr',
  'endpointHost',
  'endpointPort',
  'clusterName',
];

const ManifestBase = {
  ...PackBase,
  /** Multi-document YAML, applied with server-side apply: namespaces and CRDs first. */
  manifests: z.string().max(4_000_000),
  parameters: z.array(PackParameterSchema).default([]),
  values: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).default({}),
};

export const CniPackSchema = z.object({
  ...ManifestBase,
  layer: z.literal('cni'),
  flavor: z.enum(['calico', 'cilium', 'flannel', 'custom']),
});
export const AddonPackSchema = z.object({ ...ManifestBase, layer: z.literal('addon') });

export const PackSchema = z.discriminatedUnion('layer', [
  OsPackSchema,
  KubernetesPackSchema,
  CniPackSchema,
  AddonPackSchema,
]);
export type Pack = z.infer<typeof PackSchema>;
export type ManifestPack = z.infer<typeof CniPackSchema> | z.infer<typeof AddonPackSchema>;

/** What a gateway receives: everything resolved, nothing to look up. */
export const ResolvedProfileSchema = z.object({
  id: IdSchema,
  name: z.string(),
  revision: z.int().min(1),
  os: OsPackSchema,
  kubernetes: KubernetesPackSchema,
  cni: CniPackSchema,
  addons: z.array(AddonPackSchema).default([]),
});
export type ResolvedProfile = z.infer<typeof ResolvedProfileSchema>;

export const ProfileSchema = z.object({
  id: IdSchema,
  name: DnsLabelSchema,
  description: DescriptionSchema,
  revision: z.int().min(1),
  scope: z.enum(['tenant', 'project']).default('tenant'),
  packs: z.array(PackSchema).min(3).max(40),
});
export type Profile = z.infer<typeof ProfileSchema>;
