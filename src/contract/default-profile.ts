/**
 * The profile that every portal starts with: stock Ubuntu 24.04, Kubernetes 1.36, Flannel. Pure data, so that the
 * portal can offer it and the gateway's tests can build clusters from it.
 */
import { FLANNEL_PACK } from './packs/flannel.ts';
import { type Profile, ProfileSchema } from './profile.ts';

export const DEFAULT_PROFILE: Profile = ProfileSchema.parse({
  id: 'profile-ubuntu-flannel',
  name: 'ubuntu-flannel',
  description: 'Ubuntu 24.04 LTS, Kubernetes 1.36 by kubeadm, Flannel network.',
  revision: 1,
  scope: 'tenant',
  packs: [
    { layer: 'os', name: 'ubuntu', version: '24.04', image: 'ubuntu/noble', variant: 'stock' },
    { layer: 'kubernetes', name: 'kubernetes', version: '1.36.1', kubernetesVersion: 'v1.36.1' },
    FLANNEL_PACK,
  ],
});
