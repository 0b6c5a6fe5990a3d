/** What hangs below a node: interfaces, block devices, results of scripts with the installation log. */
import { type Call, fields, type Handler } from '../call.ts';
import { parseIp } from '../ipv4.ts';
import { found, machineOf } from '../lookup.ts';
import type { Link, Machine, Nic } from '../model.ts';
import { json, missing, plain, raisedText, refused } from '../reply.ts';
import { API, proseTime } from '../render.ts';
import { renderDisk, renderNic, resultId } from '../render-machine.ts';
import type { Resource } from '../router.ts';

const KINDS = ['commissioning', 'testing', 'installation'] as const;
type Kind = (typeof KINDS)[number];

/** Numbers of result types: 0 commissioning, 1 installation, 2 testing. */
const TYPE_NUMBERS: Record<Kind, number> = { commissioning: 0, installation: 1, testing: 2 };

const exists = (machine: Machine, kind: Kind): boolean =>
  kind === 'installation' ? machine.installLog !== '' : machine.commissioned;

function renderResult(call: Call, machine: Machine, kind: Kind) {
  const failed = kind === 'installation' && machine.status === 'failed_deployment';
  const status = failed ? 3 : 2;
  const statusName = failed ? 'Failed' : 'Passed';
  const id = resultId(machine, KINDS.indexOf(kind) as 0 | 1 | 2);
  const output = Buffer.from(kind === 'installation' ? machine.installLog : '').toString('base64');
  const time = proseTime(call.region.now());
  return {
    id,
    system_id: machine.systemId,
    type: TYPE_NUMBERS[kind],
    type_name: kind === 'installation' ? 'Installation' : kind === 'testing' ? 'Testing' : 'Commissioning',
    last_ping: null,
    status,
    status_name: statusName,
    started: time,
    ended: time,
    runtime: '0:02:10',
    results: [
      {
        id: id * 10,
        created: time,
        updated: time,
        name:
          kind === 'installation'
            ? '/tmp/install.log'
            : kind === 'testing'
              ? 'smartctl-validate'
              : '50-maas-01-commissioning',
        status,
        status_name: statusName,
        exit_status: failed ? 1 : 0,
        started: time,
        ended: time,
        runtime: '0:02:10',
        ...(call.query.has('include_output') ? { output, stdout: output, stderr: '', result: '' } : {}),
      },
    ],
    resource_uri: `${API}/nodes/${machine.systemId}/results/${id}/`,
  };
}

const listResults: Handler = (call) => {
  const machine = machineOf(call, 'view');
  const wanted = call.query.all('type');
  const kinds = KINDS.filter(
    (kind) => exists(machine, kind) && (wanted.length === 0 || wanted.includes(kind)),
  );
  return json(kinds.map((kind) => renderResult(call, machine, kind)));
};

/** By number or as `current-installation`. */
function kindOf(call: Call, machine: Machine): Kind {
  const text = call.params[1] ?? '';
  const kind = KINDS.find(
    (one, at) => text === `current-${one}` || text === String(resultId(machine, at as 0 | 1 | 2)),
  );
  if (!kind) throw missing('ScriptSet');
  if (!exists(machine, kind)) throw raisedText(400, `No current ${kind} script set exists for this node.`);
  return kind;
}

const readResult: Handler = (call) => {
  const machine = machineOf(call, 'view');
  return json(renderResult(call, machine, kindOf(call, machine)));
};

const downloadResult: Handler = (call) => {
  const machine = machineOf(call, 'view');
  const kind = kindOf(call, machine);
  return plain(200, kind === 'installation' ? machine.installLog : '');
};

const nicOf = (call: Call, machine: Machine): Nic =>
  found(machine.nics, 'Interface', (nic) => String(nic.id) === call.params[1] || nic.name === call.params[1]);

