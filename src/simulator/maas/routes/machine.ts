/** One machine: `machines/<id>/` with its operations, and the same under `nodes/`. */
import { type Call, fields, forAdmin, type Handler } from '../call.ts';
import { machineOf } from '../lookup.ts';
import type { Machine } from '../model.ts';
import { flatLayout } from '../populate.ts';
import { deleted, invalid, json, plain, raisedText, rawJson, refused, type Reply } from '../reply.ts';
import type { Resource } from '../router.ts';
import { COMMISSIONABLE, mayBecome, NOT_TESTABLE, RELEASABLE, statusTitle } from '../status.ts';
import { deploy, start } from './deploy.ts';
import { releaseMachine } from './release.ts';
import { updateMachine } from './update-machine.ts';

const body = (call: Call, machine: Machine): Reply => rawJson(call.site.cache.text(machine));

const read: Handler = (call) => body(call, machineOf(call, 'view'));

const remove: Handler = (call) => {
  const machine = machineOf(call, 'admin');
  call.site.life.forget(machine);
  return deleted();
};

async function abort(call: Call): Promise<Reply> {
  const machine = machineOf(call, 'edit');
  const { life } = call.site;
  const target = life.abortTarget(machine);
  if (!target)
    throw raisedText(
      409,
      `Cannot abort in current state: node ${machine.systemId} is in state ${statusTitle(machine.status)}.`,
    );
  life.processes.interrupt(machine);
  life.userEvent(machine, 'User aborting node operation', call.user, call.form.get('comment'));
  life.event(machine, 'INFO', target.event);
  if (machine.status === 'commissioning') machine.owner = null;
  const reply = body(call, machine);
  if (life.hasBmc(machine)) {
    const outcome = await life.power(machine, 'off');
    if (outcome.kind === 'failed') return outcome.reply;
  }
  life.finishAbort(machine, target.to);
  return reply;
}

const lock: Handler = (call) => {
  const machine = machineOf(call, 'lock');
  if (machine.locked) throw raisedText(409, 'Machine is already locked');
  if (machine.status !== 'deployed' && machine.status !== 'deploying')
    throw raisedText(409, "Can't lock, node is not deployed or deploying");
  machine.locked = true;
  call.site.life.userEvent(machine, 'User locking node', call.user, call.form.get('comment'));
  return body(call, machine);
};

const unlock: Handler = (call) => {
  const machine = machineOf(call, 'lock');
  if (!machine.locked) throw raisedText(409, 'Machine is not locked');
  machine.locked = false;
  call.site.life.userEvent(machine, 'User unlocking node', call.user, call.form.get('comment'));
  return body(call, machine);
};

/** Only the owner may, not even an admin; the machine is released on the way where it can be. */
const markBroken: Handler = (call) => {
  const machine = machineOf(call, 'edit');
  const { region, site, user } = call;
  if (machine.owner !== user.username) throw refused();
  const comment = call.form.get('comment') ?? call.form.get('error_description') ?? '';
  const before = machine.status;
  site.life.processes.interrupt(machine);
  site.life.userEvent(machine, 'User marking node broken', user, comment);
  const on = machine.powerState === 'on' && site.life.hasBmc(machine);
  const releasable = RELEASABLE.has(before);
  if (releasable) {
    site.life.startRelease(machine);
    if (!on) site.life.finishRelease(machine);
  }
  if (machine.owner !== null) {
    const { systemId, hostname, agentName } = machine;
    region.ledger.record({
      at: region.now(),
      action: 'released',
      user: user.username,
      agentName,
      systemId,
      hostname,
    });
  }
  machine.owner = null;
  machine.ownerData.clear();
  region.changeStatus(machine, 'broken');
  machine.previousStatus = before;
  machine.errorDescription = comment;
  const reply = body(call, machine);
  if (!on || !releasable) return reply;
  return site.life.power(machine, 'off').then((outcome) => {
    region.releaseAutoIps(machine);
    return outcome.kind === 'failed' ? outcome.reply : reply;
  });
};

const markFixed: Handler = (call) => {
  const machine = machineOf(call, 'admin');
  if (machine.status !== 'broken') throw raisedText(409, "Can't mark a non-broken node as 'Ready'.");
  machine.errorDescription = '';
  call.region.changeStatus(machine, machine.previousStatus === 'deployed' ? 'deployed' : 'ready');
  return body(call, machine);
};

const overrideFailedTesting: Handler = (call) => {
  const machine = machineOf(call, 'edit');
  if (machine.status !== 'failed_testing')
    throw raisedText(409, "Unable to override node status. Node is not in 'Failed testing' status.");
  call.region.changeStatus(machine, machine.osystem === '' ? 'ready' : 'deployed');
  return body(call, machine);
};

