/**
 * Which machine may carry which node: the rules, said once, used three times: to explain (X4: which rule
 * rejects which machine, and the nearest fix), to order candidates for allocation (spread over zones), and
 * to verify what MAAS returned (X1: MAAS ignores what it does not know and can return any machine).
 */
import type { Placement, Pool } from '../contract/cluster.ts';
import type { Machine } from '../maas/client.ts';

export interface PlacementContext {
  /** systemId -> why it is set aside for now. */
  readonly quarantined: ReadonlyMap<string, string>;
  /** Control-plane machines must have a link in this network, else the VIP cannot move between them. */
  readonly subnetCidr?: string;
  /** Machine architectures that the image exists for, e.g. `amd64`; empty = not checked. */
  readonly architectures: readonly string[];
}

export interface Rule {
  readonly name: string;
  /** Undefined when the machine passes, else why not. */
  test(machine: Machine, placement: Placement, context: PlacementContext): string | undefined;
  /** What to change so that these machines (which fail this rule alone) pass. */
  fix(machines: readonly Machine[], missing: number, placement: Placement): string;
}

const largest = (values: readonly number[], count: number) =>
  [...values].sort((a, b) => b - a)[Math.min(count, values.length) - 1] ?? 0;

const names = (machines: readonly Machine[]) =>
  machines
    .slice(0, 5)
    .map((machine) => machine.hostname)
    .join(', ') + (machines.length > 5 ? ` and ${machines.length - 5} more` : '');

/** Rules about what the machine is: verified again after allocate. */
const LASTING_RULES: readonly Rule[] = [
  {
    name: 'resource-pool',
    test: (machine, { resourcePool }) =>
      machine.pool === resourcePool ? undefined : `is in pool ${machine.pool}, not ${resourcePool}`,
    fix(machines, missing, { resourcePool }) {
      const pools = [...new Set(machines.map((machine) => machine.pool))].sort().join(' or ');
      return `Choose pool ${pools}, or move ${names(machines.slice(0, missing))} to pool ${resourcePool} in MAAS.`;
    },
  },
  {
    name: 'zone',
    test: (machine, { zones }) =>
      zones.length === 0 || zones.includes(machine.zone)
        ? undefined
        : `is in zone ${machine.zone}, not in ${zones.join(', ')}`,
    fix: (machines) =>
      `Allow zone ${[...new Set(machines.map((machine) => machine.zone))].sort().join(', ')}.`,
  },
  {
    name: 'tags',
    test(machine, { tags }) {
      const missing = tags.filter((tag) => !machine.tags.includes(tag));
      return missing.length === 0 ? undefined : `lacks tag ${missing.join(', ')}`;
    },
    fix: (machines, _missing, { tags }) => `Tag ${names(machines)} with ${tags.join(', ')}, or drop the tag.`,
  },
  {
    name: 'not-tags',
    test(machine, { notTags }) {
      const present = notTags.filter((tag) => machine.tags.includes(tag));
      return present.length === 0 ? undefined : `carries excluded tag ${present.join(', ')}`;
    },
    fix: (machines) => `Remove the excluded tag from ${names(machines)}.`,
  },
  {
    name: 'min-cpu',
    test: (machine, { minCpu }) =>
      machine.cpuCount >= minCpu ? undefined : `has ${machine.cpuCount} CPUs, needs ${minCpu}`,
    fix: (machines, missing) =>
      `Lower the minimum CPU count to ${largest(
        machines.map((machine) => machine.cpuCount),
        missing,
      )}.`,
  },
  {
    name: 'min-memory',
    test: (machine, { minMemoryMiB }) =>
      machine.memoryMiB >= minMemoryMiB
        ? undefined
        : `has ${machine.memoryMiB} MiB memory, needs ${minMemoryMiB}`,
    fix: (machines, missing) =>
      `Lower the minimum memory to ${largest(
        machines.map((machine) => machine.memoryMiB),
        missing,
      )} MiB.`,
  },
  {
    name: 'min-disk',
    test: (machine, { minDiskGb }) =>
      machine.storageGb >= minDiskGb
        ? undefined
        : `has ${Math.floor(machine.storageGb)} GB storage, needs ${minDiskGb}`,
    fix: (machines, missing) =>
      `Lower the minimum disk to ${Math.floor(
        largest(
          machines.map((machine) => machine.storageGb),
          missing,
        ),
      )} GB.`,
  },
  {
    name: 'architecture',
    test(machine, _placement, { architectures }) {
      const own = machine.architecture.split('/')[0] ?? '';
      return architectures.length === 0 || architectures.includes(own)
        ? undefined
        : `is ${own}, the image exists for ${architectures.join(', ')}`;
    },
    fix: (machines) =>
      `Import the image for ${machines[0]?.architecture.split('/')[0] ?? 'its architecture'}.`,
  },
  {
    name: 'bare-metal',
    test: (machine) => (machine.virtual ? 'is a virtual machine composed by MAAS' : undefined),
    fix: () => 'Add bare-metal machines.',
  },
  {
    name: 'power-control',
    test: (machine) =>
      machine.powerType === '' ? 'has no power type: nobody could switch it on' : undefined,
    fix: (machines) => `Set the power type of ${names(machines)} in MAAS.`,
  },
  {
    name: 'subnet',
    test: (machine, _placement, { subnetCidr }) =>
      subnetCidr === undefined || subnetsOf(machine).includes(subnetCidr)
        ? undefined
        : `has no interface in ${subnetCidr}, where the endpoint address lives`,
    fix: (machines, _missing) => `Connect ${names(machines)} to the endpoint's subnet.`,
  },
];

