/** Subnets: what they are, what in them is used and free, and who holds which address. */
import { type Call, fields, forAdmin, type Handler, saysYes } from '../call.ts';
import { formatIp, hostRange, ipNumber, parseCidr, parseIp, type Range, rangeSize } from '../ipv4.ts';
import type { Subnet } from '../model.ts';
import { deleted, invalid, json, missing, type Reply } from '../reply.ts';
import { proseTime, renderSubnet } from '../render.ts';
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
    ...(saysYes(query.get('include_ranges')) || saysYes(query.get('include_suggestions')) ? { ranges } : {}),
    ...(saysYes(query.get('include_suggestions'))
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

export const subnetResources: readonly Resource[] = [
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
];
