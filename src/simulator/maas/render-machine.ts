/**
 * The wire form of a machine, all fields: about 20 to 35 KB each, with the boot interface, boot disk and
 * physical disks repeated as MAAS repeats them. Fields that a version lacks are left out.
 */
import type { Disk, Link, Machine, Nic, Partition } from './model.ts';
import type { Region } from './region.ts';
import { API, renderDomain, renderPool, renderSubnet, renderVlan, renderZone } from './render.ts';
import { statusNumber, statusTitle } from './status.ts';

/** Script results: -1 is Unknown, 2 Passed, 3 Failed. */
const UNKNOWN = -1;
const PASSED = 2;
const FAILED = 3;
const RESULT_NAMES: Record<number, string> = { [-1]: 'Unknown', 2: 'Passed', 3: 'Failed' };

function renderLink(region: Region, link: Link) {
  const subnet = link.subnetId === null ? undefined : region.subnet(link.subnetId);
  return {
    id: link.id,
    mode: link.mode,
    ...(link.ip ? { ip_address: link.ip } : {}),
    ...(subnet ? { subnet: renderSubnet(region, subnet) } : {}),
  };
}

export function renderNic(region: Region, machine: Machine, nic: Nic) {
  const vlan = region.vlan(nic.vlanId);
  const seen = nic.discovered ? region.subnet(nic.discovered.subnetId) : undefined;
  return {
    name: nic.name,
    vlan: renderVlan(region, vlan),
    firmware_version: '8.30, 0x8000a4ae',
    sriov_max_vf: nic.speedMbit >= 25_000 ? 64 : 0,
    system_id: machine.systemId,
    numa_node: 0,
    product:
      nic.speedMbit >= 25_000
        ? 'Ethernet Controller E810-XXV for SFP'
        : 'Ethernet Controller X710 for 10GBASE-T',
    params: {},
    link_speed: nic.speedMbit,
    interface_speed: nic.speedMbit,
    vendor: 'Intel Corporation',
    mac_address: nic.mac,
    discovered:
      nic.discovered && seen ? [{ subnet: renderSubnet(region, seen), ip_address: nic.discovered.ip }] : null,
    children: [],
    enabled: true,
    tags: [],
    parents: [],
    links: nic.links.map((link) => renderLink(region, link)),
    effective_mtu: vlan.mtu,
    type: 'physical',
    link_connected: true,
    id: nic.id,
    resource_uri: `${API}/nodes/${machine.systemId}/interfaces/${nic.id}/`,
  };
}

function renderPartition(machine: Machine, disk: Disk, partition: Partition, number: number) {
  return {
    uuid: partition.uuid,
    size: partition.sizeBytes,
    bootable: partition.bootable,
    tags: [],
    path: `/dev/disk/by-dname/${disk.name}-part${number}`,
    used_for: `${partition.fstype} formatted filesystem mounted at ${partition.mountPoint}`,
    system_id: machine.systemId,
    device_id: disk.id,
    filesystem: {
      fstype: partition.fstype,
      label: partition.label,
      uuid: partition.fsUuid,
      mount_point: partition.mountPoint,
      mount_options: null,
    },
    id: partition.id,
    type: 'partition',
    resource_uri: `${API}/nodes/${machine.systemId}/blockdevices/${disk.id}/partition/${partition.id}`,
  };
}

export function renderDisk(machine: Machine, disk: Disk) {
  const used = disk.partitions.reduce((sum, partition) => sum + partition.sizeBytes, 0);
  const count = disk.partitions.length;
  return {
    firmware_version: 'GDC5602Q',
    name: disk.name,
    system_id: machine.systemId,
    numa_node: 0,
    size: disk.sizeBytes,
    block_size: 512,
    serial: disk.serial,
    model: disk.model,
    id_path: `/dev/disk/by-id/wwn-0x5002538f${disk.id.toString(16).padStart(8, '0')}`,
    filesystem: null,
    partitions: disk.partitions.map((partition, at) => renderPartition(machine, disk, partition, at + 1)),
    partition_table_type: count > 0 ? 'GPT' : null,
    uuid: null,
    tags: disk.tags,
    path: `/dev/disk/by-dname/${disk.name}`,
    storage_pool: null,
    type: 'physical',
    available_size: count > 0 ? 0 : disk.sizeBytes,
    used_for: count > 0 ? `GPT partitioned with ${count} partition${count === 1 ? '' : 's'}` : 'Unused',
    id: disk.id,
    used_size: used,
    resource_uri: `${API}/nodes/${machine.systemId}/blockdevices/${disk.id}/`,
  };
}

const hardwareInfo = (machine: Machine) => ({
  system_vendor: machine.vendor,
  system_product: machine.product,
  system_family: 'Unknown',
  system_version: 'Unknown',
  system_sku: 'SKU=NotProvided',
  system_serial: machine.serial,
  cpu_model: machine.cpuModel,
  mainboard_vendor: machine.vendor,
  mainboard_product: '0H28RR',
  mainboard_serial: `.${machine.serial}.`,
  mainboard_version: 'A01',
  mainboard_firmware_vendor: machine.vendor,
  mainboard_firmware_date: '03/14/2025',
  mainboard_firmware_version: '2.15.1',
  chassis_vendor: machine.vendor,
  chassis_type: 'Rack Mount Chassis',
  chassis_serial: machine.serial,
  chassis_version: 'Unknown',
});

