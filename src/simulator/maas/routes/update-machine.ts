/** PUT on a machine: an admin's form. Unknown fields are ignored, JSON is honoured. */
import { type Call, fields } from '../call.ts';
import { machineOf } from '../lookup.ts';
import { invalid, rawJson, type Reply } from '../reply.ts';

const LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/;
const NO_CHOICE = 'Select a valid choice. That choice is not one of the available choices.';

export function updateMachine(call: Call): Reply {
  const { region } = call;
  const machine = machineOf(call, 'admin');
  const form = fields(call);
  const errors: Record<string, string> = {};
  const pick = <T extends { readonly name: string }>(field: string, items: readonly T[]): T | undefined => {
    const wanted = form.get(field);
    if (wanted === undefined) return undefined;
    const item = items.find((one) => one.name === wanted);
    if (!item) errors[field] = NO_CHOICE;
    return item;
  };
  const zone = pick('zone', region.zones);
  const pool = pick('pool', region.pools);
  const domain = pick('domain', region.domains);
  const hostname = form.get('hostname');
  if (hostname !== undefined && !LABEL.test(hostname))
    errors.hostname = `Label contains disallowed characters: '${hostname}'.`;
  else if (
    hostname !== undefined &&
    [...region.machines.values()].some((one) => one !== machine && one.hostname === hostname)
  )
    errors.hostname = 'Node with this Hostname already exists.';
  const swap = form.get('swap_size');
  if (swap && !/^\d+$/.test(swap)) errors.swap_size = 'Enter a whole number.';
  if (Object.keys(errors).length > 0) throw invalid(errors);

  if (zone) machine.zoneId = zone.id;
  if (pool) machine.poolId = pool.id;
  if (domain) machine.domainId = domain.id;
  if (hostname !== undefined) machine.hostname = hostname;
  if (swap !== undefined) machine.swapSize = swap === '' ? null : Number(swap);
  machine.description = form.get('description') ?? machine.description;
  machine.powerType = form.get('power_type') ?? machine.powerType;
  machine.minHweKernel = form.get('min_hwe_kernel') ?? machine.minHweKernel;
  for (const [key, values] of form.entries())
    if (key.startsWith('power_parameters_'))
      machine.powerParameters[key.slice('power_parameters_'.length)] = values.at(-1) ?? '';
  return rawJson(call.site.cache.text(machine));
}
