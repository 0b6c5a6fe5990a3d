/**
 * The site at which the recordings were made, as a scenario: the same names, ids and hardware, so that the
 * recorded requests mean the same thing to the simulator.
 */
import type { MachineSeed, Scenario } from '../../src/simulator/scenario.ts';

type Row = readonly [
  systemId: string,
  hostname: string,
  zone: string,
  pool: string,
  cores: number,
  gib: number,
  tags: string,
  rest?: Partial<MachineSeed>,
];

/** In the order of their creation. */
const ROWS: readonly Row[] = [
  ['ay7beq', 'node-01', 'az2', 'pcg-pool', 8, 16, 'ssd k8s-worker'],
  ['bn3wxy', 'node-02', 'default', 'pcg-pool', 16, 32, 'k8s-worker'],
  ['n66eae', 'node-03', 'az1', 'pcg-pool', 32, 64, 'ssd k8s-worker'],
  ['dfcey6', 'node-04', 'az2', 'pcg-pool', 4, 8, 'k8s-worker'],
  ['kgw36g', 'node-05', 'default', 'pcg-pool', 8, 16, 'ssd gpu k8s-worker'],
  ['fhed3y', 'node-06', 'az1', 'pcg-pool', 16, 32, 'gpu k8s-worker'],
  ['77rpqc', 'node-07', 'az2', 'pcg-pool', 32, 64, 'ssd'],
  ['tnhatp', 'node-08', 'default', 'pcg-pool', 4, 8, ''],
  ['ftms8t', 'node-09', 'az1', 'default', 8, 16, 'ssd'],
  ['qr4a7m', 'node-10', 'az2', 'default', 16, 32, '', { powerType: 'virsh' }],
  ['bfmfwp', 'node-11', 'default', 'default', 32, 64, 'ssd', { architecture: 'arm64/generic' }],
  ['nmpbex', 'node-12', 'az1', 'default', 4, 8, '', { powerType: 'manual' }],
  ['6y67km', 'new-01', 'default', 'default', 8, 16, '', { status: 'new' }],
  [
    'hbffpg',
    'broken-01',
    'default',
    'default',
    8,
    16,
    '',
    { status: 'broken', errorDescription: 'bad DIMM' },
  ],
  ['gnptfx', 'failed-comm-01', 'default', 'default', 8, 16, '', { status: 'failed_commissioning' }],
  ['amqcrm', 'commissioning-01', 'default', 'default', 8, 16, '', { status: 'commissioning' }],
  ['7yqkqw', 'failed-test-01', 'default', 'default', 8, 16, '', { status: 'failed_testing' }],
  ['yna8q8', 'op-alloc-01', 'default', 'default', 8, 16, '', { status: 'allocated', owner: 'operator' }],
  [
    'mdmpwe',
    'failed-deploy-01',
    'default',
    'default',
    8,
    16,
    '',
    { status: 'failed_deployment', owner: 'admin' },
  ],
  [
    'dr77xh',
    'failed-rel-01',
    'default',
    'default',
    8,
    16,
    '',
    { status: 'failed_releasing', owner: 'admin' },
  ],
  ['bhxexa', 'rescue-01', 'default', 'default', 8, 16, '', { status: 'rescue_mode', owner: 'admin' }],
  [
    '8bc6kp',
    'failed-erase-01',
    'default',
    'default',
    8,
    16,
    '',
    { status: 'failed_disk_erasing', owner: 'admin' },
  ],
  ['8bsfp8', 'no-power-01', 'default', 'default', 8, 16, '', { powerType: '' }],
];

const hex = (value: number): string => value.toString(16).padStart(2, '0');

function machine(
  [systemId, hostname, zone, pool, cpuCount, gib, tags, rest]: Row,
  index: number,
): MachineSeed {
  const number = index + 1;
  return {
    systemId,
    hostname,
    zone,
    pool,
    domain: 'maas',
    architecture: 'amd64/generic',
    cpuCount,
    cpuSpeedMhz: 2400,
    memoryMiB: gib * 1024,
    disks: [
      { name: 'nvme0n1', model: 'SAMSUNG MZ', sizeGb: 480, tags: ['ssd'] },
      { name: 'sda', model: 'ST2000NM', sizeGb: 2000, tags: ['rotary', 'sata'] },
    ],
    nics: [
      { name: 'enp1s0', speedMbit: 10_000, subnet: 'mgmt-net', mac: `52:54:00:01:00:${hex(number)}` },
      { name: 'enp2s0', speedMbit: 10_000 },
    ],
    tags: tags.split(' ').filter((tag) => tag !== ''),
    powerType: 'ipmi',
    vendor: 'Dell Inc.',
    product: 'PowerEdge R640',
    cpuModel: 'Intel(R) Xeon(R) Silver 4214R CPU',
    ...rest,
  };
}

