/** Allocation: the smallest Ready machine that fits, one caller at a time. */
import { type Call, flag, formOnly, integer } from '../call.ts';
import { allocateConstraints, type Constraints } from '../constraints.ts';
import type { Form } from '../form.ts';
import { mayEdit, visibleMachines } from '../lookup.ts';
import type { Machine } from '../model.ts';
import { addMachine } from '../populate.ts';
import type { Region } from '../region.ts';
import { invalid, json, pythonRepr, raisedText, type Reply } from '../reply.ts';
import { renderMachine } from '../render-machine.ts';

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
  const ready = visibleMachines(call).filter((machine) => mayTake(call, machine));
  const fitting = ready.filter((machine) => constraints.matches(machine)).sort((a, b) => cost(a) - cost(b)); // stable: the older of two equal machines
  const wrong = ready.filter((machine) => !constraints.matches(machine));
  const strike = wrong.length > 0 ? site.faults.strikes('wrong-machine', subject) : undefined;
  if (strike) return strike.random.pick(wrong);
  const held = visibleMachines(call).filter(
    (machine) => machine.status === 'allocated' && machine.owner !== null,
  );
  const twice = held.length > 0 ? site.faults.strikes('double-allocation', subject) : undefined;
  if (twice) return twice.random.pick(held);
  const [best] = fitting;
  const composed = composes(call, form, subject, best !== undefined);
  return composed ? composeVm(call, form) : (best ?? noMatch(constraints, form));
}

/** A VM host that heeds what the client asked for is no help while a machine fits, nor to a client that wants none. */
function composes({ site }: Call, form: Form, subject: string, fits: boolean): boolean {
  return (
    site.faults.strikes(
      'compose-vm',
      subject,
      (rule) => rule.value === 1 || (!fits && !form.has('not_pod_type')),
    ) !== undefined
  );
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
  if (site.life.strikes('stale-address', machine)) reassignDiscovered(region, machine);
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

/** DHCP gave what commissioning saw to somebody else since: MAAS goes on showing it until the machine has its own. */
function reassignDiscovered(region: Region, machine: Machine): void {
  for (const nic of machine.nics) {
    const { discovered } = nic;
    const others = [...region.addresses.values()].filter(
      (one) => one.subnetId === discovered?.subnetId && one.machine?.systemId !== machine.systemId,
    );
    const taken = others.find((one) => one.machine !== null) ?? others[0];
    if (discovered && taken) nic.discovered = { ...discovered, ip: taken.ip };
  }
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

export async function allocate(call: Call): Promise<Reply> {
  const form = formOnly(call, 'lists');
  return inTurn(call, () => {
    const constraints = allocateConstraints(call.region, form);
    const { dryRun } = checkOptions(form);
    const machine = choose(call, constraints, form);
    if (!dryRun) acquire(call, machine, form.get('agent_name') ?? '', form.get('comment'));
    return json(renderMachine(call.region, machine, { constraintsByType: constraints.labels(machine) }));
  });
}
