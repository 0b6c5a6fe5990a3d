/**
 * What the key's user may do and what will not work for lack of a right: by read-only probes and by what
 * MAAS documents as reserved for administrators. For preflight, the cloud account's page and `pcg doctor`.
 */
import { PcgError } from '../base/errors.ts';
import type { ErrorCode } from '../contract/errors.ts';
import type { MaasClient } from './client.ts';
import { supportOf } from './version.ts';

export interface Right {
  /** Stable name, e.g. `events.read`. */
  readonly id: string;
  /** What of the product needs it. */
  readonly neededFor: string;
  /** `required`: nothing works without; `optional`: only `neededFor` is missing. */
  readonly weight: 'required' | 'optional';
  /** `unknown`: the probe failed for another reason than a missing right, see `code`. */
  readonly verdict: 'granted' | 'denied' | 'unknown';
  /** Why it is not granted. */
  readonly code?: ErrorCode;
}

export interface RightsReport {
  readonly username: string;
  readonly isAdmin: boolean;
  readonly version: string;
  readonly support: 'supported' | 'too-old' | 'newer';
  readonly rights: readonly Right[];
  /** All that is required is granted. */
  readonly sufficient: boolean;
  /** Sentences for people: what will not work, and what a right of this user endangers. */
  readonly remarks: readonly string[];
}

interface Probe {
  readonly id: string;
  readonly neededFor: string;
  readonly weight: Right['weight'];
  /** Resolves false when MAAS answers but shows nothing to work with. */
  readonly look: (client: MaasClient, signal: AbortSignal) => Promise<boolean>;
}

/** An id that no machine has: MAAS draws them from an alphabet without 0 and 1. */
const NO_MACHINE = '000000';

const some = (list: readonly unknown[]): boolean => list.length > 0;

const PROBES: readonly Probe[] = [
  {
    id: 'machines.read',
    neededFor: 'placement, progress and recovery of clusters',
    weight: 'required',
    look: async (client, signal) => !some(await client.machines.list({ ids: [NO_MACHINE] }, signal)),
  },
  {
    id: 'pools.read',
    neededFor: 'allocating machines: without a visible resource pool there is none to allocate from',
    weight: 'required',
    look: async (client, signal) => some(await client.pools(signal)),
  },
  {
    id: 'zones.read',
    neededFor: 'spreading machines over availability zones',
    weight: 'required',
    look: async (client, signal) => some(await client.zones(signal)),
  },
  {
    id: 'subnets.read',
    neededFor: 'choosing endpoint addresses and checking for overlaps',
    weight: 'required',
    look: async (client, signal) => some(await client.subnets(signal)),
  },
  {
    id: 'addresses.read',
    neededFor: 'reserving endpoint addresses',
    weight: 'required',
    look: async (client, signal) => Array.isArray(await client.reservedAddresses(signal)),
  },
  {
    id: 'images.read',
    neededFor: 'checking that the OS image exists before deploying',
    weight: 'optional',
    look: async (client, signal) => some(await client.images(signal)),
  },
  {
    id: 'events.read',
    neededFor: 'live progress and the black-box recorder',
    weight: 'optional',
    look: async (client, signal) => Array.isArray(await client.events({ limit: 1 }, signal)),
  },
  {
    id: 'config.read',
    neededFor: 'showing time limits and the erase policy of MAAS',
    weight: 'optional',
    look: async (client, signal) => (await client.config('node_timeout', signal)) !== undefined,
  },
];

/** MAAS gives these to administrators only; the product works without them, less comfortably. */
const ADMIN_ONLY: readonly Omit<Right, 'verdict' | 'weight' | 'code'>[] = [
  {
    id: 'dns.write',
    neededFor: 'giving a cluster endpoint a DNS name in MAAS; without it the address is used',
  },
  { id: 'machines.mark_fixed', neededFor: 'taking a machine out of Broken when a quarantine is undone' },
  {
    id: 'machines.read_all',
    neededFor: 'explaining which machines other users hold, in placement and orphan reports',
  },
  { id: 'machines.commission', neededFor: 'commissioning machines again after a repair' },
];

/** Throws MAAS_UNREACHABLE, MAAS_UNAUTHORIZED ... when the region or the key as such does not work. */
export async function rightsReport(client: MaasClient, signal: AbortSignal): Promise<RightsReport> {
  const version = await client.version(signal);
  const user = await client.whoami(signal);
  const rights: Right[] = [];
  for (const { id, neededFor, weight, look } of PROBES) {
    try {
      rights.push({ id, neededFor, weight, verdict: (await look(client, signal)) ? 'granted' : 'denied' });
    } catch (error) {
      if (signal.aborted || !(error instanceof PcgError)) throw error;
      const verdict =
        error.code === 'MAAS_FORBIDDEN' || error.code === 'MAAS_UNAUTHORIZED' ? 'denied' : 'unknown';
      rights.push({ id, neededFor, weight, verdict, code: error.code });
    }
  }
  for (const right of ADMIN_ONLY) {
    rights.push({ ...right, weight: 'optional', verdict: user.isAdmin ? 'granted' : 'denied' });
  }
  const support = supportOf(version);
  return {
    username: user.username,
    isAdmin: user.isAdmin,
    version: version.version,
    support,
    rights,
    sufficient: rights.every((right) => right.weight === 'optional' || right.verdict === 'granted'),
    remarks: remarksOf(rights, user, support),
  };
}

function remarksOf(
  rights: readonly Right[],
  user: { readonly username: string; readonly isAdmin: boolean },
  support: RightsReport['support'],
): string[] {
  return [
    ...(support === 'too-old' ? ['This MAAS is older than 3.3 and not supported.'] : []),
    ...(support === 'newer' ? ['This MAAS is newer than the versions that were tried (3.3 to 3.7).'] : []),
    ...rights
      .filter((right) => right.verdict !== 'granted')
      .map(
        (right) =>
          `${right.id} is ${right.verdict === 'denied' ? 'not granted' : 'not known'}: needed for ${right.neededFor}.`,
      ),
    ...(user.isAdmin
      ? [
          `${user.username} is an administrator of MAAS and could touch machines of others; a user of its own without that right is enough.`,
        ]
      : [
          `${user.username} sees free machines and its own; machines of other users are invisible to the gateway.`,
        ]),
  ];
}
