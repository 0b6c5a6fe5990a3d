/** Fabrics, their VLANs, and spaces. */
import { type Call, fields, forAdmin, type Handler, saysYes } from '../call.ts';
import { found, named } from '../lookup.ts';
import type { Fabric, Vlan } from '../model.ts';
import type { Region } from '../region.ts';
import { deleted, invalid, json, raisedText } from '../reply.ts';
import { renderFabric, renderSpace, renderVlan } from '../render.ts';
import type { Resource } from '../router.ts';

const fabricOf = (call: Call): Fabric => found(call.region.fabrics, 'Fabric', named(call.params[0]));

const createFabric: Handler = (call) => {
  const { region } = call;
  const form = fields(call);
  const id = region.nextId('fabric', 0);
  const fabric = { id, name: form.get('name') || `fabric-${id}`, classType: form.get('class_type') || null };
  region.fabrics.push(fabric);
  region.vlans.push(newVlan(region, fabric.id, 0, 'untagged'));
  return json(renderFabric(region, fabric));
};

const newVlan = (region: Region, fabricId: number, vid: number, name: string): Vlan => ({
  id: region.nextId('vlan'),
  fabricId,
  vid,
  name,
  mtu: 1500,
  dhcpOn: false,
  space: 'undefined',
});

const deleteFabric: Handler = (call) => {
  const { region } = call;
  const fabric = fabricOf(call);
  if (fabric.id === 0) throw raisedText(400, 'This fabric is the default fabric, it cannot be deleted.');
  region.fabrics.splice(region.fabrics.indexOf(fabric), 1);
  for (const vlan of region.vlans.filter((one) => one.fabricId === fabric.id))
    region.vlans.splice(region.vlans.indexOf(vlan), 1);
  return deleted();
};

function vlanOf(call: Call): Vlan {
  const [first, vid] = call.params;
  if (vid === undefined) return found(call.region.vlans, 'VLAN', (one) => String(one.id) === first);
  const fabric = fabricOf(call);
  return found(call.region.vlans, 'VLAN', (one) => one.fabricId === fabric.id && String(one.vid) === vid);
}

const createVlan: Handler = (call) => {
  const { region } = call;
  const fabric = fabricOf(call);
  const form = fields(call);
  const vid = Number(form.get('vid') ?? Number.NaN);
  if (!Number.isInteger(vid)) throw invalid({ vid: 'This field is required.' });
  if (vid < 0 || vid > 4094) throw invalid({ vid: 'VID must be between 0 and 4094.' });
  if (region.vlans.some((one) => one.fabricId === fabric.id && one.vid === vid))
    throw invalid(
      { __all__: 'A VLAN with the specified VID already exists in the destination fabric.' },
      'application/json',
    );
  const vlan = newVlan(region, fabric.id, vid, form.get('name') || String(vid));
  region.vlans.push(vlan);
  return json(renderVlan(region, vlan));
};

const updateVlan: Handler = (call) => {
  const { region } = call;
  const vlan = vlanOf(call);
  const form = fields(call);
  if (saysYes(form.get('dhcp_on'))) {
    const subnets = region.subnets.filter((one) => one.vlanId === vlan.id).map((one) => one.id);
    if (!region.ipRanges.some((one) => one.type === 'dynamic' && subnets.includes(one.subnetId)))
      throw invalid({ dhcp_on: 'dhcp can only be turned on when a dynamic IP range is defined.' });
    vlan.dhcpOn = true;
  }
  vlan.name = form.get('name') ?? vlan.name;
  return json(renderVlan(region, vlan));
};

export const fabricResources: readonly Resource[] = [
  {
    path: /^fabrics\/$/,
    name: 'fabrics',
    methods: {
      GET: ({ region }) => json(region.fabrics.map((one) => renderFabric(region, one))),
      POST: forAdmin(createFabric),
    },
  },
  {
    path: /^fabrics\/([^/]+)\/$/,
    name: 'fabric',
    methods: {
      GET: (call) => json(renderFabric(call.region, fabricOf(call))),
      DELETE: forAdmin(deleteFabric),
    },
  },
  {
    path: /^fabrics\/([^/]+)\/vlans\/$/,
    name: 'vlans',
    methods: {
      GET: (call) => {
        const fabric = fabricOf(call);
        const vlans = call.region.vlans.filter((one) => one.fabricId === fabric.id);
        return json(vlans.map((one) => renderVlan(call.region, one)));
      },
      POST: forAdmin(createVlan),
    },
  },
  ...[/^fabrics\/([^/]+)\/vlans\/(\d+)\/$/, /^vlans\/([^/]+)\/$/].map(
    (path): Resource => ({
      path,
      name: 'vlan',
      methods: { GET: (call) => json(renderVlan(call.region, vlanOf(call))), PUT: forAdmin(updateVlan) },
    }),
  ),
  {
    path: /^spaces\/$/,
    name: 'spaces',
    methods: { GET: ({ region }) => json(region.spaces.map((one) => renderSpace(region, one))) },
  },
  {
    path: /^spaces\/([^/]+)\/$/,
    name: 'space',
    methods: {
      GET: (call) =>
        json(renderSpace(call.region, found(call.region.spaces, 'Space', named(call.params[0])))),
    },
  },
];
