/** The packs that come with the portal: building blocks for profiles. */
import type { Pack } from '../profile.ts';
import { CALICO_PACK } from './calico.ts';
import { CILIUM_PACK } from './cilium.ts';
import { FLANNEL_PACK } from './flannel.ts';
import { VELERO_PACK } from './velero.ts';

export const SHIPPED_PACKS: readonly Pack[] = [FLANNEL_PACK, CILIUM_PACK, CALICO_PACK, VELERO_PACK];
