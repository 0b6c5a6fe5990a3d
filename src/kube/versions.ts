/**
 * Kubernetes version arithmetic and the skew rules: one minor at a time, never down, control plane before
 * workers, kubelets at most three minors behind.
 */
import { PcgError } from '../base/errors.ts';

export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

/** Minors that this release installs. */
export const SUPPORTED_MINORS = [35, 36, 37] as const;
/** kubelet may be this many minors older than the API server. */
const MAX_KUBELET_LAG = 3;

/** Reads `v1.36.1` (the `v` may be missing; suffixes such as `-rc.1` or `+build` are ignored). */
export function parseVersion(text: string): Version {
  const match = /^v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$/.exec(text.trim());
  if (match === null)
    throw new PcgError('INVALID_INPUT', `"${text}" is not a Kubernetes version like v1.36.1`);
  return { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) };
}

/** Negative when `a` is older than `b`. */
export function compareVersions(a: string, b: string): number {
  const left = parseVersion(a);
  const right = parseVersion(b);
  return left.major - right.major || left.minor - right.minor || left.patch - right.patch;
}

/** Throws INVALID_INPUT naming the field when this release cannot install the version. */
export function assertSupported(version: string, field = 'profile.kubernetes.kubernetesVersion'): void {
  const { major, minor } = parseVersion(version);
  if (major !== 1 || !SUPPORTED_MINORS.some((supported) => supported === minor))
    throw new PcgError('INVALID_INPUT', `Kubernetes ${version} is not supported`, {
      field,
      fix: `Choose a version of ${SUPPORTED_MINORS.map((supported) => `1.${supported}`).join(', ')}.`,
    });
}

export type UpgradeVerdict =
  | { readonly kind: 'same' }
  | { readonly kind: 'allowed' }
  | { readonly kind: 'refused'; readonly reason: 'downgrade' | 'skips-minor' };

/** May the control plane move from `current` to `target`? */
export function judgeUpgrade(current: string, target: string): UpgradeVerdict {
  const order = compareVersions(target, current);
  if (order === 0) return { kind: 'same' };
  if (order < 0) return { kind: 'refused', reason: 'downgrade' };
  const from = parseVersion(current);
  const to = parseVersion(target);
  if (to.major !== from.major || to.minor - from.minor > 1) return { kind: 'refused', reason: 'skips-minor' };
  return { kind: 'allowed' };
}

/** Throws VERSION_SKEW with the reason when the control plane may not move. */
export function assertUpgrade(current: string, target: string): void {
  const verdict = judgeUpgrade(current, target);
  if (verdict.kind !== 'refused') return;
  const why = verdict.reason === 'downgrade' ? 'is a downgrade' : 'skips a minor version';
  throw new PcgError('VERSION_SKEW', `${current} to ${target} ${why}`, {
    field: 'profile.kubernetes.kubernetesVersion',
    details: { current, target, reason: verdict.reason },
  });
}

/** May a kubelet of this version serve under this API server? */
export function kubeletFits(kubelet: string, apiServer: string): boolean {
  const node = parseVersion(kubelet);
  const server = parseVersion(apiServer);
  return (
    node.major === server.major && node.minor <= server.minor && server.minor - node.minor <= MAX_KUBELET_LAG
  );
}