async function powerOn(call: Call): Promise<Reply> {
  const machine = machineOf(call, 'edit');
  const { life } = call.site;
  if (machine.owner === null) throw raisedText(409, "Can't start node: it hasn't been allocated.");
  if (machine.status === 'allocated') return start(call, machine, call.form.get('comment'));
  if (!life.hasBmc(machine)) return body(call, machine);
  const reply = body(call, machine);
  const outcome = await life.power(machine, 'on');
  return outcome.kind === 'failed' ? outcome.reply : reply;
}

async function powerOff(call: Call): Promise<Reply> {
  const machine = machineOf(call, 'edit');
  const { life } = call.site;
  if (!life.hasBmc(machine)) return json(null);
  const reply = body(call, machine);
  const outcome = await life.power(machine, 'off');
  return outcome.kind === 'failed' ? outcome.reply : reply;
}

async function queryPowerState(call: Call): Promise<Reply> {
  const machine = machineOf(call, 'view');
  const { life } = call.site;
  if (machine.powerType === '') throw raisedText(503, 'No BMC is defined.  Cannot power control node.');
  if (!life.hasBmc(machine)) return json({ state: 'unknown' });
  if (life.strikes('rack-disconnected', machine))
    throw raisedText(
      503,
      `Unable to connect to any rack controller ${call.region.rackSystemId}; no connections available.`,
      { 'Retry-After': '10' },
    );
  if (life.strikes('power-failure', machine)) throw raisedText(500, 'BMC unreachable');
  const state = machine.bmcPower;
  life.noticePower(machine, state);
  return json({ state });
}

const commission: Handler = (call) => {
  const machine = machineOf(call, 'admin');
  checkScripts(call, ['commissioning_scripts', 'testing_scripts']);
  if (!COMMISSIONABLE.has(machine.status))
    throw invalid({ __all__: 'Commission is not available because of the current state of the node.' });
  call.site.life.maintenance.commission(machine, call.user);
  return body(call, machine);
};

const SCRIPTS = new Set([
  'none',
  'smartctl-validate',
  'memtester',
  'stress-ng-cpu-long',
  'fio',
  'badblocks',
  'internet-connectivity',
]);

function checkScripts(call: Call, names: readonly string[]): void {
  for (const name of names)
    for (const script of call.form.all(name).flatMap((value) => value.split(',')))
      if (script !== '' && !SCRIPTS.has(script) && !/^\d\d-/.test(script))
        throw invalid({
          [name]: `Select a valid choice. ${script} is not one of the available choices.`,
        });
}

const test: Handler = (call) => {
  const machine = machineOf(call, 'admin');
  checkScripts(call, ['testing_scripts']);
  if (NOT_TESTABLE.has(machine.status))
    throw invalid({ __all__: 'Test is not available because of the current state of the node.' });
  call.site.life.maintenance.test(machine, call.user);
  return body(call, machine);
};

const rescueMode: Handler = (call) => {
  const machine = machineOf(call, 'admin');
  if (!mayBecome(machine.status, 'entering_rescue_mode'))
    throw raisedText(
      409,
      `Invalid transition: ${statusTitle(machine.status)} -> ${statusTitle('entering_rescue_mode')}.`,
    );
  call.site.life.maintenance.enterRescue(machine, call.user);
  return body(call, machine);
};

async function exitRescueMode(call: Call): Promise<Reply> {
  const machine = machineOf(call, 'admin');
  const { life } = call.site;
  if (!mayBecome(machine.status, 'exiting_rescue_mode'))
    throw raisedText(
      409,
      `Invalid transition: ${statusTitle(machine.status)} -> ${statusTitle('exiting_rescue_mode')}.`,
    );
  life.maintenance.exitRescue(machine);
  const reply = body(call, machine);
  const outcome = await life.power(machine, machine.previousStatus === 'deployed' ? 'on' : 'off');
  return outcome.kind === 'failed' ? outcome.reply : reply;
}

const KEY = /^[\w.-]+$/;
const KEY_MAX = 255;

/** Merges; an empty value deletes. JSON bodies leave the form empty, so they change nothing. */
const setAnnotations: Handler = (call) => {
  const machine = machineOf(call, 'edit');
  if (machine.owner === null)
    throw raisedText(409, "Cannot set workload annotation: it hasn't been acquired.");
  const entries = call.form.entries().filter(([key]) => key !== 'op');
  for (const [key] of entries) {
    if (!KEY.test(key)) throw raisedText(500, 'Invalid character in key name');
    if (key.length > KEY_MAX)
      throw invalid(
        { key: `Ensure this value has at most ${KEY_MAX} characters (it has ${key.length}).` },
        'application/json',
      );
  }
  for (const [key, values] of entries) {
    const value = values.at(-1) ?? '';
    if (value === '') machine.ownerData.delete(key);
    else machine.ownerData.set(key, value);
  }
  return body(call, machine);
};

