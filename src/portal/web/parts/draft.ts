/** Drafts of clusters: text as typed, turned into a specification in one place, and back. */
import type { ClusterSpec, ClusterSpecInput, Pool } from '../../../contract/cluster.ts';

export interface DraftPool {
  readonly role: 'control-plane' | 'worker';
  readonly name: string;
  readonly size: string;
  readonly allowWorkers: boolean;
  readonly resourcePool: string;
  readonly zones: readonly string[];
  readonly minCpu: string;
  readonly minMemoryMiB: string;
  readonly minDiskGb: string;
  readonly rollout: 'expand-first' | 'contract-first';
  /** What it was made from: labels, taints and tags are kept though no field shows them. */
  readonly from?: Pool;
}

export interface Draft {
  readonly name: string;
  readonly description: string;
  readonly tags: string;
  readonly profile: string;
  readonly packValues: TypedValues;
  readonly cloudAccount: string;
  readonly domain: string;
  readonly pools: readonly DraftPool[];
  readonly podCidr: string;
  readonly serviceCidr: string;
  readonly endpointAddress: string;
  readonly httpProxy: string;
  readonly httpsProxy: string;
  readonly sshKey: string;
  readonly schedules: Readonly<Record<'patching' | 'backup' | 'cis', string>>;
}

const POOL: DraftPool = {
  role: 'worker',
  name: 'workers',
  size: '2',
  allowWorkers: false,
  resourcePool: 'default',
  zones: [],
  minCpu: '2',
  minMemoryMiB: '4096',
  minDiskGb: '40',
  rollout: 'expand-first',
};

export const DRAFT: Draft = {
  name: '',
  description: '',
  tags: '',
  profile: '',
  packValues: {},
  cloudAccount: '',
  domain: 'maas',
  pools: [{ ...POOL, role: 'control-plane', name: 'control-plane', size: '3' }, POOL],
  podCidr: '192.168.0.0/16',
  serviceCidr: '10.96.0.0/12',
  endpointAddress: '',
  httpProxy: '',
  httpsProxy: '',
  sshKey: '',
  schedules: { patching: 'never', backup: 'never', cis: 'never' },
};

export function toSpec(draft: Draft): ClusterSpecInput & { network: object } {
  return {
    name: draft.name,
    description: draft.description,
    tags: words(draft.tags),
    cloudAccount: draft.cloudAccount,
    profile: draft.profile,
    packValues: packValues(draft.packValues),
    domain: draft.domain,
    pools: draft.pools.map(toPool),
    network: {
      podCidr: draft.podCidr,
      serviceCidr: draft.serviceCidr,
      endpoint: {
        kind: 'kube-vip',
        ...(draft.endpointAddress === '' ? {} : { address: draft.endpointAddress }),
      },
    },
    nodes: {
      ...(draft.httpProxy === '' ? {} : { httpProxy: draft.httpProxy }),
      ...(draft.httpsProxy === '' ? {} : { httpsProxy: draft.httpsProxy }),
      sshAuthorizedKeys: draft.sshKey === '' ? [] : [draft.sshKey],
    },
    policies: {
      patching: { schedule: draft.schedules.patching },
      backups: { schedule: draft.schedules.backup },
      scans: { cis: draft.schedules.cis },
    },
  };
}

export function toPool(draft: DraftPool): Pool {
  const shared = {
    name: draft.name,
    rollout: draft.rollout,
    labels: draft.from?.labels ?? {},
    taints: draft.from?.taints ?? [],
    placement: {
      tags: [],
      notTags: [],
      ...draft.from?.placement,
      resourcePool: draft.resourcePool,
      zones: [...draft.zones],
      minCpu: Number(draft.minCpu),
      minMemoryMiB: Number(draft.minMemoryMiB),
      minDiskGb: Number(draft.minDiskGb),
    },
  };
  return draft.role === 'control-plane'
    ? {
        ...shared,
        role: 'control-plane',
        size: Number(draft.size) as 1 | 3 | 5,
        allowWorkers: draft.allowWorkers,
      }
    : { ...shared, role: 'worker', size: Number(draft.size) };
}

export function fromPool(pool: Pool): DraftPool {
  return {
    role: pool.role,
    name: pool.name,
    size: String(pool.size),
    allowWorkers: pool.role === 'control-plane' && pool.allowWorkers,
    resourcePool: pool.placement.resourcePool,
    zones: pool.placement.zones,
    minCpu: String(pool.placement.minCpu),
    minMemoryMiB: String(pool.placement.minMemoryMiB),
    minDiskGb: String(pool.placement.minDiskGb),
    rollout: pool.rollout,
    from: pool,
  };
}

/** One more worker pool, like the last one. */
export function anotherPool(pools: readonly DraftPool[]): DraftPool {
  const { from: _from, ...base } = pools.findLast(({ role }) => role === 'worker') ?? POOL;
  let number = pools.length;
  while (pools.some(({ name }) => name === `workers-${number}`)) number += 1;
  return { ...base, name: `workers-${number}`, size: '1' };
}

export type TypedValues = Readonly<Record<string, Readonly<Record<string, string>>>>;

export function typedValues(values: ClusterSpec['packValues']): TypedValues {
  return Object.fromEntries(
    Object.entries(values).map(([pack, given]) => [
      pack,
      Object.fromEntries(Object.entries(given).map(([name, value]) => [name, String(value)])),
    ]),
  );
}

export function words(text: string): string[] {
  return split(text, ',');
}

export function lines(text: string): string[] {
  return split(text, '\n');
}

function split(text: string, at: string): string[] {
  return text
    .split(at)
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** Numbers and switches as what they are; empty means the profile's default. */
export function packValues(typed: TypedValues): Record<string, Record<string, string | number | boolean>> {
  const out: Record<string, Record<string, string | number | boolean>> = {};
  for (const [pack, values] of Object.entries(typed)) {
    const given = Object.entries(values).filter(([, value]) => value !== '');
    if (given.length > 0)
      out[pack] = Object.fromEntries(
        given.map(([name, value]) => [
          name,
          value === 'true' ? true : value === 'false' ? false : /^-?\d+$/.test(value) ? Number(value) : value,
        ]),
      );
  }
  return out;
}
