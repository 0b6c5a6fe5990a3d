/** Subnets with their statistics, IP ranges, fabrics, VLANs and spaces. */
import { type Call, fields, forAdmin, type Handler } from '../call.ts';
import { formatIp, hostRange, ipNumber, parseCidr, parseIp, type Range, rangeSize } from '../ipv4.ts';
import { found, named } from '../lookup.ts';
import type { Fabric, IpRange, Subnet, Vlan } from '../model.ts';
import type { Region } from '../region.ts';
import { deleted, invalid, json, missing, raisedText, type Reply } from '../reply.ts';
import { proseTime, renderFabric, renderIpRange, renderSpace, renderSubnet, renderVlan } from '../render.ts';
import type { Resource } from '../router.ts';

function subnetOf(call: Call): Subnet {
  const subnet = call.region.findSubnet(call.params[0] ?? '');
  if (!subnet) throw missing('Subnet');
  return subnet;
}

const rangeJson = (range: Range) => ({
  start: formatIp(range.start),
  end: formatIp(range.end),
  num_addresses: rangeSize(range),
});

const truthy = (text: string | undefined): boolean => /^(true|t|yes|y|on|1)$/i.test(text ?? '');

/** Python's banker-free percent: 29.13 becomes "29%". */
const percent = (share: number): string => `${Math.round(share * 100)}%`;

function statistics(call: Call): Reply {
  const { region, query } = call;
  const subnet = subnetOf(call);
  const hosts = hostRange(region.cidrOf(subnet));
  const free = region.freeRanges(subnet);
  const used = region.usedRanges(subnet);
  const total = rangeSize(hosts);
  const available = free.reduce((sum, range) => sum + rangeSize(range), 0);
  const usage = (total - available) / total;
  const ranges = [
    ...used.map((range) => ({ ...rangeJson(range), purpose: range.purpose })),
    ...free.map((range) => ({ ...rangeJson(range), purpose: ['unused'] })),
  ].sort((a, b) => ipNumber(a.start) - ipNumber(b.start));
  return json({
    num_available: available,
    largest_available: Math.max(0, ...free.map(rangeSize)),
    num_unavailable: total - available,
    total_addresses: total,
    usage,
    usage_string: percent(usage),
    available_string: percent(1 - usage),
    first_address: formatIp(hosts.start),
    last_address: formatIp(hosts.end),
    ip_version: 4,
    ...(truthy(query.get('include_ranges')) || truthy(query.get('include_suggestions')) ? { ranges } : {}),
    ...(truthy(query.get('include_suggestions'))
      ? { suggested_gateway: null, suggested_dynamic_range: null }
      : {}),
  });
}

function subnetAddresses(call: Call): Reply {
  const { region, query } = call;
  const subnet = subnetOf(call);
  const withUser = query.get('with_username') !== '0';
  const withSummary = query.get('with_summary') !== '0';
  const summary = (systemId: string, via: string | undefined) => {
    const machine = region.machines.get(systemId);
    if (!machine || !withSummary) return {};
    return {
      node_summary: {
        system_id: systemId,
        node_type: 0,
        fqdn: region.fqdn(machine),
        hostname: machine.hostname,
        is_container: false,
        via: via ?? '',
      },
    };
  };
  const own = [...region.addresses.values()]
    .filter((address) => address.subnetId === subnet.id)
    .map((address) => ({
      ip: address.ip,
      alloc_type: address.allocType as number,
      created: proseTime(address.createdAt),
      updated: proseTime(address.createdAt),
      ...(withUser && address.username !== null ? { user: address.username } : {}),
      ...(address.machine
        ? summary(
            address.machine.systemId,
            region.machines
              .get(address.machine.systemId)
              ?.nics.find((nic) => nic.id === address.machine?.interfaceId)?.name,
          )
        : {}),
    }));
  const started = region.now();
  const discovered = [...region.machines.values()].flatMap((machine) =>
    machine.nics.flatMap((nic) =>
      nic.discovered?.subnetId === subnet.id
        ? [
            {
              ip: nic.discovered.ip,
              alloc_type: 6,
              created: proseTime(started),
              updated: proseTime(started),
              ...summary(machine.systemId, nic.name),
            },
          ]
        : [],
    ),
  );
  return json([...own, ...discovered].sort((a, b) => ipNumber(a.ip) - ipNumber(b.ip)));
}

