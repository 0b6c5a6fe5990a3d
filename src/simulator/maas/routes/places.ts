/** Zones and resource pools. */
import { type Call, fields, forAdmin, type Handler } from '../call.ts';
import { found, named } from '../lookup.ts';
import type { Zone, Pool } from '../model.ts';
import { deleted, invalid, json, raisedText } from '../reply.ts';
import { renderPool, renderZone } from '../render.ts';
import type { Resource } from '../router.ts';

const NAME = /^[\w][ \w-]*$/;

/** MAAS's rules for the name of a place; throws the form's error. */
function checkName(
  call: Call,
  items: readonly { name: string }[],
  kind: string,
  current?: string,
): string | undefined {
  const name = fields(call).get('name');
  if (name === undefined || name === '') {
    if (current === undefined) throw invalid({ name: 'This field is required.' });
    return undefined;
  }
  if (name.includes('\0')) throw invalid({ name: 'Null characters are not allowed.' });
  if (!NAME.test(name)) throw invalid({ name: 'Enter a valid value.' });
  if (name !== current && items.some((item) => item.name === name))
    throw invalid({ name: `${kind} with this Name already exists.` });
  return name;
}

const byName = <T extends { readonly name: string }>(a: T, b: T): number => (a.name < b.name ? -1 : 1);

const zoneOf = (call: Call): Zone => found(call.region.zones, 'Zone', (zone) => zone.name === call.params[0]);

const createZone: Handler = (call) => {
  const name = checkName(call, call.region.zones, 'Physical zone') ?? '';
  const zone = { id: call.region.nextId('zone'), name, description: fields(call).get('description') ?? '' };
  call.region.zones.push(zone);
  return json(renderZone(zone));
};

const updateZone: Handler = (call) => {
  const zone = zoneOf(call);
  zone.name = checkName(call, call.region.zones, 'Physical zone', zone.name) ?? zone.name;
  zone.description = fields(call).get('description') ?? zone.description;
  return json(renderZone(zone));
};

/** Deleting what is not there succeeds; machines of a deleted zone fall to the default one. */
const deleteZone: Handler = ({ region, params }) => {
  const at = region.zones.findIndex((zone) => zone.name === params[0]);
  if (at === 0) throw raisedText(400, 'This zone is the default zone, it cannot be deleted.');
  const [zone] = at < 0 ? [] : region.zones.splice(at, 1);
  for (const machine of region.machines.values())
    if (machine.zoneId === zone?.id) machine.zoneId = region.zones[0]?.id ?? 1;
  return deleted();
};

const poolOf = (call: Call): Pool => found(call.region.pools, 'ResourcePool', named(call.params[0]));

const createPool: Handler = (call) => {
  const name = checkName(call, call.region.pools, 'Resource pool') ?? '';
  const pool = {
    id: call.region.nextId('pool', 0),
    name,
    description: fields(call).get('description') ?? '',
  };
  call.region.pools.push(pool);
  return json(renderPool(pool));
};

const updatePool: Handler = (call) => {
  const pool = poolOf(call);
  pool.name = checkName(call, call.region.pools, 'Resource pool', pool.name) ?? pool.name;
  pool.description = fields(call).get('description') ?? pool.description;
  return json(renderPool(pool));
};

const deletePool: Handler = (call) => {
  const pool = poolOf(call);
  if (pool.id === 0) throw raisedText(400, 'This is the default pool, it cannot be deleted.');
  if ([...call.region.machines.values()].some((machine) => machine.poolId === pool.id))
    throw raisedText(400, 'Pool has machines in it, it cannot be deleted.');
  call.region.pools.splice(call.region.pools.indexOf(pool), 1);
  return deleted();
};

export const placeResources: readonly Resource[] = [
  {
    path: /^zones\/$/,
    name: 'zones',
    methods: {
      GET: ({ region }) => json([...region.zones].sort(byName).map(renderZone)),
      POST: forAdmin(createZone),
    },
  },
  {
    path: /^zones\/([^/]+)\/$/,
    name: 'zone',
    methods: {
      GET: (call) => json(renderZone(zoneOf(call))),
      PUT: forAdmin(updateZone),
      DELETE: forAdmin(deleteZone),
    },
  },
  {
    path: /^resourcepools\/$/,
    name: 'resourcepools',
    methods: {
      GET: ({ region }) => json([...region.pools].sort(byName).map(renderPool)),
      POST: forAdmin(createPool),
    },
  },
  {
    path: /^resourcepool\/([^/]+)\/$/,
    name: 'resourcepool',
    methods: {
      GET: (call) => json(renderPool(poolOf(call))),
      PUT: forAdmin(updatePool),
      DELETE: forAdmin(deletePool),
    },
  },
];
