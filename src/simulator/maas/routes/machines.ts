/** The collection `machines/` (and `nodes/`): list, allocate, bulk release, create. */
import { addMachine } from '../populate.ts';
import { type Call, fields, flag, formOnly, integer, mandatory } from '../call.ts';
import { allocateConstraints, listConstraints, type Constraints } from '../constraints.ts';
import type { Form } from '../form.ts';
import { mayEdit } from '../lookup.ts';
import type { Machine } from '../model.ts';
import { invalid, json, pythonRepr, raisedText, rawJson, refused, type Reply } from '../reply.ts';
import { renderMachine } from '../render-machine.ts';
import type { Resource } from '../router.ts';
import { RELEASABLE, statusTitle } from '../status.ts';
import { releaseMachine } from './release.ts';

async function listed(call: Call, machines: readonly Machine[]): Promise<Reply> {
  await call.site.wait((call.site.latency.listedMachineMs ?? 0) * machines.length);
  return rawJson(call.site.cache.list(machines));
}

const visible = ({ region, user }: Call): Machine[] =>
  [...region.machines.values()].filter((machine) => region.visibleTo(user, machine));

function list(call: Call): Promise<Reply> {
  if (call.query.has('simple_status'))
    throw raisedText(
      500,
      "Cannot resolve keyword 'simple_status' into field. Choices are: address_ttl, agent_name.",
    );
  const constraints = listConstraints(call.region, call.query);
  return listed(
    call,
    visible(call).filter((machine) => constraints.matches(machine)),
  );
}

function listAllocated(call: Call): Promise<Reply> {
  const ids = call.query.all('id');
  return listed(
    call,
    visible(call).filter(
      (machine) =>
        machine.status === 'allocated' &&
        machine.owner === call.user.username &&
        (ids.length === 0 || ids.includes(machine.systemId)),
    ),
  );
}

const cost = (machine: Machine): number => machine.cpuCount + machine.memoryMiB / 1024;

const mayTake = (call: Call, machine: Machine): boolean =>
  machine.status === 'ready' && machine.owner === null && mayEdit(call, machine);

function checkOptions(form: Form): { dryRun: boolean } {
  flag(form, 'bridge_all');
  flag(form, 'bridge_stp');
  flag(form, 'verbose');
  integer(form, 'bridge_fd', 0);
  const bridgeType = form.get('bridge_type');
  if (bridgeType && bridgeType !== 'standard' && bridgeType !== 'ovs')
    throw invalid({
      bridge_type: "'%(value)s' is not a valid bridge_type.  It should be one of: 'standard', 'ovs'.",
    });
  return { dryRun: flag(form, 'dry_run') };
}

function noMatch(constraints: Constraints, form: Form): never {
  if (form.has('system_id'))
    throw raisedText(409, `No machine with system ID ${form.get('system_id')} available.`);
  if (constraints.given.length === 0) throw raisedText(409, 'No machine available.');
  const given = constraints.given
    .map(([name, values]) => `(${pythonRepr(name)}, [${values.map(pythonRepr).join(', ')}])`)
    .join(', ');
  throw raisedText(
    409,
    `No available machine matches constraints: [${given}] (resolved to "${constraints.resolved}")`,
  );
}

/** The machine that MAAS picks: the smallest that fits, or what a fault makes of it. */
function choose(call: Call, constraints: Constraints, form: Form): Machine {
  const { site } = call;
  const subject = `${call.user.username} ${form.get('agent_name') ?? ''} ${constraints.resolved}`;
  const ready = visible(call).filter((machine) => mayTake(call, machine));
  const fitting = ready.filter((machine) => constraints.matches(machine)).sort((a, b) => cost(a) - cost(b)); // stable: the older of two equal machines
  const wrong = ready.filter((machine) => !constraints.matches(machine));
  const strike = wrong.length > 0 ? site.faults.strikes('wrong-machine', subject) : undefined;
  if (strike) return strike.random.pick(wrong);
  const held = visible(call).filter((machine) => machine.status === 'allocated' && machine.owner !== null);
  const twice = held.length > 0 ? site.faults.strikes('double-allocation', subject) : undefined;
  if (twice) return twice.random.pick(held);
  const [best] = fitting;
  if (best) return best;
  if (!form.has('system_id') && !form.has('not_pod_type') && site.faults.strikes('compose-vm', subject))
    return composeVm(call, form);
  return noMatch(constraints, form);
}