const linkSubnet: Handler = (call) => {
  const { region, user } = call;
  const machine = machineOf(call, 'edit');
  if (!user.admin) throw refused();
  const nic = nicOf(call, machine);
  const form = fields(call);
  const subnet = region.findSubnet(form.get('subnet') ?? '');
  const mode = (form.get('mode') ?? '').toLowerCase() as Link['mode'];
  const ip = form.get('ip_address') || null;
  if (ip !== null && parseIp(ip) !== undefined && region.addresses.has(ip))
    throw raisedText(404, 'IP address is already in use.');
  nic.links = nic.links.filter((link) => link.mode !== 'link_up');
  nic.links.push({
    id: region.nextId('link'),
    mode,
    subnetId: subnet?.id ?? null,
    ip: mode === 'static' ? ip : null,
  });
  if (ip !== null && mode === 'static')
    region.addresses.set(ip, {
      ip,
      allocType: 1,
      username: null,
      subnetId: subnet?.id ?? null,
      machine: { systemId: machine.systemId, interfaceId: nic.id },
      createdAt: region.now(),
    });
  return json(renderNic(region, machine, nic));
};

const unlinkSubnet: Handler = (call) => {
  const machine = machineOf(call, 'edit');
  if (!call.user.admin) throw refused();
  const nic = nicOf(call, machine);
  const id = fields(call).get('id');
  const gone = nic.links.find((link) => String(link.id) === id);
  if (gone?.ip) call.region.addresses.delete(gone.ip);
  nic.links = nic.links.filter((link) => link !== gone);
  if (nic.links.length === 0)
    nic.links.push({ id: call.region.nextId('link'), mode: 'link_up', subnetId: null, ip: null });
  return json(renderNic(call.region, machine, nic));
};

export const nodePartResources: readonly Resource[] = [
  {
    path: /^nodes\/([^/]+)\/interfaces\/$/,
    name: 'interfaces',
    methods: {
      GET: (call) => {
        const machine = machineOf(call, 'view');
        return json(machine.nics.map((nic) => renderNic(call.region, machine, nic)));
      },
    },
  },
  {
    path: /^nodes\/([^/]+)\/interfaces\/([^/]+)\/$/,
    name: 'interface',
    methods: {
      GET: (call) => {
        const machine = machineOf(call, 'view');
        return json(renderNic(call.region, machine, nicOf(call, machine)));
      },
    },
    post: { link_subnet: linkSubnet, unlink_subnet: unlinkSubnet },
  },
  {
    path: /^nodes\/([^/]+)\/blockdevices\/$/,
    name: 'blockdevices',
    methods: {
      GET: (call) => {
        const machine = machineOf(call, 'view');
        // Alone of all places, this list leaves the firmware out.
        return json(
          machine.disks.map((disk) => {
            const { firmware_version: _firmware, ...rest } = renderDisk(machine, disk);
            return rest;
          }),
        );
      },
    },
  },
  { path: /^nodes\/([^/]+)\/results\/$/, name: 'results', methods: { GET: listResults } },
  {
    path: /^nodes\/([^/]+)\/results\/([^/]+)\/$/,
    name: 'result',
    methods: { GET: readResult },
    get: { download: downloadResult },
  },
  {
    path: /^nodes\/([^/]+)\/devices\/$/,
    name: 'node-devices',
    methods: {
      GET: (call) => {
        const machine = machineOf(call, 'view');
        return json(
          machine.nics.map((nic, at) => ({
            id: nic.id,
            system_id: machine.systemId,
            bus: 1,
            bus_name: 'PCIE',
            hardware_type: 4,
            hardware_type_name: 'Network',
            vendor_id: '8086',
            product_id: '1572',
            vendor_name: 'Intel Corporation',
            product_name: 'Ethernet Controller X710 for 10GbE SFP+',
            commissioning_driver: 'i40e',
            bus_number: 24,
            device_number: at,
            pci_address: `0000:18:00.${at}`,
            numa_node: 0,
            resource_uri: `${API}/nodes/${machine.systemId}/devices/${nic.id}/`,
          })),
        );
      },
    },
  },
];