function numaNodes(machine: Machine) {
  const nodes = machine.cpuCount >= 32 ? 2 : 1;
  const cores = machine.cpuCount / nodes;
  return Array.from({ length: nodes }, (_, index) => ({
    index,
    memory: machine.memoryMiB / nodes,
    cores: Array.from({ length: cores }, (_core, core) => index * cores + core),
    hugepages_set: [],
  }));
}

function testResults(machine: Machine) {
  const tested = machine.commissioned ? PASSED : UNKNOWN;
  const status = {
    cpu_test: UNKNOWN,
    memory_test: UNKNOWN,
    network_test: UNKNOWN,
    storage_test: tested,
    interface_test: UNKNOWN,
    other_test: UNKNOWN,
    testing: machine.status === 'failed_testing' ? FAILED : tested,
    commissioning: machine.status === 'failed_commissioning' ? FAILED : tested,
  };
  return Object.fromEntries(
    Object.entries(status).flatMap(([name, value]) => [
      [`${name}_status`, value],
      [`${name}_status_name`, RESULT_NAMES[value]],
    ]),
  );
}

export interface MachineView {
  /** What an allocate with interface or storage constraints adds. */
  readonly constraintsByType?: Record<string, unknown>;
}

export function renderMachine(region: Region, machine: Machine, view: MachineView = {}) {
  const { flavour } = region;
  const nics = machine.nics.map((nic) => renderNic(region, machine, nic));
  const disks = machine.disks.map((disk) => renderDisk(machine, disk));
  const bootSubnet = region.subnet(machine.nics[0]?.links[0]?.subnetId ?? -1);
  const ownerData = Object.fromEntries(machine.ownerData);
  const unfinished = machine.status === 'new';
  return {
    system_id: machine.systemId,
    hostname: machine.hostname,
    fqdn: region.fqdn(machine),
    domain: renderDomain(region, region.domain(machine.domainId)),
    description: machine.description,
    status: statusNumber(machine.status),
    status_name: statusTitle(machine.status),
    status_message: machine.statusMessage,
    status_action: machine.statusMessage === null ? null : '',
    ...(flavour.hasErrorDescription ? { error_description: machine.errorDescription } : {}),
    owner: machine.owner,
    owner_data: ownerData,
    workload_annotations: ownerData,
    locked: machine.locked,
    architecture: machine.architecture,
    cpu_count: machine.cpuCount,
    cpu_speed: machine.cpuSpeedMhz,
    memory: machine.memoryMiB,
    swap_size: machine.swapSize,
    storage: machine.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0) / 1e6,
    osystem: machine.osystem,
    distro_series: machine.distroSeries,
    hwe_kernel: machine.hweKernel,
    min_hwe_kernel: machine.minHweKernel,
    ephemeral_deploy: machine.ephemeralDeploy,
    enable_hw_sync: machine.enableHwSync,
    ...(flavour.hasKernelCrashDump ? { enable_kernel_crash_dump: machine.enableKernelCrashDump } : {}),
    ...(flavour.hasDpu ? { is_dpu: false } : {}),
    last_sync: null,
    next_sync: null,
    sync_interval: null,
    netboot: machine.netboot,
    power_type: machine.powerType,
    power_state: machine.powerState,
    bios_boot_method: 'uefi',
    tag_names: [...machine.tags],
    ip_addresses: region.machineIps(machine),
    address_ttl: null,
    zone: renderZone(region.zone(machine.zoneId)),
    pool: renderPool(region.pool(machine.poolId)),
    parent: null,
    pod: machine.composed ? { id: 1, name: 'vmhost-01', resource_uri: `${API}/pods/1/` } : null,
    virtualmachine_id: machine.composed ? 1 : null,
    boot_interface: nics[0] ?? null,
    interface_set: nics,
    boot_disk: disks[0] ?? null,
    blockdevice_set: disks,
    physicalblockdevice_set: disks,
    virtualblockdevice_set: [],
    volume_groups: [],
    raids: [],
    bcaches: [],
    cache_sets: [],
    special_filesystems: [],
    default_gateways: {
      ipv4: { gateway_ip: bootSubnet?.gateway ?? null, link_id: null },
      ipv6: { gateway_ip: null, link_id: null },
    },
    disable_ipv4: false,
    ...(view.constraintsByType ? { constraints_by_type: view.constraintsByType } : {}),
    node_type: 0,
    node_type_name: 'Machine',
    current_commissioning_result_id: unfinished ? null : resultId(machine, 0),
    current_testing_result_id: unfinished ? null : resultId(machine, 1),
    current_installation_result_id: machine.installLog ? resultId(machine, 2) : null,
    ...testResults(machine),
    hardware_uuid: machine.hardwareUuid,
    hardware_info: hardwareInfo(machine),
    numanode_set: numaNodes(machine),
    resource_uri: `${API}/machines/${machine.systemId}/`,
  };
}

/** Ids of script sets: three a machine (commissioning, testing, installation). */
export const resultId = (machine: Machine, kind: 0 | 1 | 2): number =>
  (machine.nics[0]?.id ?? 0) * 3 + kind + 1;