const LAYOUTS = ['vmfs7', 'vmfs6', 'bcache', 'blank', 'lvm', 'custom', 'flat'];

const setStorageLayout: Handler = (call) => {
  const machine = machineOf(call, 'admin');
  if (machine.status !== 'ready')
    throw raisedText(409, 'Cannot change the storage layout on a machine that is not Ready.');
  const layout = call.form.get('storage_layout') ?? '';
  if (!LAYOUTS.includes(layout))
    throw invalid({
      storage_layout: `'${layout}' is not a valid storage_layout.  It should be one of: ${LAYOUTS.map((one) => `'${one}'`).join(', ')}.`,
    });
  for (const disk of machine.disks) disk.partitions = [];
  const [bootDisk] = machine.disks;
  if (bootDisk && layout !== 'blank') flatLayout(call.region, bootDisk);
  return body(call, machine);
};

const powerParameters: Handler = (call) => json(machineOf(call, 'admin').powerParameters);

const getToken: Handler = (call) => {
  const machine = machineOf(call, 'view');
  if (!call.user.admin && machine.owner !== call.user.username) throw refused();
  if (machine.userData === null && machine.incarnation === 0) return json(null);
  const key = (length: number) => machine.hardwareUuid.replaceAll('-', '').slice(0, length);
  return json({ token_key: key(18), token_secret: key(32), consumer_key: key(18) });
};

const DEPLOYMENT_STATES = new Set(['deploying', 'deployed', 'failed_deployment']);

const getCurtinConfig: Handler = (call) => {
  const machine = machineOf(call, 'view');
  if (!DEPLOYMENT_STATES.has(machine.status))
    throw raisedText(400, `Machine ${machine.hostname} is not in a deployment state.`);
  return plain(
    200,
    `apt:\n  preserve_sources_list: false\n  proxy: http://${machine.hostname}:8000/\nkernel:\n  package: linux-generic\nreporting:\n  maas:\n    type: webhook\n`,
  );
};

/** An empty BSON document with the two members that MAAS always has. */
const details: Handler = (call) => {
  machineOf(call, 'view');
  const member = (name: string) =>
    Buffer.concat([Buffer.from([5]), Buffer.from(`${name}\0`), Buffer.from([0, 0, 0, 0, 0])]);
  const content = Buffer.concat([member('lldp'), member('lshw'), Buffer.from([0])]);
  const size = Buffer.alloc(4);
  size.writeInt32LE(content.length + 4);
  return {
    status: 200,
    contentType: 'application/bson',
    body: Buffer.concat([size, content]),
    origin: 'api',
  };
};

const release: Handler = (call) => {
  const machine = machineOf(call, 'edit');
  const form = fields(call);
  const scripts = form.get('scripts');
  if (scripts && call.region.flavour.releaseScripts && scripts !== 'wipe-disks')
    throw invalid({ scripts: `Select a valid choice. ${scripts} is not one of the available choices.` });
  return releaseMachine(call, machine, form);
};

const operations = {
  deploy: (call: Call) => deploy(call, machineOf(call, 'edit')),
  release,
  abort,
  lock,
  unlock,
  mark_broken: markBroken,
  mark_fixed: markFixed,
  override_failed_testing: overrideFailedTesting,
  power_on: powerOn,
  power_off: powerOff,
  commission,
  test,
  rescue_mode: rescueMode,
  exit_rescue_mode: exitRescueMode,
  set_owner_data: setAnnotations,
  set_workload_annotations: setAnnotations,
  set_storage_layout: setStorageLayout,
};

export const machineResource: Resource = {
  path: /^(?:machines)\/([^/]+)\/$/,
  name: 'machine',
  methods: { GET: read, PUT: updateMachine, DELETE: remove },
  get: {
    query_power_state: queryPowerState,
    power_parameters: powerParameters,
    get_token: getToken,
    get_curtin_config: getCurtinConfig,
    details,
  },
  post: operations,
};

export const nodeResource: Resource = {
  path: /^nodes\/([^/]+)\/$/,
  name: 'node',
  methods: { GET: read, DELETE: forAdmin(remove) },
  get: { power_parameters: powerParameters, details },
};
