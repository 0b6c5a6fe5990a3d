/**
 * What stands in the simulated data centre before the first request: places, networks, images, users and
 * machines, as plain data. `defaultScenario` grows one from a seed and a size; tests may write their own.
 */
import { formatIp, parseCidr } from './maas/ipv4.ts';
import type { Status } from './maas/status.ts';
import { type Random, seededRandom } from './random.ts';

export interface DiskSeed {
  readonly name: string;
  readonly model: string;
  /** Decimal gigabytes. */
  readonly sizeGb: number;
  readonly tags: readonly string[];
}

export interface NicSeed {
  readonly name: string;
  readonly speedMbit: number;
  /** Name of the subnet that it gets an automatic address in; without one it is only linked up. */
  readonly subnet?: string;
  /** Made up when absent. */
  readonly mac?: string;
}

export interface MachineSeed {
  readonly hostname: string;
  readonly systemId?: string;
  readonly zone: string;
  readonly pool: string;
  readonly domain: string;
  readonly architecture: string;
  readonly cpuCount: number;
  readonly cpuSpeedMhz: number;
  readonly memoryMiB: number;
  readonly disks: readonly DiskSeed[];
  readonly nics: readonly NicSeed[];
  readonly tags: readonly string[];
  readonly powerType: string;
  readonly vendor: string;
  readonly product: string;
  readonly cpuModel: string;
  /** Default Ready. */
  readonly status?: Status;
  readonly owner?: string;
  readonly errorDescription?: string;
}

export interface SubnetSeed {
  readonly name: string;
  readonly cidr: string;
  readonly fabric: string;
  readonly vid: number;
  readonly gateway: string | null;
  readonly dnsServers: readonly string[];
  readonly managed: boolean;
  readonly ranges: readonly { type: 'dynamic' | 'reserved'; start: string; end: string; comment: string }[];
  /** Addresses that the rack controller and others hold. */
  readonly sticky: readonly string[];
}

export interface ImageSeed {
  /** `ubuntu/noble`, or a custom image's bare name. */
  readonly name: string;
  readonly architecture: string;
  readonly title: string;
  /** Empty for images that were not synced. */
  readonly subarches: string;
  readonly baseImage?: string;
  readonly incomplete?: boolean;
}

export interface UserSeed {
  readonly username: string;
  readonly email: string;
  readonly admin: boolean;
  /** `consumer:token:secret`; made from the seed when absent. */
  readonly apiKey?: string;
}

