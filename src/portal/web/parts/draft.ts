/** The wizard's draft: text as typed, turned into a specification in one place. */
import type { ClusterSpecInput } from '../../../contract/cluster.ts';

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
}

export interface Draft {
  readonly name: string;
  readonly description: string;
  readonly tags: string;
  readonly profile: string;
  readonly packValues: Readonly<Record<string, Readonly<Record<string, string>>>>;
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
    tags: draft.tags
      .split(',')
      .map((tag) => tag.trim())
      .filter((tag) => tag !== ''),
    cloudAccount: draft.cloudAccount,
    profile: draft.profile,
    packValues: packValues(draft.packValues),
    domain: draft.domain,
    pools: draft.pools.map((pool) => {
      const shared = {
        name: pool.name,
        rollout: pool.rollout,
        placement: {
          resourcePool: pool.resourcePool,
          zones: [...pool.zones],
          minCpu: Number(pool.minCpu),
          minMemoryMiB: Number(pool.minMemoryMiB),
          minDiskGb: Number(pool.minDiskGb),
        },
      };
      return pool.role === 'control-plane'
        ? {
            ...shared,
            role: 'control-plane',
            size: Number(pool.size) as 1 | 3 | 5,
            allowWorkers: pool.allowWorkers,
          }
        : { ...shared, role: 'worker', size: Number(pool.size) };
    }),
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

/** Numbers and switches as what they are; empty means the profile's default. */
function packValues(typed: Draft['packValues']): Record<string, Record<string, string | number | boolean>> {
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
