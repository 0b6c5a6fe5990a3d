/**
 * Turns a scenario into a region's books. MAAS numbers some kinds from 0 (pools, fabrics, domains), the
 * rest from 1; clients see these ids, so they are kept.
 */
import type { MachineSeed, Scenario } from '../scenario.ts';
import { formatIp, ipNumber } from './ipv4.ts';
import type { Disk, Machine, Nic, Subnet } from './model.ts';
import type { Region } from './region.ts';

const GIGABYTE = 1e9;
const MIB = 2 ** 20;
/** EFI system partition, as MAAS's flat layout makes it. */
const EFI_BYTES = 512 * MIB;

function uuidFrom(region: Region): string {
  const hex = region.random.text('0123456789abcdef', 32);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** MAAS's default layout: an EFI partition and one for `/` on the boot disk. */
export function flatLayout(region: Region, disk: Disk): void {
  const partition = (
    sizeBytes: number,
    fstype: string,
    label: string,
    mountPoint: string,
    bootable: boolean,
  ) => ({
    id: region.nextId('partition'),
    sizeBytes,
    bootable,
    fstype,
    label,
    mountPoint,
    uuid: uuidFrom(region),
    fsUuid: uuidFrom(region),
  });
  const root = Math.floor((disk.sizeBytes - EFI_BYTES) / (4 * MIB)) * 4 * MIB - 4 * MIB;
  disk.partitions = [
    partition(EFI_BYTES, 'fat32', 'efi', '/boot/efi', true),
    partition(root, 'ext4', 'root', '/', false),
  ];
}

function buildNics(region: Region, seed: MachineSeed): Nic[] {
  return seed.nics.map((nic): Nic => {
    const subnet = region.subnets.find((one) => one.name === nic.subnet);
    const id = region.nextId('interface');
    const tail = [id >> 16, id >> 8, id].map((part) => (part & 255).toString(16).padStart(2, '0')).join(':');
    return {
      id,
      name: nic.name,
      mac: nic.mac ?? `52:54:00:${tail}`,
      vlanId: subnet?.vlanId ?? region.vlans.at(-1)?.id ?? 1,
      speedMbit: nic.speedMbit,
      links: [
        {
          id: region.nextId('link'),
          mode: subnet ? 'auto' : 'link_up',
          subnetId: subnet?.id ?? null,
          ip: null,
        },
      ],
      discovered: subnet ? discoveredAddress(region, subnet) : null,
    };
  });
}

/** The next address of the dynamic range, as DHCP gave it while the machine was commissioned. */
function discoveredAddress(region: Region, subnet: Subnet): { subnetId: number; ip: string } | null {
  const range = region.ipRanges.find((one) => one.subnetId === subnet.id && one.type === 'dynamic');
  if (!range) return null;
  const first = ipNumber(range.start);
  const size = ipNumber(range.end) - first + 1;
  return { subnetId: subnet.id, ip: formatIp(first + (region.nextId(`dhcp-${subnet.id}`, 0) % size)) };
}

/** What MAAS keeps of a BMC, by power type; machines without one have nothing. */
function powerParameters(region: Region, type: string): Record<string, string | string[]> {
  const number = region.nextId('bmc');
  const address = `10.99.${number >> 8}.${number & 255}`;
  const login = { power_user: 'maas', power_pass: 'simulated' };
  switch (type) {
    case '':
    case 'manual':
      return {};
    case 'lxd':
    case 'virsh':
      return { power_address: `qemu+ssh://${address}/system`, power_pass: '', power_id: `vm-${number}` };
    case 'ipmi':
      return {
        power_address: address,
        ...login,
        power_driver: 'LAN_2_0',
        power_boot_type: 'auto',
        cipher_suite_id: '3',
        privilege_level: 'OPERATOR',
        workaround_flags: ['opensesspriv'],
        k_g: '',
      };
    default:
      return { power_address: address, ...login, node_id: '' };
  }
}

export function addMachine(region: Region, seed: MachineSeed, composed = false): Machine {
  const disks = seed.disks.map(
    (disk): Disk => ({
      id: region.nextId('disk'),
      name: disk.name,
      model: disk.model,
      serial: region.random.text('0123456789ABCDEF', 14),
      sizeBytes: disk.sizeGb * GIGABYTE,
      tags: disk.tags,
      partitions: [],
    }),
  );
  if (disks[0]) flatLayout(region, disks[0]);
  const status = seed.status ?? 'ready';
  const machine: Machine = {
    systemId: seed.systemId ?? region.newSystemId(),
    hostname: seed.hostname,
    domainId: region.domains.find((domain) => domain.name === seed.domain)?.id ?? 0,
    description: '',
    hardwareUuid: uuidFrom(region),
    vendor: seed.vendor,
    product: seed.product,
    serial: region.random.text('0123456789ABCDEFGHJKLMNPQRSTUVWXYZ', 7),
    cpuModel: seed.cpuModel,
    architecture: seed.architecture,
    cpuCount: seed.cpuCount,
    cpuSpeedMhz: seed.cpuSpeedMhz,
    memoryMiB: seed.memoryMiB,
    zoneId: region.zones.find((zone) => zone.name === seed.zone)?.id ?? 1,
    poolId: region.pools.find((pool) => pool.name === seed.pool)?.id ?? 0,
    tags: new Set(seed.tags),
    nics: buildNics(region, seed),
    disks,
    powerType: seed.powerType,
    powerParameters: powerParameters(region, seed.powerType),
    minHweKernel: null,
    swapSize: null,
    composed,
    commissioned: status !== 'new' && status !== 'failed_commissioning',
    status,
    previousStatus: 'ready',
    owner: seed.owner ?? null,
    ownerData: new Map(),
    agentName: '',
    locked: false,
    errorDescription: seed.errorDescription ?? '',
    osystem: '',
    distroSeries: '',
    hweKernel: null,
    ephemeralDeploy: false,
    enableHwSync: false,
    enableKernelCrashDump: false,
    netboot: true,
    powerState: 'off',
    bmcPower: 'off',
    userData: null,
    statusMessage: null,
    installLog: '',
    incarnation: 0,
  };
  region.machines.set(machine.systemId, machine);
  if (status === 'deployed') {
    Object.assign(machine, {
      osystem: 'ubuntu',
      distroSeries: 'jammy',
      hweKernel: 'ga-22.04',
      netboot: false,
    });
    Object.assign(machine, { powerState: 'on', bmcPower: 'on', statusMessage: 'Deployed' });
    region.claimAutoIps(machine);
  }
  return machine;
}

export function populate(region: Region, scenario: Scenario): void {
  for (const seed of scenario.users) {
    region.users.set(seed.username, {
      username: seed.username,
      email: seed.email,
      admin: seed.admin,
      active: true,
    });
    const token = region.newToken(seed.username, 'MAAS consumer');
    const [consumer, key, secret] = seed.apiKey?.split(':') ?? [];
    if (consumer && key && secret) Object.assign(token, { consumer, key, secret });
  }
  for (const zone of scenario.zones) region.zones.push({ id: region.nextId('zone'), ...zone });
  for (const pool of scenario.pools) region.pools.push({ id: region.nextId('pool', 0), ...pool });
  for (const domain of scenario.domains)
    region.domains.push({ id: region.nextId('domain', 0), authoritative: true, ...domain });
  for (const name of scenario.spaces)
    region.spaces.push({ id: region.nextId('space'), name, description: '' });
  for (const { fabric: name, ...vlan } of scenario.vlans) {
    let fabric = region.fabrics.find((one) => one.name === name);
    if (!fabric) {
      fabric = { id: region.nextId('fabric', 0), name, classType: null };
      region.fabrics.push(fabric);
    }
    region.vlans.push({ id: region.nextId('vlan'), fabricId: fabric.id, ...vlan });
  }
  for (const seed of scenario.subnets) {
    const fabric = region.fabrics.find((one) => one.name === seed.fabric);
    const vlan = region.vlans.find((one) => one.fabricId === fabric?.id && one.vid === seed.vid);
    const subnet: Subnet = {
      id: region.nextId('subnet'),
      name: seed.name,
      description: '',
      vlanId: vlan?.id ?? 1,
      cidr: seed.cidr,
      gateway: seed.gateway,
      dnsServers: [...seed.dnsServers],
      managed: seed.managed,
    };
    region.subnets.push(subnet);
    for (const { start, end, type, comment } of seed.ranges)
      region.ipRanges.push({
        id: region.nextId('iprange'),
        type,
        start,
        end,
        comment,
        subnetId: subnet.id,
        username: null,
      });
    for (const ip of seed.sticky)
      region.addresses.set(ip, {
        ip,
        allocType: 1,
        username: null,
        subnetId: subnet.id,
        machine: null,
        createdAt: region.now(),
      });
  }
  for (const tag of scenario.tags) region.tags.set(tag.name, { ...tag, definition: '', kernelOpts: '' });
  for (const image of scenario.images)
    region.images.push({
      id: region.nextId('image'),
      uploaded: !image.name.includes('/'),
      name: image.name,
      architecture: image.architecture,
      title: image.title,
      subarches: image.subarches,
      baseImage: image.baseImage ?? '',
      sizeBytes: 700_000_000,
      complete: !image.incomplete,
      lastDeployedAt: null,
    });
  for (const seed of scenario.machines) addMachine(region, seed);
}