export interface Scenario {
  readonly seed: number;
  readonly users: readonly UserSeed[];
  readonly zones: readonly { name: string; description: string }[];
  readonly pools: readonly { name: string; description: string }[];
  readonly domains: readonly { name: string; ttl: number | null }[];
  readonly spaces: readonly string[];
  readonly vlans: readonly {
    fabric: string;
    vid: number;
    name: string;
    mtu: number;
    dhcpOn: boolean;
    space: string;
  }[];
  readonly subnets: readonly SubnetSeed[];
  readonly tags: readonly { name: string; comment: string }[];
  readonly images: readonly ImageSeed[];
  readonly machines: readonly MachineSeed[];
  /** Non-default `maas get-config` values. */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface DefaultScenarioOptions {
  readonly machines?: number;
  readonly seed?: number;
  /** More NICs and disks: about 30 KB of JSON a machine instead of about 20. */
  readonly bigMachines?: boolean;
}

interface Model {
  readonly vendor: string;
  readonly product: string;
  readonly cpuModel: string;
  readonly cpuSpeedMhz: number;
  readonly sizes: readonly {
    readonly cpuCount: number;
    readonly memoryGiB: number;
    readonly diskGb: number;
  }[];
}

/** From small to large: MAAS hands out the smallest machine that fits, so the mix matters. */
const MODELS: readonly Model[] = [
  {
    vendor: 'Supermicro',
    product: 'SYS-5019D-FN8TP',
    cpuModel: 'Intel(R) Xeon(R) D-2146NT CPU @ 2.30GHz',
    cpuSpeedMhz: 2300,
    sizes: [
      { cpuCount: 8, memoryGiB: 16, diskGb: 240 },
      { cpuCount: 8, memoryGiB: 32, diskGb: 240 },
      { cpuCount: 4, memoryGiB: 8, diskGb: 120 },
    ],
  },
  {
    vendor: 'Dell Inc.',
    product: 'PowerEdge R650',
    cpuModel: 'Intel(R) Xeon(R) Silver 4314 CPU @ 2.40GHz',
    cpuSpeedMhz: 2400,
    sizes: [
      { cpuCount: 16, memoryGiB: 64, diskGb: 480 },
      { cpuCount: 32, memoryGiB: 128, diskGb: 960 },
    ],
  },
  {
    vendor: 'HPE',
    product: 'ProLiant DL385 Gen10 Plus',
    cpuModel: 'AMD EPYC 7302 16-Core Processor',
    cpuSpeedMhz: 3000,
    sizes: [
      { cpuCount: 32, memoryGiB: 128, diskGb: 960 },
      { cpuCount: 64, memoryGiB: 256, diskGb: 1920 },
    ],
  },
];

const ADJECTIVES = ['brave', 'calm', 'eager', 'fast', 'keen', 'light', 'mild', 'noble', 'proud', 'quick'];
const ANIMALS = ['badger', 'crane', 'dingo', 'egret', 'ferret', 'gecko', 'heron', 'ibex', 'lynx', 'otter'];

/** Every n-th machine of the default site is not Ready, as in real life. */
const ODD_ONES: readonly {
  readonly every: number;
  readonly at: number;
  readonly make: Partial<MachineSeed>;
}[] = [
  { every: 30, at: 7, make: { status: 'new' } },
  { every: 30, at: 13, make: { status: 'broken', errorDescription: 'DIMM A2 reports uncorrectable errors' } },
  { every: 30, at: 19, make: { status: 'failed_commissioning' } },
  { every: 30, at: 25, make: { status: 'deployed', owner: 'operator' } },
];

/** Prefix that leaves room for one commissioning address and one own address a machine. */
function machineNet(machines: number): { cidr: string; dynamic: readonly [number, number] } {
  if (machines <= 60) return { cidr: '10.20.0.0/24', dynamic: [100, 179] };
  if (machines <= 300) return { cidr: '10.20.0.0/22', dynamic: [256, 639] };
  if (machines <= 1200) return { cidr: '10.20.0.0/20', dynamic: [1024, 2559] };
  return { cidr: '10.20.0.0/16', dynamic: [16_384, 32_767] };
}

function subnetSeeds(machines: number): SubnetSeed[] {
  const { cidr, dynamic } = machineNet(machines);
  const at = (offset: number) => formatIp((parseCidr(cidr)?.network ?? 0) + offset);
  return [
    {
      name: 'machines',
      cidr,
      fabric: 'fabric-0',
      vid: 0,
      gateway: at(1),
      dnsServers: [at(2)],
      managed: true,
      ranges: [
        { type: 'reserved', start: at(4), end: at(19), comment: 'switches and BMC gateways' },
        { type: 'dynamic', start: at(dynamic[0]), end: at(dynamic[1]), comment: 'PXE and commissioning' },
      ],
      sticky: [at(2), at(3)],
    },
    {
      name: 'storage',
      cidr: '10.30.0.0/24',
      fabric: 'fabric-0',
      vid: 100,
      gateway: null,
      dnsServers: [],
      managed: true,
      ranges: [{ type: 'reserved', start: '10.30.0.1', end: '10.30.0.31', comment: 'storage targets' }],
      sticky: [],
    },
  ];
}

function machineSeed(index: number, random: Random, options: DefaultScenarioOptions): MachineSeed {
  const model = MODELS[index % 5 < 2 ? 0 : index % 5 < 4 ? 1 : 2] ?? random.pick(MODELS);
  const size = random.pick(model.sizes);
  const big = options.bigMachines ?? false;
  const disks: DiskSeed[] = [
    { name: 'nvme0n1', model: 'SAMSUNG MZ1L2960HCJR', sizeGb: size.diskGb, tags: ['ssd', 'nvme'] },
    ...(size.cpuCount >= 32 || big
      ? [{ name: 'sda', model: 'ST4000NM000A', sizeGb: 4000, tags: ['rotary', 'sata', '7200rpm'] }]
      : []),
    ...(big
      ? [{ name: 'sdb', model: 'ST4000NM000A', sizeGb: 4000, tags: ['rotary', 'sata', '7200rpm'] }]
      : []),
  ];
  const nics: NicSeed[] = [
    { name: 'eno1', speedMbit: 10_000, subnet: 'machines' },
    { name: 'eno2', speedMbit: 10_000 },
    ...(big ? ['ens3f0', 'ens3f1', 'ens4f0', 'ens4f1'].map((name) => ({ name, speedMbit: 25_000 })) : []),
  ];
  const name = `${random.pick(ADJECTIVES)}-${random.pick(ANIMALS)}`;
  const seed: MachineSeed = {
    hostname: `${name}-${String(index + 1).padStart(2, '0')}`,
    zone: ['rack-a', 'rack-b', 'rack-c'][index % 3] ?? 'default',
    pool: index % 6 === 5 ? 'default' : 'kubernetes',
    domain: 'maas',
    architecture: 'amd64/generic',
    cpuCount: size.cpuCount,
    cpuSpeedMhz: model.cpuSpeedMhz,
    memoryMiB: size.memoryGiB * 1024,
    disks,
    nics,
    tags: size.cpuCount >= 32 ? ['virtual-capable', 'large'] : ['virtual-capable'],
    powerType: index % 4 === 3 ? 'redfish' : 'ipmi',
    vendor: model.vendor,
    product: model.product,
    cpuModel: model.cpuModel,
  };
  const odd = ODD_ONES.find((one) => index % one.every === one.at);
  return odd ? { ...seed, ...odd.make } : seed;
}

const ARCHES =
  'generic,hwe-p,hwe-q,hwe-r,hwe-s,hwe-t,hwe-u,hwe-v,hwe-w,ga-16.04,ga-18.04,ga-20.04,ga-22.04,ga-24.04';

const IMAGES: readonly ImageSeed[] = [
  { name: 'ubuntu/jammy', architecture: 'amd64/ga-22.04', title: '22.04 LTS', subarches: ARCHES },
  { name: 'ubuntu/jammy', architecture: 'amd64/hwe-22.04', title: '22.04 LTS', subarches: ARCHES },
  { name: 'ubuntu/noble', architecture: 'amd64/ga-24.04', title: '24.04 LTS', subarches: ARCHES },
  { name: 'ubuntu/focal', architecture: 'amd64/ga-20.04', title: '20.04 LTS', subarches: ARCHES },
  {
    name: 'ubuntu-2404-k8s-1350',
    architecture: 'amd64/generic',
    title: 'Ubuntu 24.04 with Kubernetes 1.35.0',
    subarches: '',
    baseImage: 'ubuntu/noble',
  },
];

/** About 30 machines, 3 zones, 2 pools, 2 domains and 2 subnets, unless told otherwise. */
export function defaultScenario(options: DefaultScenarioOptions = {}): Scenario {
  const seed = options.seed ?? 1;
  const count = options.machines ?? 30;
  const random = seededRandom(seed, 'scenario');
  return {
    seed,
    users: [
      { username: 'admin', email: 'admin@example.com', admin: true },
      { username: 'operator', email: 'operator@example.com', admin: false },
    ],
    zones: [
      { name: 'default', description: '' },
      { name: 'rack-a', description: 'Row 1, rack A' },
      { name: 'rack-b', description: 'Row 1, rack B' },
      { name: 'rack-c', description: 'Row 2, rack C' },
    ],
    pools: [
      { name: 'default', description: 'Default pool' },
      { name: 'kubernetes', description: 'Machines for clusters' },
    ],
    domains: [
      { name: 'maas', ttl: null },
      { name: 'dc1.example.com', ttl: 30 },
    ],
    spaces: ['machines', 'storage'],
    vlans: [
      { fabric: 'fabric-0', vid: 0, name: 'untagged', mtu: 1500, dhcpOn: true, space: 'machines' },
      { fabric: 'fabric-0', vid: 100, name: 'storage', mtu: 9000, dhcpOn: false, space: 'storage' },
    ],
    subnets: subnetSeeds(count),
    tags: [
      { name: 'virtual-capable', comment: 'CPU supports virtualisation' },
      { name: 'large', comment: '32 cores and more' },
    ],
    images: IMAGES,
    machines: Array.from({ length: count }, (_, index) => machineSeed(index, random, options)),
  };
}
