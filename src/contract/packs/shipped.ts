/** The packs that come with the portal: building blocks for profiles. */
import type { Pack } from '../profile.ts';
import { VELERO_PACK } from './velero.ts';

export const SHIPPED_PACKS: readonly Pack[] = [VELERO_PACK];
