/** `ipaddresses/`: reserving and releasing single addresses, e.g. for virtual ones. */
import { type Call, flag, type Handler, mandatory } from '../call.ts';
import { parseIp } from '../ipv4.ts';
import { named } from '../lookup.ts';
import type { Subnet } from '../model.ts';
import { deleted, invalid, json, missing, plain, pythonRepr, raisedText, type Reply } from '../reply.ts';
import { renderAddress } from '../render-address.ts';
import type { Resource } from '../router.ts';

const MAC = /^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i;
const BAD_IP = 'Enter a valid IPv4 or IPv6 address.';

function checkMac(call: Call): void {
  const mac = call.form.get('mac');
  if (!mac) return;
  if (!MAC.test(mac))
    throw invalid({ mac_address: `${pythonRepr(mac)} is not a valid MAC address.` }, 'application/json');
  for (const machine of call.region.machines.values())
    if (machine.nics.some((nic) => nic.mac === mac.toLowerCase()))
      throw raisedText(
        400,
        `MAC address ${mac} already belongs to ${machine.hostname}. Use of the interface API is required, for an interface that belongs to a node.`,
      );
}

/** The subnet of the wanted address; a given subnet is not compared with it. */
function placeOf(call: Call, ip: string | undefined): Subnet {
  const { region, form } = call;
  const specifier = form.get('subnet');
  if (ip) {
    if (parseIp(ip) === undefined) throw invalid({ ip_address: BAD_IP });
    const subnet = region.subnetOf(ip);
    if (!subnet) throw raisedText(400, `No known subnet for IP address: ${ip}.`);
    return subnet;
  }
  if (!specifier) throw raisedText(400, "Must supply either the 'subnet' or the 'ip' parameter.");
  const subnet = region.findSubnet(specifier);
  if (!subnet) throw raisedText(400, `Unable to identify subnet: ${specifier}.`);
  return subnet;
}

function chooseIp(call: Call, subnet: Subnet, wanted: string | undefined): string {
  const { region, site } = call;
  const exhausted = () => raisedText(503, `No more IPs available in subnet: ${subnet.cidr}.`);
  if (!wanted) {
    if (site.faults.strikes('ip-exhausted', `reserve ${subnet.name} ${subnet.cidr}`)) throw exhausted();
    const next = region.nextFreeIp(subnet);
    if (!next) throw exhausted();
    return next;
  }
  if (region.addresses.has(wanted)) throw raisedText(404, `The IP address ${wanted} is already in use.`);
  const range = region.rangeAround(wanted);
  if (range?.type === 'reserved')
    throw raisedText(404, `${wanted} is within the reserved range from ${range.start} to ${range.end}`);
  if (range?.type === 'dynamic')
    throw raisedText(
      403,
      `IP address ${wanted} belongs to an existing dynamic range. To reserve this IP address, a MAC address is required. (Create a device instead.)`,
    );
  return wanted;
}

/** `host` goes to the default domain, `host.domain` to that one. */
function nameFor(call: Call, hostname: string | undefined): { name: string; domainId: number } | undefined {
  if (!hostname) return undefined;
  const [name = '', ...rest] = hostname.split('.');
  const domain = call.region.domains.find(rest.length > 0 ? named(rest.join('.')) : (one) => one.id === 0);
  if (!domain) throw missing('Domain');
  return { name, domainId: domain.id };
}

const reserve: Handler = (call) => {
  const { region, user, form } = call;
  const wanted = form.get('ip') || form.get('ip_address') || undefined;
  checkMac(call);
  const subnet = placeOf(call, wanted);
  const name = nameFor(call, form.get('hostname'));
  const ip = chooseIp(call, subnet, wanted);
  const at = region.now();
  const address = {
    ip,
    allocType: 4 as const,
    username: user.username,
    subnetId: subnet.id,
    machine: null,
    createdAt: at,
  };
  region.addresses.set(ip, address);
  region.ledger.record({ at, action: 'reserve-ip', user: user.username, agentName: '', ip });
  if (name) region.dnsResources.push({ id: region.nextId('dns'), ...name, addressTtl: null, ips: [ip] });
  return json(renderAddress(region, address));
};

const release: Handler = (call) => {
  const { region, user, form } = call;
  const ip = mandatory(form, 'ip');
  if (parseIp(ip) === undefined) throw invalid({ ip: BAD_IP });
  const force = flag(form, 'force');
  if (force && !user.admin) return plain(403, 'Force-releasing an IP address requires admin privileges.');
  const address = region.addresses.get(ip);
  if (!address || (!force && (address.allocType !== 4 || address.username !== user.username)))
    throw raisedText(
      400,
      `IP address ${ip} does not exist, is not the correct type of address, or does not belong to the requesting user.\nIf you are sure you want to release this address, use force=true as a MAAS administrator.`,
    );
  region.addresses.delete(ip);
  for (const resource of region.dnsResources) resource.ips = resource.ips.filter((one) => one !== ip);
  const gone = region.dnsResources.filter((one) => one.ips.length === 0 && one.addressTtl === null);
  for (const resource of gone) region.dnsResources.splice(region.dnsResources.indexOf(resource), 1);
  region.ledger.record({ at: region.now(), action: 'release-ip', user: user.username, agentName: '', ip });
  return deleted();
};

function list(call: Call): Reply {
  const { region, user, query } = call;
  const all = flag(query, 'all');
  const owner = query.get('owner');
  const ip = query.get('ip');
  if (all && !user.admin) return plain(403, 'Listing all IP addresses requires admin privileges.');
  if (owner !== undefined && owner !== user.username && !user.admin)
    return plain(403, "Listing another user's IP addresses requires admin privileges.");
  if (ip !== undefined && parseIp(ip) === undefined)
    return plain(400, "Parameter 'ip' must contain an IP address.");
  return json(
    [...region.addresses.values()]
      .filter((address) => ip === undefined || address.ip === ip)
      .filter((address) => all || (address.allocType === 4 && address.username === (owner ?? user.username)))
      .map((address) => renderAddress(region, address)),
  );
}

export const addressesResource: Resource = {
  path: /^ipaddresses\/$/,
  name: 'ipaddresses',
  methods: { GET: list },
  post: { reserve, release },
};
