/**
 * What a MAAS region remembers. Plain mutable records: the rules live in region.ts (books), life.ts (time)
 * and routes/ (API). Field names are ours; wire names appear only in the renderers.
 */
import type { Status } from './status.ts';

export interface User {
  readonly username: string;
  readonly email: string;
  readonly admin: boolean;
  active: boolean;
}

/** One API key: `consumer:key:secret`. */
export interface Token {
  readonly consumer: string;
  readonly key: string;
  readonly secret: string;
  readonly username: string;
  name: string;
}

export interface Zone {
  readonly id: number;
  name: string;
  description: string;
}

export interface Pool {
  readonly id: number;
  name: string;
  description: string;
}

export interface Domain {
  readonly id: number;
  name: string;
  ttl: number | null;
  authoritative: boolean;
}

export interface DnsResource {
  readonly id: number;
  name: string;
  domainId: number;
  addressTtl: number | null;
  ips: string[];
}

export interface DnsRecord {
  readonly id: number;
  readonly name: string;
  readonly domainId: number;
  readonly rrtype: string;
  rrdata: string;
  ttl: number | null;
}

export interface Space {
  readonly id: number;
  name: string;
  description: string;
}

export interface Fabric {
  readonly id: number;
  name: string;
  classType: string | null;
}

export interface Vlan {
  readonly id: number;
  readonly fabricId: number;
  vid: number;
  name: string;
  mtu: number;
  dhcpOn: boolean;
  space: string;
}

export interface Subnet {
  readonly id: number;
  name: string;
  description: string;
  vlanId: number;
  readonly cidr: string;
  gateway: string | null;
  dnsServers: string[];
  managed: boolean;
}

export interface IpRange {
  readonly id: number;
  readonly type: 'dynamic' | 'reserved';
  start: string;
  end: string;
  readonly subnetId: number;
  readonly username: string | null;
  comment: string;
}

/** MAAS's kinds of addresses: 0 automatic, 1 sticky, 4 user reserved, 5 DHCP, 6 discovered. */
export type AllocType = 0 | 1 | 4 | 5 | 6;

export interface IpAddress {
  readonly ip: string;
  readonly allocType: AllocType;
  readonly username: string | null;
  readonly subnetId: number | null;
  readonly machine: { readonly systemId: string; readonly interfaceId: number } | null;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
}

export interface Tag {
  readonly name: string;
  definition: string;
  comment: string;
  kernelOpts: string;
}

export interface BootResource {
  readonly id: number;
  readonly uploaded: boolean;
  /** `ubuntu/noble`; uploaded ones without the `custom/` prefix that requests use. */
  readonly name: string;
  readonly architecture: string;
  readonly title: string;
  readonly subarches: string;
  readonly baseImage: string;
  readonly sizeBytes: number;
  complete: boolean;
  lastDeployedAt: number | null;
}

export interface SshKey {
  readonly id: number;
  readonly key: string;
  readonly keysource: string | null;
  readonly username: string;
}

export interface Link {
  readonly id: number;
  mode: 'auto' | 'dhcp' | 'static' | 'link_up';
  subnetId: number | null;
  ip: string | null;
}

export interface Nic {
  readonly id: number;
  readonly name: string;
  readonly mac: string;
  vlanId: number;
  readonly speedMbit: number;
  links: Link[];
  /** Address seen while commissioning: shown until the machine gets one of its own. */
  discovered: { readonly subnetId: number; readonly ip: string } | null;
}

export interface Partition {
  readonly id: number;
  readonly sizeBytes: number;
  readonly bootable: boolean;
  readonly fstype: string;
  readonly label: string;
  readonly mountPoint: string;
  readonly uuid: string;
  readonly fsUuid: string;
}

export interface Disk {
  readonly id: number;
  readonly name: string;
  readonly model: string;
  readonly serial: string;
  readonly sizeBytes: number;
  readonly tags: readonly string[];
  partitions: Partition[];
}

export interface Machine {
  readonly systemId: string;
  hostname: string;
  domainId: number;
  description: string;
  readonly hardwareUuid: string;
  readonly vendor: string;
  readonly product: string;
  readonly serial: string;
  readonly cpuModel: string;
  architecture: string;
  cpuCount: number;
  readonly cpuSpeedMhz: number;
  memoryMiB: number;
  zoneId: number;
  poolId: number;
  tags: Set<string>;
  nics: Nic[];
  disks: Disk[];
  powerType: string;
  powerParameters: Record<string, string | string[]>;
  minHweKernel: string | null;
  swapSize: number | null;
  /** Set for machines that MAAS composed on a VM host; they vanish on release. */
  readonly composed: boolean;
  commissioned: boolean;

  status: Status;
  /** What to come back to from Testing, Broken and rescue mode. */
  previousStatus: Status;
  owner: string | null;
  ownerData: Map<string, string>;
  agentName: string;
  locked: boolean;
  errorDescription: string;
  osystem: string;
  distroSeries: string;
  hweKernel: string | null;
  ephemeralDeploy: boolean;
  enableHwSync: boolean;
  enableKernelCrashDump: boolean;
  netboot: boolean;
  /** What MAAS believes; the truth is the BMC's. */
  powerState: 'on' | 'off' | 'unknown' | 'error';
  bmcPower: 'on' | 'off';
  /** As sent by the client, not decoded. */
  userData: string | null;
  /** Latest event of level INFO or above. */
  statusMessage: string | null;
  installLog: string;
  /** Counts deployments, so that a machine's past life cannot act on its present one. */
  incarnation: number;
}