/** Rules about what the machine does now: true before allocate only. */
const PASSING_RULES: readonly Rule[] = [
  {
    name: 'state',
    test: (machine) =>
      machine.status === 'ready' ? undefined : `is ${machine.statusName || machine.status}`,
    fix: (machines) => `Bring ${names(machines)} to state Ready.`,
  },
  {
    name: 'locked',
    test: (machine) => (machine.locked ? 'is locked' : undefined),
    fix: (machines) => `Unlock ${names(machines)} in MAAS.`,
  },
  {
    name: 'quarantine',
    test(machine, _placement, { quarantined }) {
      const reason = quarantined.get(machine.systemId);
      return reason === undefined ? undefined : `is in quarantine: ${reason}`;
    },
    fix: (machines) => `End the quarantine of ${names(machines)} once repaired.`,
  },
];

export const RULES: readonly Rule[] = [...PASSING_RULES, ...LASTING_RULES];

/** Networks that the machine's interfaces have links in. */
export function subnetsOf(machine: Machine): string[] {
  return machine.interfaces.flatMap((nic) =>
    nic.links.flatMap((link) => (link.subnetCidr === undefined ? [] : [link.subnetCidr])),
  );
}

/** The network of the interface that the machine is installed through: first link with a gateway, else first link. */
export function primarySubnet(machine: Machine): string | undefined {
  const links = machine.interfaces
    .flatMap((nic) => nic.links)
    .filter((link) => link.subnetCidr !== undefined);
  return (links.find((link) => link.gatewayIp !== undefined) ?? links[0])?.subnetCidr;
}

/** Every rule that rejects the machine, with its reason. */
export function rejections(
  machine: Machine,
  placement: Placement,
  context: PlacementContext,
  rules: readonly Rule[] = RULES,
): { rule: Rule; reason: string }[] {
  return rules.flatMap((rule) => {
    const reason = rule.test(machine, placement, context);
    return reason === undefined ? [] : [{ rule, reason }];
  });
}

/** X1: what of the request the allocated machine does not fulfil; empty = as wanted. */
export function mismatches(machine: Machine, placement: Placement, context: PlacementContext): string[] {
  return rejections(machine, placement, context, LASTING_RULES).map(
    ({ rule, reason }) => `${rule.name}: ${reason}`,
  );
}

/** MAAS's own order: the smallest machine that fits first, so that big ones stay free for who needs them. */
const weight = (machine: Machine) => machine.cpuCount + machine.memoryMiB / 1024;

/**
 * Candidates for the next node of a pool, best first: the zone with the fewest nodes of this pool, then
 * machines that MAAS can switch on by itself, then the smallest that fits.
 */
export function orderCandidates(
  machines: readonly Machine[],
  pool: Pool,
  context: PlacementContext,
  nodesPerZone: ReadonlyMap<string, number>,
): Machine[] {
  const load = (machine: Machine) => nodesPerZone.get(machine.zone) ?? 0;
  const manual = (machine: Machine) => (machine.powerType === 'manual' ? 1 : 0);
  return machines
    .filter((machine) => rejections(machine, pool.placement, context).length === 0)
    .sort(
      (a, b) =>
        load(a) - load(b) ||
        manual(a) - manual(b) ||
        weight(a) - weight(b) ||
        (a.systemId < b.systemId ? -1 : a.systemId > b.systemId ? 1 : 0),
    );
}
