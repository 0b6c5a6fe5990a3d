/**
 * The profiles that every portal starts with: stock Ubuntu 24.04 and Kubernetes 1.36, with each of the networks that
 * are shipped. Pure data, so that the portal can offer them and the gateway's tests can build clusters from them.
 */
import { CALICO_PACK } from './packs/calico.ts';
import { CILIUM_PACK } from './packs/cilium.ts';
import { FLANNEL_PACK } from './packs/flannel.ts';
import { type Pack, type Profile, ProfileSchema } from './profile.ts';

function ubuntuWith(network: Pack, title: string): Profile {
  return ProfileSchema.parse({
    id: `profile-ubuntu-${network.name}`,
    name: `ubuntu-${network.name}`,
    description: `Ubuntu 24.04 LTS, Kubernetes 1.36 by kubeadm, ${title} network.`,
    revision: 1,
    scope: 'tenant',
    packs: [
      { layer: 'os', name: 'ubuntu', version: '24.04', image: 'ubuntu/noble', variant: 'stock' },
      { layer: 'kubernetes', name: 'kubernetes', version: '1.36.1', kubernetesVersion: 'v1.36.1' },
      network,
    ],
  });
}

/** What a cluster is made of when nobody chooses. */
export const DEFAULT_PROFILE = ubuntuWith(FLANNEL_PACK, 'Flannel');

/** The default one first. */
export const SEED_PROFILES: readonly Profile[] = [
  DEFAULT_PROFILE,
  ubuntuWith(CILIUM_PACK, 'Cilium'),
  ubuntuWith(CALICO_PACK, 'Calico'),
];