const createSubnet: Handler = (call) => {
  const { region } = call;
  const form = fields(call);
  const text = form.get('cidr') ?? '';
  const cidr = parseCidr(text);
  if (text === '') throw invalid({ cidr: 'This field is required.' });
  if (!cidr) throw invalid({ cidr: 'Enter a valid network.' });
  if (region.subnets.some((one) => one.cidr === cidr.text))
    throw invalid({ cidr: 'Subnet with this Cidr already exists.' });
  const gateway = form.get('gateway_ip') || null;
  const gatewayNumber = gateway === null ? undefined : parseIp(gateway);
  if (gatewayNumber !== undefined && (gatewayNumber < cidr.network || gatewayNumber > cidr.broadcast))
    throw invalid({ gateway_ip: 'Gateway IP must be within CIDR range.' });
  const vlan = region.vlans.find((one) => String(one.id) === form.get('vlan')) ?? region.vlans[0];
  const subnet: Subnet = {
    id: region.nextId('subnet'),
    name: form.get('name') || text,
    description: form.get('description') ?? '',
    vlanId: vlan?.id ?? 1,
    cidr: cidr.text,
    gateway,
    dnsServers: (form.get('dns_servers') ?? '').split(/[\s,]+/).filter((ip) => ip !== ''),
    managed: form.get('managed') !== 'false',
  };
  region.subnets.push(subnet);
  return json(renderSubnet(region, subnet));
};

const updateSubnet: Handler = (call) => {
  const subnet = subnetOf(call);
  const form = fields(call);
  subnet.name = form.get('name') ?? subnet.name;
  subnet.description = form.get('description') ?? subnet.description;
  if (form.has('gateway_ip')) subnet.gateway = form.get('gateway_ip') || null;
  return json(renderSubnet(call.region, subnet));
};

const deleteSubnet: Handler = (call) => {
  call.region.subnets.splice(call.region.subnets.indexOf(subnetOf(call)), 1);
  return deleted();
};

// IP ranges

const isType = (text: string): text is IpRange['type'] => text === 'dynamic' || text === 'reserved';

function checkSpan(
  region: Region,
  type: IpRange['type'],
  start: string,
  end: string,
  self?: IpRange,
): Subnet {
  const [from, to] = [ipNumber(start), ipNumber(end)];
  if (to < from) throw invalid({ end_ip: 'End IP address must not be less than Start IP address.' });
  const subnet = region.subnetOf(start);
  if (!subnet) throw invalid({ subnet: 'This field is required.' });
  const clash = region.ipRanges.some(
    (one) => one !== self && ipNumber(one.start) <= to && ipNumber(one.end) >= from,
  );
  const taken =
    type === 'dynamic' &&
    [...region.addresses.keys()].some((ip) => ipNumber(ip) >= from && ipNumber(ip) <= to);
  if (clash || taken) {
    const what = type === 'dynamic' ? 'an existing IP address or range' : 'an existing range';
    const text = `Requested ${type} range conflicts with ${what}.`;
    throw invalid({ start_ip: text, end_ip: text });
  }
  return subnet;
}