/** MAAS looks at size and zone only: name and pool of the request are ignored. */
function composeVm({ region }: Call, form: Form): Machine {
  return addMachine(
    region,
    {
      hostname: `vm-${region.random.text('abcdefghkmnpqrstwxy', 5)}`,
      zone: form.get('zone') ?? 'default',
      pool: 'default',
      domain: 'maas',
      architecture: 'amd64/generic',
      cpuCount: Number(form.get('cpu_count') ?? 1),
      cpuSpeedMhz: 0,
      memoryMiB: Number(form.get('mem') ?? 2048),
      disks: [{ name: 'sda', model: 'QEMU HARDDISK', sizeGb: 8, tags: ['ssd'] }],
      nics: [{ name: 'enp5s0', speedMbit: 1000, subnet: region.subnets[0]?.name ?? '' }],
      tags: ['pod-console-logging'],
      powerType: 'lxd',
      vendor: 'QEMU',
      product: 'Standard PC (Q35 + ICH9, 2009)',
      cpuModel: 'QEMU Virtual CPU',
    },
    true,
  );
}

/** Makes the caller the owner. */
export function acquire(call: Call, machine: Machine, agentName: string, comment: string | undefined): void {
  const { region, site, user } = call;
  machine.owner = user.username;
  machine.agentName = agentName;
  machine.previousStatus = machine.status;
  site.life.userEvent(machine, 'User acquiring node', user, comment);
  region.changeStatus(machine, 'allocated');
  region.ledger.record({
    at: region.now(),
    action: 'allocate',
    user: user.username,
    agentName,
    systemId: machine.systemId,
    hostname: machine.hostname,
  });
}

/** Waits for the turn of this allocation: MAAS runs them one after another. */
async function inTurn<T>(call: Call, work: () => T): Promise<T> {
  const { site } = call;
  const before = site.allocating.turn;
  let done = () => {};
  site.allocating.turn = new Promise((resolve) => {
    done = resolve;
  });
  try {
    await before;
    await site.wait(site.latency.allocateMs ?? 0);
    return work();
  } finally {
    done();
  }
}

async function allocate(call: Call): Promise<Reply> {
  const form = formOnly(call, 'lists');
  return inTurn(call, () => {
    const constraints = allocateConstraints(call.region, form);
    const { dryRun } = checkOptions(form);
    const machine = choose(call, constraints, form);
    if (!dryRun) acquire(call, machine, form.get('agent_name') ?? '', form.get('comment'));
    return json(renderMachine(call.region, machine, { constraintsByType: constraints.labels(machine) }));
  });
}

async function bulkRelease(call: Call): Promise<Reply> {
  const form = formOnly(call, 'getlist');
  const ids = [...new Set(form.all('machines'))];
  const machines = ids.flatMap((id) => call.region.machines.get(id) ?? []);
  const unknown = ids.filter((id) => !call.region.machines.has(id));
  if (unknown.length > 0) throw raisedText(400, `Unknown machine(s): ${unknown.join(', ')}.`);
  const denied = machines.filter((machine) => !mayEdit(call, machine));
  if (denied.length > 0) {
    const names = denied.map((machine) => machine.systemId).join(', ');
    throw raisedText(
      403,
      `You don't have the required permission to release the following machine(s): ${names}.`,
    );
  }
  const wanted = machines.filter((machine) => machine.status !== 'ready');
  const stuck = wanted.filter((machine) => !RELEASABLE.has(machine.status));
  if (stuck.length > 0) {
    const names = stuck.map((machine) => `${machine.systemId} ('${statusTitle(machine.status)}')`).join(', ');
    throw raisedText(409, `Machine(s) cannot be released in their current state: ${names}.`);
  }
  for (const machine of wanted) {
    const reply = await releaseMachine(call, machine, form);
    if (reply.status !== 200) return reply;
  }
  return json(wanted.map((machine) => machine.systemId));
}

const ARCHITECTURES = ["'amd64/generic'", "'arm64/generic'"];
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i;
const POWER_TYPES = new Set(
  'amt apc dli eaton hmc hmcz ipmi lxd manual moonshot mscm msftocs nova openbmc proxmox raritan recs_box redfish sm15k ucsm virsh vmware webhook wedge'.split(
    ' ',
  ),
);

