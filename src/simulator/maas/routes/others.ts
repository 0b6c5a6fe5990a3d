/** Collections that exist in every MAAS and are empty or tiny in the simulated one. */
import { json } from '../reply.ts';
import { API } from '../render.ts';
import type { Region } from '../region.ts';
import type { Resource } from '../router.ts';

const EMPTY = [
  'static-routes',
  'discovery',
  'pods',
  'vm-hosts',
  'license-keys',
  'notifications',
  'scripts',
  'package-repositories',
  'dhcp-snippets',
];

function controller(region: Region, type: 2 | 3) {
  const name = type === 2 ? 'rack-01' : 'region-01';
  const title = type === 2 ? 'Rack controller' : 'Region controller';
  return {
    system_id: region.rackSystemId,
    hostname: name,
    fqdn: `${name}.maas`,
    version: region.flavour.version,
    node_type: type,
    node_type_name: title,
    architecture: 'amd64/generic',
    memory: 0,
    cpu_count: 0,
    ip_addresses: region.subnets[0] ? [region.subnets[0].cidr.replace(/\.0\/\d+$/, '.3')] : [],
    service_set: [
      { name: 'rackd', status: 'running', status_info: '' },
      { name: 'dhcpd', status: 'running', status_info: '' },
    ],
    resource_uri: `${API}/${type === 2 ? 'rack' : 'region'}controllers/${region.rackSystemId}/`,
  };
}

export const otherResources: readonly Resource[] = [
  ...EMPTY.map(
    (name): Resource => ({ path: new RegExp(`^${name}/$`), name, methods: { GET: () => json([]) } }),
  ),
  { path: /^files\/$/, name: 'files', methods: { GET: () => json([]) }, anonymous: 'some' },
  { path: /^devices\/$/, name: 'devices', methods: { GET: () => json([]) }, anonymous: 'some' },
  {
    path: /^rackcontrollers\/$/,
    name: 'rackcontrollers',
    methods: { GET: ({ region }) => json([controller(region, 2)]) },
    anonymous: 'some',
  },
  {
    path: /^regioncontrollers\/$/,
    name: 'regioncontrollers',
    methods: { GET: ({ region }) => json([controller(region, 3)]) },
  },
];
