/**
 * Which CoreDNS belongs to a Kubernetes version, and whether a cluster's own may be moved to it. The Corefile is the
 * users': it is never written, and between these releases no plugin or option was taken away, so it stays valid.
 */
import { parseImage, retag } from './image.ts';
import { compareVersions, parseVersion } from './versions.ts';

/** What kubeadm of a minor installs; later patches of kubeadm may carry a newer patch of it. */
const CORE_DNS: Readonly<Record<number, string>> = { 35: 'v1.13.1', 36: 'v1.14.2', 37: 'v1.14.3' };

const RELEASE = /^v?\d+\.\d+\.\d+$/;

export type CoreDnsVerdict =
  | { readonly kind: 'current' }
  | { readonly kind: 'move'; readonly image: string }
  /** Somebody chose this image; it is not ours to change. */
  | { readonly kind: 'own'; readonly why: string };

/** Judges the image of the container `coredns`. Never backwards. */
export function judgeCoreDns(image: string, kubernetesVersion: string): CoreDnsVerdict {
  const wanted = CORE_DNS[parseVersion(kubernetesVersion).minor];
  if (wanted === undefined) return { kind: 'current' };
  const { name, tag, digest } = parseImage(image);
  if (name.split('/').at(-1) !== 'coredns')
    return { kind: 'own', why: `${image} is not CoreDNS's own image` };
  if (digest !== undefined) return { kind: 'own', why: `${image} is pinned to a digest` };
  if (tag === undefined || !RELEASE.test(tag)) return { kind: 'own', why: `${image} carries no release` };
  return compareVersions(tag, wanted) < 0
    ? { kind: 'move', image: retag(image, wanted) }
    : { kind: 'current' };
}