const image = (name: string, architecture: string, title: string) => ({
  name,
  architecture,
  title,
  subarches: 'generic,ga-22.04',
});

export const recordedSite: Scenario = {
  seed: 5,
  users: [
    { username: 'admin', email: 'admin@example.com', admin: true },
    { username: 'operator', email: 'operator@example.com', admin: false },
    { username: 'pcg', email: 'pcg@example.com', admin: true },
  ],
  zones: [
    { name: 'default', description: '' },
    { name: 'az1', description: 'rack row A' },
    { name: 'az2', description: 'rack row B' },
  ],
  pools: [
    { name: 'default', description: 'Default pool' },
    { name: 'pcg-pool', description: 'gateway machines' },
    { name: 'empty-pool', description: '' },
  ],
  domains: [
    { name: 'maas', ttl: null },
    { name: 'pcg.internal', ttl: 300 },
    { name: 'external.example', ttl: null },
  ],
  spaces: ['mgmt', 'storage'],
  vlans: [
    { fabric: 'fabric-0', vid: 0, name: 'untagged', mtu: 1500, dhcpOn: true, space: 'mgmt' },
    { fabric: 'fabric-0', vid: 100, name: 'storage-100', mtu: 9000, dhcpOn: false, space: 'storage' },
    { fabric: 'bmc-fabric', vid: 0, name: 'untagged', mtu: 1500, dhcpOn: false, space: 'undefined' },
    { fabric: 'fabric-2', vid: 0, name: 'untagged', mtu: 1500, dhcpOn: false, space: 'undefined' },
  ],
  subnets: [
    {
      name: 'mgmt-net',
      cidr: '10.10.0.0/24',
      fabric: 'fabric-0',
      vid: 0,
      gateway: '10.10.0.1',
      dnsServers: ['10.10.0.2'],
      managed: true,
      ranges: [
        { type: 'dynamic', start: '10.10.0.200', end: '10.10.0.250', comment: 'dhcp' },
        { type: 'reserved', start: '10.10.0.4', end: '10.10.0.19', comment: 'infra' },
      ],
      sticky: ['10.10.0.3'],
    },
    {
      name: 'tiny-net',
      cidr: '10.30.0.0/29',
      fabric: 'fabric-0',
      vid: 100,
      gateway: '10.30.0.1',
      dnsServers: [],
      managed: true,
      ranges: [],
      sticky: [],
    },
    {
      name: 'bmc-net',
      cidr: '10.20.0.0/16',
      fabric: 'bmc-fabric',
      vid: 0,
      gateway: null,
      dnsServers: [],
      managed: true,
      ranges: [],
      sticky: [],
    },
    {
      name: 'lab-net',
      cidr: '10.40.0.0/22',
      fabric: 'bmc-fabric',
      vid: 0,
      gateway: '10.40.0.1',
      dnsServers: [],
      managed: false,
      ranges: [],
      sticky: [],
    },
  ],
  tags: ['ssd', 'gpu', 'k8s-worker', 'virtual-lab', 'virtual'].map((name) => ({ name, comment: '' })),
  images: [
    image('ubuntu/jammy', 'amd64/ga-22.04', '22.04 LTS'),
    image('ubuntu/jammy', 'amd64/hwe-22.04', '22.04 LTS'),
    image('ubuntu/noble', 'amd64/ga-24.04', '24.04 LTS'),
    image('ubuntu/focal', 'amd64/ga-20.04', '20.04 LTS'),
    image('ubuntu/jammy', 'arm64/ga-22.04', '22.04 LTS'),
    {
      name: 'u-2204-0-k-12811-0',
      architecture: 'amd64/generic',
      title: 'ubuntu 22.04 k8s 1.28.11',
      subarches: '',
      baseImage: 'ubuntu/jammy',
    },
  ],
  machines: ROWS.map(machine),
};
