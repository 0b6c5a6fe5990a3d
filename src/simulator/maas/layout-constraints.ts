/**
 * The two small grammars of allocate: `storage=root:40(ssd),data:500` and
 * `interfaces=eth0:space=dmz,vid=10;eth1:subnet=x`. Each compiles to a function that maps labels to what
 * they matched on a machine, or to undefined when the machine does not fit.
 */
import type { Machine, Nic } from './model.ts';
import type { Region } from './region.ts';

/** Label to ids of disks or interfaces. */
export type Labels = Record<string, number[]>;

type Matcher = (machine: Machine) => Labels | undefined;

const GIGABYTE = 1e9;

/** `[label:]size[(tag,tag)]`, separated by commas outside parentheses. The first carries `/`. */
export function matchStorage(_region: Region, text: string, refuse: (message: string) => never): Matcher {
  const parts = text
    .split(/,(?![^(]*\))/)
    .map((part) => /^(?:([A-Za-z0-9]+):)?(\d+(?:\.\d+)?)(?:\(([^()]*)\))?$/.exec(part));
  if (parts.some((part) => part === null)) return refuse(`Malformed storage constraint, "${text}".`);
  const wanted = parts.map((part, index) => ({
    label: part?.[1] ?? String(index),
    bytes: Number(part?.[2]) * GIGABYTE,
    tags: (part?.[3] ?? '').split(',').filter((tag) => tag !== '' && tag !== 'partition'),
  }));
  return (machine) => {
    const left = [...machine.disks];
    const labels: Labels = {};
    for (const { label, bytes, tags } of wanted) {
      const at = left.findIndex(
        (disk) => disk.sizeBytes >= bytes && tags.every((tag) => disk.tags.includes(tag)),
      );
      const [disk] = at < 0 ? [] : left.splice(at, 1);
      if (!disk) return undefined;
      labels[label] = [disk.id];
    }
    return labels;
  };
}

type NicTest = (region: Region, nic: Nic, value: string) => boolean;

const onSubnet = (read: (region: Region, nic: Nic) => readonly string[]): NicTest => {
  return (region, nic, value) => read(region, nic).includes(value);
};

const subnetsOf = (region: Region, nic: Nic) =>
  nic.links.flatMap((link) => {
    const subnet = link.subnetId === null ? undefined : region.subnet(link.subnetId);
    return subnet ? [subnet] : [];
  });

const NIC_KEYS: Readonly<Record<string, NicTest>> = {
  id: (_region, nic, value) => String(nic.id) === value,
  name: (_region, nic, value) => nic.name === value,
  type: (_region, _nic, value) => value === 'physical',
  mode: (_region, nic, value) => nic.links.some((link) => link.mode === value),
  ip: (_region, nic, value) => nic.links.some((link) => link.ip === value),
  subnet: onSubnet((region, nic) =>
    subnetsOf(region, nic).flatMap((one) => [one.name, String(one.id), one.cidr]),
  ),
  subnet_cidr: onSubnet((region, nic) => subnetsOf(region, nic).map((one) => one.cidr)),
  space: onSubnet((region, nic) => subnetsOf(region, nic).map((one) => region.vlan(one.vlanId).space)),
  vlan: (region, nic, value) => region.vlan(nic.vlanId).name === value,
  vid: (region, nic, value) => String(region.vlan(nic.vlanId).vid) === value,
  fabric: (region, nic, value) => region.fabric(region.vlan(nic.vlanId).fabricId).name === value,
  fabric_class: (region, nic, value) => region.fabric(region.vlan(nic.vlanId).fabricId).classType === value,
  link_speed: (_region, nic, value) => nic.speedMbit >= Number(value),
  hostname: () => true,
  tag: () => false,
};

/** `label:key=value[,key=value];label:...` */
export function matchInterfaces(region: Region, text: string, refuse: (message: string) => never): Matcher {
  const wanted = text.split(';').map((part) => {
    const match = /^([^:=]+):(.+=.+)$/.exec(part);
    if (!match)
      return refuse(
        `Malformed constraint: '${part}' (required format: '<label>:<key>=<value>[,<key2>=<value2>[,...]]')`,
      );
    const pairs = (match[2] ?? '').split(',').map((pair) => {
      const [key = '', value = ''] = pair.split('=');
      const name = key.replace(/^not_/, '');
      if (!Object.hasOwn(NIC_KEYS, name)) return refuse(`Unknown interfaces constraint: '${key}`);
      return { test: NIC_KEYS[name], value, negate: name !== key };
    });
    return { label: match[1] ?? '', pairs };
  });
  return (machine) => {
    const labels: Labels = {};
    for (const { label, pairs } of wanted) {
      const fitting = machine.nics.filter((nic) =>
        pairs.every(({ test, value, negate }) => test?.(region, nic, value) !== negate),
      );
      if (fitting.length === 0) return undefined;
      labels[label] = fitting.map((nic) => nic.id);
    }
    return labels;
  };
}
