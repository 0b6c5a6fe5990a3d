/** Wire forms of everything but machines: field names, nulls and URIs as MAAS 2.0 has them. */
import type {
  BootResource,
  Domain,
  Fabric,
  IpRange,
  Pool,
  Space,
  SshKey,
  Subnet,
  Tag,
  User,
  Vlan,
  Zone,
} from './model.ts';
import type { Region } from './region.ts';

export const API = '/MAAS/api/2.0';

export const renderZone = (zone: Zone) => ({
  name: zone.name,
  description: zone.description,
  id: zone.id,
  resource_uri: `${API}/zones/${zone.name}/`,
});

export const renderPool = (pool: Pool) => ({
  name: pool.name,
  description: pool.description,
  id: pool.id,
  resource_uri: `${API}/resourcepool/${pool.id}/`,
});

export function renderDomain(region: Region, domain: Domain) {
  return {
    authoritative: domain.authoritative,
    ttl: domain.ttl,
    is_default: domain.id === 0,
    resource_record_count:
      region.dnsResources.filter((one) => one.domainId === domain.id).length +
      region.dnsRecords.filter((one) => one.domainId === domain.id).length,
    id: domain.id,
    name: domain.name,
    resource_uri: `${API}/domains/${domain.id}/`,
  };
}

export const renderUser = (user: User) => ({
  is_superuser: user.admin,
  username: user.username,
  email: user.email,
  is_local: true,
  resource_uri: `${API}/users/${user.username}/`,
});

export function renderVlan(region: Region, vlan: Vlan) {
  return {
    vid: vlan.vid,
    mtu: vlan.mtu,
    dhcp_on: vlan.dhcpOn,
    external_dhcp: null,
    relay_vlan: null,
    name: vlan.name,
    fabric_id: vlan.fabricId,
    fabric: region.fabric(vlan.fabricId).name,
    secondary_rack: null,
    primary_rack: vlan.dhcpOn ? region.rackSystemId : null,
    space: vlan.space,
    id: vlan.id,
    resource_uri: `${API}/vlans/${vlan.id}/`,
  };
}

export function renderSubnet(region: Region, subnet: Subnet) {
  const vlan = region.vlan(subnet.vlanId);
  return {
    name: subnet.name,
    description: subnet.description,
    vlan: renderVlan(region, vlan),
    cidr: subnet.cidr,
    rdns_mode: 2,
    gateway_ip: subnet.gateway,
    dns_servers: subnet.dnsServers,
    allow_dns: true,
    allow_proxy: true,
    active_discovery: false,
    managed: subnet.managed,
    disabled_boot_architectures: [],
    space: vlan.space,
    id: subnet.id,
    resource_uri: `${API}/subnets/${subnet.id}/`,
  };
}

export const renderFabric = (region: Region, fabric: Fabric) => ({
  class_type: fabric.classType,
  vlans: region.vlans.filter((vlan) => vlan.fabricId === fabric.id).map((vlan) => renderVlan(region, vlan)),
  name: fabric.name,
  id: fabric.id,
  resource_uri: `${API}/fabrics/${fabric.id}/`,
});

export function renderSpace(region: Region, space: Space) {
  const vlans = region.vlans.filter((vlan) => vlan.space === space.name);
  return {
    description: space.description,
    id: space.id,
    subnets: region.subnets
      .filter((subnet) => vlans.some((vlan) => vlan.id === subnet.vlanId))
      .map((subnet) => renderSubnet(region, subnet)),
    vlans: vlans.map((vlan) => renderVlan(region, vlan)),
    name: space.name,
    resource_uri: `${API}/spaces/${space.id}/`,
  };
}

export function renderIpRange(region: Region, range: IpRange) {
  const subnet = region.subnet(range.subnetId);
  const user = range.username === null ? undefined : region.users.get(range.username);
  return {
    subnet: subnet ? renderSubnet(region, subnet) : null,
    type: range.type,
    start_ip: range.start,
    end_ip: range.end,
    user: user ? renderUser(user) : null,
    comment: range.comment,
    id: range.id,
    resource_uri: `${API}/ipranges/${range.id}/`,
  };
}

/** `2026-11-21T05:58:54.666` */
export const isoTime = (at: number): string => new Date(at).toISOString().slice(0, 23);

/** `Sat, 21 Nov. 2026 05:58:52`: MAAS's way in events and address lists. */
export function proseTime(at: number): string {
  const [weekday, day, month, year, time] = new Date(at).toUTCString().replace(',', '').split(' ');
  return `${weekday}, ${day} ${month}. ${year} ${time}`;
}

export const renderTag = (tag: Tag) => ({
  name: tag.name,
  definition: tag.definition,
  comment: tag.comment,
  kernel_opts: tag.kernelOpts,
  resource_uri: `${API}/tags/${tag.name}/`,
});

export const renderSshKey = (key: SshKey) => ({
  key: key.key,
  keysource: key.keysource ?? '',
  id: key.id,
  resource_uri: `${API}/account/prefs/sshkeys/${key.id}/`,
});

export function renderImage(image: BootResource) {
  return {
    id: image.id,
    type: image.uploaded ? 'Uploaded' : 'Synced',
    name: image.name,
    architecture: image.architecture,
    resource_uri: `${API}/boot-resources/${image.id}/`,
    last_deployed: image.lastDeployedAt === null ? null : isoTime(image.lastDeployedAt),
    title: image.title,
    ...(image.uploaded
      ? image.name.includes('/')
        ? {}
        : { base_image: image.baseImage }
      : { platform: 'generic', supported_platforms: 'generic' }),
    ...(image.subarches === '' ? {} : { subarches: image.subarches }),
  };
}

/** Adds the versions: an image can be deployed when its newest set is complete. */
export function renderImageWithSets(image: BootResource) {
  const version = '20260401';
  const files = image.uploaded
    ? [['root.tgz', 'root-tgz']]
    : [
        ['boot-initrd', 'boot-initrd'],
        ['boot-kernel', 'boot-kernel'],
        ['squashfs', 'squashfs'],
      ];
  const part = Math.floor(image.sizeBytes / files.length);
  return {
    ...renderImage(image),
    sets: {
      [version]: {
        version,
        label: image.uploaded ? 'uploaded' : 'stable',
        size: part * files.length,
        complete: image.complete,
        ...(image.complete ? {} : { progress: 40 }),
        files: Object.fromEntries(
          files.map(([filename, filetype]) => [
            filename,
            {
              filename,
              filetype,
              sha256: ''.padEnd(64, String(image.id % 10)),
              filename_on_disk: ''.padEnd(7, String(image.id % 10)),
              size: part,
              complete: image.complete,
              ...(image.complete
                ? {}
                : { progress: 40, upload_uri: `${API}/boot-resources/${image.id}/upload/1/` }),
            },
          ]),
        ),
      },
    },
  };
}