function create(call: Call): Reply {
  const { region } = call;
  const form = fields(call);
  const errors: Record<string, string> = {};
  const macs = form.all('mac_addresses');
  const architecture = form.get('architecture') ?? '';
  const hostname = form.get('hostname') ?? `new-${region.random.text('abcdefghkmnpqrstwxy', 5)}`;
  const powerType = form.get('power_type') ?? '';
  if (architecture === '') errors.architecture = 'This field is required.';
  const fullArchitecture = architecture.includes('/') ? architecture : `${architecture}/generic`;
  if (architecture !== '' && !ARCHITECTURES.includes(`'${fullArchitecture}'`))
    errors.architecture = `'${fullArchitecture}' is not a valid architecture.  It should be one of: ${ARCHITECTURES.join(', ')}.`;
  if (macs.length === 0) errors.mac_addresses = 'This field is required.';
  const badMac = macs.find((mac) => !MAC.test(mac));
  if (badMac) errors.mac_addresses = `'${badMac}' is not a valid MAC address.`;
  const machines = [...region.machines.values()];
  const user = machines.find((machine) => machine.nics.some((nic) => macs.includes(nic.mac)));
  if (user)
    errors.mac_addresses = `MAC address ${macs.find((mac) => user.nics.some((nic) => nic.mac === mac))} already in use on ${user.hostname}.`;
  if (machines.some((machine) => machine.hostname === hostname))
    errors.hostname = 'Node with this Hostname already exists.';
  if (powerType !== '' && !POWER_TYPES.has(powerType))
    errors.power_type = `Select a valid choice. ${powerType} is not one of the available choices.`;
  if (powerType === 'ipmi' && !form.keys().some((key) => key.startsWith('power_parameters')))
    errors.power_parameters = 'This field is required.';
  if (Object.keys(errors).length > 0) throw invalid(errors);

  const machine = addMachine(region, {
    hostname,
    zone: 'default',
    pool: 'default',
    domain: form.get('domain') ?? 'maas',
    architecture: fullArchitecture,
    cpuCount: 0,
    cpuSpeedMhz: 0,
    memoryMiB: 0,
    disks: [],
    nics: [],
    tags: [],
    powerType,
    vendor: 'Unknown',
    product: 'Unknown',
    cpuModel: 'Unknown',
    status: 'new',
  });
  machine.powerState = 'unknown';
  machine.nics = macs.map((mac, at) => ({
    id: region.nextId('interface'),
    name: `eth${at}`,
    mac,
    vlanId: region.vlans[0]?.id ?? 1,
    speedMbit: 0,
    links: [],
    discovered: null,
  }));
  if (call.user.admin && flag(form, 'commission', true))
    call.site.life.startCommissioning(machine, call.user);
  return json(renderMachine(region, machine));
}

function powerParameters(call: Call): Reply {
  if (!call.user.admin) throw refused();
  const ids = call.query.all('id');
  const machines = visible(call).filter((machine) => ids.length === 0 || ids.includes(machine.systemId));
  return json(Object.fromEntries(machines.map((machine) => [machine.systemId, machine.powerParameters])));
}

function isRegistered(call: Call): Reply {
  const mac = mandatory(call.query, 'mac_address').toLowerCase();
  return json(
    [...call.region.machines.values()].some((machine) => machine.nics.some((nic) => nic.mac === mac)),
  );
}

function setZone(call: Call): Reply {
  if (!call.user.admin) throw refused();
  const zone = call.region.zones.find((one) => one.name === call.form.get('zone'));
  if (!zone)
    throw invalid({ zone: 'Select a valid choice. That choice is not one of the available choices.' });
  for (const id of call.form.all('nodes')) {
    const machine = call.region.machines.get(id);
    if (machine) machine.zoneId = zone.id;
  }
  return json(null);
}

function accept(call: Call): Reply {
  const ids = call.form.all('machines');
  const machines = ids.flatMap((id) => call.region.machines.get(id) ?? []);
  const accepted = machines.filter((machine) => machine.status === 'new');
  for (const machine of accepted) call.site.life.startCommissioning(machine, call.user);
  return json(accepted.map((machine) => renderMachine(call.region, machine)));
}

function clone(): never {
  throw invalid({
    destinations: 'This field is required.',
    __all__: 'Either storage or interfaces must be true.',
  });
}

const ANONYMOUS_GET = { is_registered: isRegistered, is_action_in_progress: () => json(false) };

export const machinesResource: Resource = {
  path: /^machines\/$/,
  name: 'machines',
  methods: { GET: list, POST: create },
  get: { list_allocated: listAllocated, power_parameters: powerParameters, is_registered: isRegistered },
  post: { allocate, release: bulkRelease, set_zone: setZone, accept, clone },
  anonymous: 'some',
  anonymousGet: ANONYMOUS_GET,
};

export const nodesResource: Resource = {
  path: /^nodes\/$/,
  name: 'nodes',
  methods: { GET: list },
  get: { is_registered: isRegistered },
  post: { set_zone: setZone },
  anonymous: 'some',
  anonymousGet: ANONYMOUS_GET,
};
