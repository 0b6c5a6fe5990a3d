/**
 * The constraints of `GET machines/` and of allocate: which names exist where, how their values are checked,
 * and which machines satisfy them. Unknown names are errors in MAAS, never ignored.
 */
import type { Form } from './form.ts';
import { matchInterfaces, matchStorage, type Labels } from './layout-constraints.ts';
import type { Machine, Nic } from './model.ts';
import type { Region } from './region.ts';
import { invalid } from './reply.ts';
import { isStatus } from './status.ts';

type Test = (machine: Machine) => boolean;

/** A checked constraint. `resolved` is how the "no match" text repeats it. */
interface Constraint {
  readonly test: Test;
  readonly resolved: string;
  /** Labels of storage or interfaces and what they matched, for the answer. */
  readonly labels?: (machine: Machine) => Labels | undefined;
}

/** A value that MAAS refuses, with its words. */
class BadValue extends Error {}

type Maker = (region: Region, values: readonly string[]) => Constraint;

const split = (values: readonly string[]): string[] =>
  values.flatMap((value) => value.split(/[,\s]+/)).filter((value) => value !== '');

const anyOf = (read: (region: Region, machine: Machine) => string | readonly string[]): Maker => {
  return (region, values) => ({
    resolved: values.join(','),
    test: (machine) => {
      const actual = read(region, machine);
      return values.some((value) => (typeof actual === 'string' ? actual === value : actual.includes(value)));
    },
  });
};

const not = (maker: Maker): Maker => {
  return (region, values) => {
    const { test, resolved } = maker(region, values);
    return { resolved, test: (machine) => !test(machine) };
  };
};

/** Refuses values for which nothing by that name exists. */
const known = (
  exists: (region: Region, value: string) => boolean,
  message: (bad: string[]) => string,
  maker: Maker,
): Maker => {
  return (region, values) => {
    const bad = values.filter((value) => !exists(region, value));
    if (bad.length > 0) throw new BadValue(message(bad));
    return maker(region, values);
  };
};

const choice = (choices: (value: string) => boolean, maker: Maker): Maker =>
  known(
    (_region, value) => choices(value),
    ([bad]) => `Select a valid choice. ${bad} is not one of the available choices.`,
    maker,
  );

const atLeast = (message: string, read: (machine: Machine) => number): Maker => {
  return (_region, values) => {
    const text = values.at(-1)?.trim() ?? '';
    const wanted = Number(text);
    if (text === '' || !Number.isFinite(wanted)) throw new BadValue(message);
    return {
      resolved: Number.isInteger(wanted) ? `${wanted}.0` : String(wanted),
      test: (machine) => read(machine) >= wanted,
    };
  };
};

const zone = known(
  (region, value) => region.zones.some((one) => one.name === value),
  (bad) => `No such zone(s): ${bad.join(', ')}.`,
  anyOf((region, machine) => region.zone(machine.zoneId).name),
);

const pool = known(
  (region, value) => region.pools.some((one) => one.name === value),
  (bad) => `No such pool(s): ${bad.join(', ')}.`,
  anyOf((region, machine) => region.pool(machine.poolId).name),
);

const owner = known(
  (region, value) => region.users.has(value),
  ([bad]) => `No such owner: '${bad}'.`,
  anyOf((_region, machine) => machine.owner ?? ''),
);

const tags = (all: boolean): Maker => {
  return (region, values) => {
    const names = split(values);
    const bad = names.filter((name) => !region.tags.has(name));
    if (bad.length > 0) throw new BadValue(`No such tag(s): ${bad.map((name) => `'${name}'`).join(', ')}.`);
    return {
      resolved: names.join(','),
      test: (machine) =>
        all ? names.every((name) => machine.tags.has(name)) : !names.some((name) => machine.tags.has(name)),
    };
  };
};

const ARCHITECTURES = ['amd64', 'arm64'];

const arch: Maker = known(
  (_region, value) => ARCHITECTURES.some((one) => value === one || value === `${one}/generic`),
  () => 'Architecture not recognised.',
  anyOf((_region, machine) => [machine.architecture, machine.architecture.split('/')[0] ?? '']),
);

