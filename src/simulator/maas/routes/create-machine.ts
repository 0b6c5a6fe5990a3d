/** POST on `machines/`: enlisting a machine by hand. */
import { type Call, fields, flag } from '../call.ts';
import { addMachine } from '../populate.ts';
import { invalid, json, type Reply } from '../reply.ts';
import { renderMachine } from '../render-machine.ts';

const ARCHITECTURES = ["'amd64/generic'", "'arm64/generic'"];
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i;
const POWER_TYPES = new Set(
  'amt apc dli eaton hmc hmcz ipmi lxd manual moonshot mscm msftocs nova openbmc proxmox raritan recs_box redfish sm15k ucsm virsh vmware webhook wedge'.split(
    ' ',
  ),
);

export function createMachine(call: Call): Reply {
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
    call.site.life.maintenance.commission(machine, call.user);
  return json(renderMachine(region, machine));
}