const createRange: Handler = (call) => {
  const { region, user } = call;
  const form = fields(call);
  const type = form.get('type') ?? '';
  const errors: Record<string, string | string[]> = {};
  const both = 'Start IP address and end IP address are both required.';
  if (type === '') errors.type = 'This field is required.';
  else if (!isType(type)) errors.type = `Select a valid choice. ${type} is not one of the available choices.`;
  const start = form.get('start_ip') ?? '';
  const end = form.get('end_ip') ?? '';
  if (start === '' || end === '') {
    errors[start === '' ? 'start_ip' : 'end_ip'] = ['This field is required.', both];
    errors[start === '' ? 'end_ip' : 'start_ip'] = [both];
  } else if (parseIp(start) === undefined || parseIp(end) === undefined)
    errors[parseIp(start) === undefined ? 'start_ip' : 'end_ip'] = 'Enter a valid IPv4 or IPv6 address.';
  if (type === 'dynamic' && !user.admin)
    throw raisedText(403, "Unable to create dynamic IP range. You don't have sufficient privileges.");
  if (Object.keys(errors).length > 0 || !isType(type)) throw invalid(errors);
  const subnet = checkSpan(region, type, start, end);
  const range: IpRange = {
    id: region.nextId('iprange'),
    type,
    start,
    end,
    subnetId: subnet.id,
    username: user.username,
    comment: form.get('comment') ?? '',
  };
  region.ipRanges.push(range);
  return json(renderIpRange(region, range));
};

const rangeOf = (call: Call): IpRange =>
  found(call.region.ipRanges, 'IPRange', (one) => String(one.id) === call.params[0]);

function ownRange(call: Call): IpRange {
  const range = rangeOf(call);
  if (!call.user.admin && range.username !== call.user.username)
    throw raisedText(403, "Unable to modify IP range. You don't own the IP range.");
  return range;
}

const updateRange: Handler = (call) => {
  const range = ownRange(call);
  const form = fields(call);
  const start = form.get('start_ip') ?? range.start;
  const end = form.get('end_ip') ?? range.end;
  checkSpan(call.region, range.type, start, end, range);
  Object.assign(range, { start, end, comment: form.get('comment') ?? range.comment });
  return json(renderIpRange(call.region, range));
};

const deleteRange: Handler = (call) => {
  call.region.ipRanges.splice(call.region.ipRanges.indexOf(ownRange(call)), 1);
  return deleted();
};

// Fabrics and VLANs

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
  if (truthy(form.get('dhcp_on'))) {
    const subnets = region.subnets.filter((one) => one.vlanId === vlan.id).map((one) => one.id);
    if (!region.ipRanges.some((one) => one.type === 'dynamic' && subnets.includes(one.subnetId)))
      throw invalid({ dhcp_on: 'dhcp can only be turned on when a dynamic IP range is defined.' });
    vlan.dhcpOn = true;
  }
  vlan.name = form.get('name') ?? vlan.name;
  return json(renderVlan(region, vlan));
};

export const networkResources: readonly Resource[] = [
  {
    path: /^subnets\/$/,
    name: 'subnets',
    methods: {
      GET: ({ region }) => json(region.subnets.map((one) => renderSubnet(region, one))),
      POST: forAdmin(createSubnet),
    },
  },
  {
    path: /^subnets\/([.: \w-]+(?:\/\d\d\d?)?)\/$/,
    name: 'subnet',
    methods: {
      GET: (call) => json(renderSubnet(call.region, subnetOf(call))),
      PUT: forAdmin(updateSubnet),
      DELETE: forAdmin(deleteSubnet),
    },
    get: {
      statistics,
      ip_addresses: subnetAddresses,
      unreserved_ip_ranges: (call) => json(call.region.freeRanges(subnetOf(call)).map(rangeJson)),
      reserved_ip_ranges: (call) =>
        json(
          call.region
            .usedRanges(subnetOf(call))
            .map((range) => ({ ...rangeJson(range), purpose: range.purpose })),
        ),
    },
  },
  {
    path: /^ipranges\/$/,
    name: 'ipranges',
    methods: {
      GET: ({ region }) => json(region.ipRanges.map((one) => renderIpRange(region, one))),
      POST: createRange,
    },
  },
  {
    path: /^ipranges\/([^/]+)\/$/,
    name: 'iprange',
    methods: {
      GET: (call) => json(renderIpRange(call.region, rangeOf(call))),
      PUT: updateRange,
      DELETE: deleteRange,
    },
  },
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