const subnetIds = (machine: Machine): number[] =>
  machine.nics.flatMap((nic) => nic.links.flatMap((link) => (link.subnetId === null ? [] : [link.subnetId])));

const subnets = (combine: 'all' | 'none'): Maker => {
  return (region, values) => {
    const found = values.map((value) => region.findSubnet(value));
    if (found.some((subnet) => subnet === undefined)) throw new BadValue('No matching subnets found.');
    const ids = found.flatMap((subnet) => (subnet ? [subnet.id] : []));
    return {
      resolved: ids.join(','),
      test: (machine) => {
        const has = subnetIds(machine);
        return combine === 'all' ? ids.every((id) => has.includes(id)) : !ids.some((id) => has.includes(id));
      },
    };
  };
};

const vlans: Maker = (region, values) => {
  const ids = region.vlans
    .filter((vlan) =>
      values.some(
        (value) =>
          value === `vid:${vlan.vid}` ||
          value === vlan.name ||
          value === `id:${vlan.id}` ||
          value === String(vlan.vid),
      ),
    )
    .map((vlan) => vlan.id);
  if (ids.length === 0) throw new BadValue('No matching VLANs found.');
  return { resolved: ids.join(','), test: (machine) => machine.nics.some((nic) => ids.includes(nic.vlanId)) };
};

const fabrics = anyOf((region, machine) =>
  machine.nics.map((nic) => region.fabric(region.vlan(nic.vlanId).fabricId).name),
);

const fabricClasses = anyOf((region, machine) =>
  machine.nics.map((nic) => region.fabric(region.vlan(nic.vlanId).fabricId).classType ?? ''),
);

const hostname = anyOf((region, machine) => [machine.hostname, region.fqdn(machine)]);

const MAC = /^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i;

const macAddress = known(
  (_region, value) => MAC.test(value),
  ([bad]) => `'${bad}' is not a valid MAC address.`,
  anyOf((_region, machine) => machine.nics.map((nic: Nic) => nic.mac)),
);

/** Intel NICs and Samsung NVMe disks are what the simulated machines have. */
const PCI_VENDORS = ['8086', '144d'];
const DEVICE_KEYS = ['vendor_id', 'product_id', 'vendor_name', 'product_name', 'commissioning_driver'];

const devices: Maker = (_region, values) => {
  const wanted = values.map((value) => value.split('='));
  for (const [key = ''] of wanted)
    if (!DEVICE_KEYS.includes(key)) throw new BadValue(`Unknown devices constraint: '${key}`);
  return {
    resolved: values.join(','),
    test: () => wanted.every(([key, value]) => key !== 'vendor_id' || PCI_VENDORS.includes(value ?? '')),
  };
};

const layout = (match: typeof matchStorage): Maker => {
  return (region, values) => {
    const text = values.join(',');
    const matcher = match(region, text, (message) => {
      throw new BadValue(message);
    });
    return { resolved: text, test: (machine) => matcher(machine) !== undefined, labels: matcher };
  };
};

const composedOnly = (wanted: (value: string) => boolean): Maker => {
  return (_region, values) => ({
    resolved: values.join(','),
    test: (machine) => machine.composed && values.some(wanted),
  });
};

const POWER_STATES = ['on', 'off', 'unknown', 'error'];
const powerState = choice(
  (value) => POWER_STATES.includes(value),
  anyOf((_region, machine) => machine.powerState),
);

const deploymentTarget = choice(
  (value) => value === 'memory' || value === 'disk',
  (_region, values) => ({
    resolved: 'True',
    test: (machine) => machine.ephemeralDeploy === (values.at(-1) === 'memory'),
  }),
);

