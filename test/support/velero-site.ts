/** A cluster with Velero on the simulator, for tests of backups. */
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { VELERO_PACK } from '../../src/contract/packs/velero.ts';
import type { Policies } from '../../src/contract/policies.ts';
import { AddonPackSchema } from '../../src/contract/profile.ts';
import { document as wanted } from './engine.ts';
import { clusterSpec, resolvedProfile } from './node-input.ts';
import { SimulatedSite } from './simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
export const SECRET = 'only-inside-the-cluster';
export const TARGET = {
  url: 'https://s3.site:9000',
  bucket: 'backups',
  prefix: 'demo',
  region: 'eu-1',
  sealedCredentials: 'box',
};
export type Action = ClusterDocument['actions'][number];

export function document(backups: Partial<Policies['backups']>, actions: Action[] = [], velero = true) {
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 1, placement },
        { role: 'worker', name: 'workers', size: 1, placement },
      ],
      policies: { backups },
    }),
    profile: resolvedProfile({ addons: velero ? [AddonPackSchema.parse(VELERO_PACK)] : [] }),
    actions,
  });
}

export const result = (status: ClusterStatus, policy = 'backup') =>
  status.policies.find((entry) => entry.policy === policy);

export async function start(faults: string[] = []) {
  const opened: string[] = [];
  const snapshots = {
    directory: '/nowhere',
    open: (sealed: string, context: string) => {
      opened.push(`${sealed} ${context}`);
      return JSON.stringify({ accessKeyId: 'AKID', secretAccessKey: SECRET });
    },
  };
  const site = await SimulatedSite.start({ speed: 200, snapshots, faults });
  const store = () => site.kubernetes.inside()[0]?.core.store;
  const velero = (plural: string, name = 'pcg') => store()?.get(`velero.io/${plural}`, 'velero', name);
  const ended = (policy: string) =>
    site.until(`${policy} ended`, (status) => {
      const entry = result(status, policy);
      return entry?.lastRunAt !== undefined && ['succeeded', 'failed'].includes(entry.state);
    });
  return { site, opened, store, velero, ended, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() };
}
