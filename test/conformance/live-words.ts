/** Names and ids of the recorded site, and what stands in for them at another one. */
import type { Caller } from '../support/maas-caller.ts';
import type { LiveDoor } from './live-door.ts';

/** What there is, and `undefined` for what this site does not have. */
export type Words = readonly (readonly [recorded: string, today: string | undefined])[];

export interface LiveMachine {
  readonly system_id: string;
  readonly hostname: string;
  readonly architecture: string;
  readonly cpu_count: number;
  readonly memory: number;
  readonly locked: boolean;
  readonly power_type: string;
  readonly zone: { readonly name: string };
  readonly pool: { readonly name: string; readonly id: number };
  readonly interface_set: readonly { readonly mac_address: string }[];
}

export interface LiveImage {
  readonly id: number;
  readonly name: string;
  readonly architecture: string;
}

export interface Stock {
  readonly ready: readonly LiveMachine[];
  readonly images: readonly LiveImage[];
  readonly words: Words;
}

async function get<T>(call: Caller, path: string): Promise<T> {
  const { status, json, text } = await call('GET', path);
  if (status !== 200) throw new Error(`GET ${path}: ${status} ${text.slice(0, 200)}`);
  return json as T;
}

/** Looks around. Throws when MAAS refuses one of these questions. */
export async function takeStock({ base, call, username }: LiveDoor): Promise<Stock> {
  const ready = await get<LiveMachine[]>(call, 'machines/?status=ready');
  const images = await get<LiveImage[]>(call, 'boot-resources/');
  const [subnet] = await get<{ id: number; name: string; cidr: string }[]>(call, 'subnets/');
  const [fabric] = await get<{ id: number; name: string }[]>(call, 'fabrics/');
  const [domain] = await get<{ name: string }[]>(call, 'domains/');
  const zones = await get<{ name: string }[]>(call, 'zones/');
  const pools = await get<{ id: number; name: string }[]>(call, 'resourcepools/');
  const [first, second = first] = ready;
  const zone = first?.zone ?? zones[0];
  const other = zones.find(({ name }) => name !== zone?.name) ?? zone;
  const pool = first?.pool ?? pools[0];
  const root = base.pathname.replace(/\/$/, '');
  return {
    ready,
    images,
    words: [
      ...(root === '/MAAS' ? [] : ([['/MAAS', root]] as const)),
      ['ay7beq', first?.system_id],
      ['bn3wxy', second?.system_id],
      ['node-01', first?.hostname],
      ['node-02', second?.hostname],
      ['52:54:00:01:00:01', first?.interface_set[0]?.mac_address],
      ['52:54:00:01:00:02', second?.interface_set[0]?.mac_address],
      ['az1', zone?.name],
      ['az2', other?.name],
      ['pcg-pool', pool?.name],
      ['mgmt-net', subnet?.name],
      ['10.10.0.0/24', subnet?.cidr],
      ['10.10.0.0%2F24', subnet && encodeURIComponent(subnet.cidr)],
      ['/subnets/1/', subnet && `/subnets/${subnet.id}/`],
      ['/resourcepool/1/', pool && `/resourcepool/${pool.id}/`],
      ['/boot-resources/4/', images[0] && `/boot-resources/${images[0].id}/`],
      ['/fabrics/0/', fabric && `/fabrics/${fabric.id}/`],
      ['fabric-0', fabric?.name],
      ['domain=maas', domain && `domain=${domain.name}`],
      ['owner=admin', `owner=${username}`],
      ['/users/admin/', `/users/${username}/`],
    ],
  };
}
