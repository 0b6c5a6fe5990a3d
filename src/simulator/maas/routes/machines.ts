/** The collection `machines/` (and `nodes/`): lists, bulk release and what else takes several machines. */
import { type Call, formOnly, mandatory } from '../call.ts';
import { listConstraints } from '../constraints.ts';
import { mayEdit, visibleMachines } from '../lookup.ts';
import type { Machine } from '../model.ts';
import { invalid, json, raisedText, rawJson, refused, type Reply } from '../reply.ts';
import { renderMachine } from '../render-machine.ts';
import type { Resource } from '../router.ts';
import { RELEASABLE, statusTitle } from '../status.ts';
import { allocate } from './allocate.ts';
import { createMachine } from './create-machine.ts';
import { releaseMachine } from './release.ts';

async function listed(call: Call, machines: readonly Machine[]): Promise<Reply> {
  await call.site.wait((call.site.latency.listedMachineMs ?? 0) * machines.length);
  return rawJson(call.site.cache.list(machines));
}

function list(call: Call): Promise<Reply> {
  if (call.query.has('simple_status'))
    throw raisedText(
      500,
      "Cannot resolve keyword 'simple_status' into field. Choices are: address_ttl, agent_name.",
    );
  const constraints = listConstraints(call.region, call.query);
  return listed(
    call,
    visibleMachines(call).filter((machine) => constraints.matches(machine)),
  );
}

function listAllocated(call: Call): Promise<Reply> {
  const ids = call.query.all('id');
  return listed(
    call,
    visibleMachines(call).filter(
      (machine) =>
        machine.status === 'allocated' &&
        machine.owner === call.user.username &&
        (ids.length === 0 || ids.includes(machine.systemId)),
    ),
  );
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

function powerParameters(call: Call): Reply {
  if (!call.user.admin) throw refused();
  const ids = call.query.all('id');
  const machines = visibleMachines(call).filter(
    (machine) => ids.length === 0 || ids.includes(machine.systemId),
  );
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
  for (const machine of accepted) call.site.life.maintenance.commission(machine, call.user);
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
  methods: { GET: list, POST: createMachine },
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
