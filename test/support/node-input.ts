/** Builders for one node's user-data, and the reverse: what a machine would find in it. */
import { parse } from 'yaml';
import type { NodeInput } from '../../src/cluster/user-data.ts';
import { type ClusterSpecInput, ClusterSpecSchema } from '../../src/contract/cluster.ts';
import { DEFAULT_PROFILE } from '../../src/contract/default-profile.ts';
import { type ResolvedProfile, ResolvedProfileSchema } from '../../src/contract/profile.ts';
import { type ClusterPki, caHash } from '../../src/kube/pki.ts';

export function resolvedProfile(changes: Partial<ResolvedProfile> = {}): ResolvedProfile {
  const find = (layer: string) => DEFAULT_PROFILE.packs.find((pack) => pack.layer === layer);
  return ResolvedProfileSchema.parse({
    id: DEFAULT_PROFILE.id,
    name: DEFAULT_PROFILE.name,
    revision: 1,
    os: find('os'),
    kubernetes: find('kubernetes'),
    cni: find('cni'),
    ...changes,
  });
}

export function clusterSpec(changes: Partial<ClusterSpecInput> = {}) {
  return ClusterSpecSchema.parse({
    name: 'demo',
    cloudAccount: 'ca-one',
    profile: DEFAULT_PROFILE.id,
    pools: [
      { role: 'control-plane', name: 'cp', size: 3 },
      { role: 'worker', name: 'workers', size: 3 },
    ],
    ...changes,
  });
}

export function nodeInput(
  kind: NodeInput['kind'],
  pki: ClusterPki,
  changes: Partial<NodeInput> = {},
): NodeInput {
  const worker = kind === 'worker';
  return {
    kind,
    cluster: { id: 'cl-demo', name: 'demo' },
    spec: clusterSpec(),
    profile: resolvedProfile(),
    endpoint: { host: '10.20.0.200', port: 6443, vip: true },
    node: {
      name: `demo-${worker ? 'workers' : 'cp'}-1`,
      hostname: 'calm-otter',
      systemId: 'x4ycgr',
      zone: 'zone-a',
      pool: worker ? 'workers' : 'cp',
      role: worker ? 'worker' : 'control-plane',
    },
    ...(worker ? {} : { pki }),
    caHash: caHash(pki.ca.certPem),
    token: { id: 'abcdef', secret: '0123456789abcdef' },
    site: { maasHost: '10.20.0.2', nodeCidrs: ['10.20.0.0/24'] },
    ...changes,
  };
}

export interface CloudFile {
  readonly content: string;
  readonly permissions: string;
  readonly owner: string;
  readonly append: boolean;
}

export interface CloudConfig {
  readonly runcmd: unknown[];
  readonly files: Map<string, CloudFile>;
  readonly raw: Record<string, unknown>;
}

/** Reads a cloud-config as cloud-init does. */
export function readCloudConfig(text: string): CloudConfig {
  const raw = parse(text) as Record<string, unknown>;
  const files = new Map<string, CloudFile>();
  for (const file of raw['write_files'] as Record<string, string>[])
    files.set(String(file['path']), {
      content: Buffer.from(String(file['content']), 'base64').toString('utf8'),
      permissions: String(file['permissions']),
      owner: String(file['owner']),
      append: Boolean(file['append']),
    });
  return { runcmd: raw['runcmd'] as unknown[], files, raw };
}
