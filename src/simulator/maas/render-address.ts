/** Wire forms of addresses and of the DNS entries that hold them. */
import { parseIp } from './ipv4.ts';
import type { DnsRecord, DnsResource, IpAddress } from './model.ts';
import type { Region } from './region.ts';
import { API, isoTime, renderSubnet, renderUser } from './render.ts';
import { renderNic } from './render-machine.ts';

const ALLOC_TYPE_NAMES: Record<number, string> = {
  0: 'Automatic',
  1: 'Sticky',
  4: 'User reserved',
  5: 'DHCP',
  6: 'Discovered',
};

export function renderAddress(region: Region, address: IpAddress) {
  const subnet = address.subnetId === null ? undefined : region.subnet(address.subnetId);
  const owner = address.username === null ? undefined : region.users.get(address.username);
  const machine = address.machine ? region.machines.get(address.machine.systemId) : undefined;
  const nic = machine?.nics.find((one) => one.id === address.machine?.interfaceId);
  return {
    created: isoTime(address.createdAt),
    ip: address.ip,
    alloc_type: address.allocType,
    subnet: subnet ? renderSubnet(region, subnet) : null,
    interface_set: machine && nic ? [renderNic(region, machine, nic)] : [],
    alloc_type_name: ALLOC_TYPE_NAMES[address.allocType] ?? '',
    owner: owner ? renderUser(owner) : null,
    resource_uri: `${API}/ipaddresses/`,
  };
}

export function renderDnsResource(region: Region, resource: DnsResource) {
  const addresses = [...resource.ips].sort((a, b) => (parseIp(a) ?? 0) - (parseIp(b) ?? 0));
  return {
    address_ttl: resource.addressTtl,
    ip_addresses: addresses.flatMap((ip) => {
      const address = region.addresses.get(ip);
      return address ? [renderAddress(region, address)] : [];
    }),
    fqdn: `${resource.name}.${region.domain(resource.domainId).name}`,
    id: resource.id,
    resource_records: region.dnsRecords
      .filter((record) => record.name === resource.name && record.domainId === resource.domainId)
      .map((record) => renderDnsRecord(region, record)),
    resource_uri: `${API}/dnsresources/${resource.id}/`,
  };
}

export function renderDnsRecord(region: Region, record: DnsRecord) {
  return {
    ttl: record.ttl,
    rrtype: record.rrtype,
    rrdata: record.rrdata,
    fqdn: `${record.name}.${region.domain(record.domainId).name}`,
    id: record.id,
    resource_uri: `${API}/dnsresourcerecords/${record.id}/`,
  };
}