/** Known to both. */
const SHARED: Readonly<Record<string, Maker>> = {
  system_id: anyOf((_region, machine) => machine.systemId),
  arch,
  not_arch: not(arch),
  cpu_count: atLeast('Invalid CPU count: number required.', (machine) => machine.cpuCount),
  cpu_speed: atLeast('Invalid CPU speed: number required.', (machine) => machine.cpuSpeedMhz),
  mem: atLeast('Invalid memory: number of MiB required.', (machine) => machine.memoryMiB),
  tags: tags(true),
  not_tags: tags(false),
  zone,
  not_in_zone: not(zone),
  pool,
  not_in_pool: not(pool),
  subnets: subnets('all'),
  not_subnets: subnets('none'),
  vlans,
  not_vlans: not(vlans),
  fabrics,
  not_fabrics: not(fabrics),
  fabric_classes: fabricClasses,
  not_fabric_classes: not(fabricClasses),
  link_speed: atLeast('Invalid link speed: number required.', (machine) =>
    Math.max(0, ...machine.nics.map((nic) => nic.speedMbit)),
  ),
  owner,
  not_owner: not(owner),
  power_state: powerState,
  not_power_state: not(powerState),
  pod: composedOnly((value) => value === 'vmhost-01'),
  not_pod: not(composedOnly((value) => value === 'vmhost-01')),
  pod_type: composedOnly((value) => value === 'lxd'),
  not_pod_type: not(composedOnly((value) => value === 'lxd')),
  storage: layout(matchStorage),
  interfaces: layout(matchInterfaces),
  devices,
};

const agentName = anyOf((_region, machine) => machine.agentName);
const domain = anyOf((region, machine) => region.domain(machine.domainId).name);
const status = choice(
  isStatus,
  anyOf((_region, machine) => machine.status),
);
const systemId = anyOf((_region, machine) => machine.systemId);

const LIST: Readonly<Record<string, Maker>> = {
  ...SHARED,
  id: systemId,
  not_id: not(systemId),
  hostname,
  not_hostname: not(hostname),
  mac_address: macAddress,
  domain,
  not_domain: not(domain),
  agent_name: agentName,
  not_agent_name: not(agentName),
  status,
  not_status: not(status),
};

const ALLOCATE: Readonly<Record<string, Maker>> = { ...SHARED, name: hostname };

/** Parameters of allocate that are not constraints. */
export const ALLOCATE_OPTIONS: ReadonlySet<string> = new Set([
  'agent_name',
  'comment',
  'bridge_all',
  'bridge_type',
  'bridge_stp',
  'bridge_fd',
  'dry_run',
  'verbose',
  'op',
]);

export interface Constraints {
  matches(machine: Machine): boolean;
  /** `zone=az1 mem=8192.0` */
  readonly resolved: string;
  readonly given: readonly (readonly [string, readonly string[]])[];
  labels(machine: Machine): Record<string, Labels>;
}

function compile(
  region: Region,
  given: readonly (readonly [string, readonly string[]])[],
  table: Readonly<Record<string, Maker>>,
): Constraints {
  const errors: Record<string, string> = {};
  const compiled: [string, Constraint][] = [];
  for (const [name, values] of given) {
    const maker = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!maker || (name === 'deployment_target' && !region.flavour.deploymentTarget)) {
      errors[name] = 'No such constraint.';
      continue;
    }
    try {
      compiled.push([name, maker(region, values)]);
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      errors[name] = error.message;
    }
  }
  if (Object.keys(errors).length > 0) throw invalid(errors);
  return {
    given,
    resolved: compiled.map(([name, constraint]) => `${name}=${constraint.resolved}`).join(' '),
    matches: (machine) => compiled.every(([, constraint]) => constraint.test(machine)),
    labels: (machine) =>
      Object.fromEntries(
        compiled.flatMap(([name, constraint]) => {
          const labels = constraint.labels?.(machine);
          return labels ? [[name, labels]] : [];
        }),
      ),
  };
}

export function listConstraints(region: Region, query: Form): Constraints {
  const given = query.entries().filter(([name]) => name !== 'op');
  return compile(region, given, { ...LIST, deployment_target: deploymentTarget });
}

export function allocateConstraints(region: Region, form: Form): Constraints {
  const given = form.entries().filter(([name]) => !ALLOCATE_OPTIONS.has(name));
  return compile(region, given, { ...ALLOCATE, deployment_target: deploymentTarget });
}
