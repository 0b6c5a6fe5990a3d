/** What may change on a living cluster: rules that hold whatever the site says. */
import { PcgError } from '../base/errors.ts';
import type { ClusterSpec } from '../contract/cluster.ts';
import type { ResolvedProfile } from '../contract/profile.ts';

interface Wanted {
  readonly spec: ClusterSpec;
  readonly profile: ResolvedProfile;
}

/** Parts that the running cluster was built on. */
const FIXED = ['name', 'cloudAccount', 'domain', 'network'] as const;

export function checkChange(before: Wanted, after: Wanted): void {
  for (const key of FIXED)
    if (JSON.stringify(before.spec[key]) !== JSON.stringify(after.spec[key]))
      throw new PcgError('INVALID_INPUT', `${key} of a cluster cannot change`, {
        field: `spec.${key}`,
        fix: 'Keep the old value, or create another cluster.',
      });
  const control = (spec: ClusterSpec) => spec.pools.findIndex((pool) => pool.role === 'control-plane');
  const at = control(after.spec);
  if (before.spec.pools[control(before.spec)]?.name !== after.spec.pools[at]?.name)
    throw new PcgError('INVALID_INPUT', 'the control-plane pool cannot be renamed', {
      field: `spec.pools[${at}].name`,
    });
  checkVersions(before.profile.kubernetes.kubernetesVersion, after.profile.kubernetes.kubernetesVersion);
  if (before.profile.cni.flavor !== after.profile.cni.flavor)
    throw new PcgError('INVALID_INPUT', 'the network add-on of a cluster cannot be exchanged', {
      field: 'spec.profile',
    });
}

function checkVersions(from: string, to: string): void {
  const parse = (version: string) => version.slice(1).split('.').map(Number);
  const [, fromMinor = 0, fromPatch = 0] = parse(from);
  const [, toMinor = 0, toPatch = 0] = parse(to);
  const down = toMinor < fromMinor || (toMinor === fromMinor && toPatch < fromPatch);
  if (down || toMinor > fromMinor + 1)
    throw new PcgError('VERSION_SKEW', `Kubernetes cannot go from ${from} to ${to}`, {
      field: 'spec.profile',
    });
}
