/**
 * The books of one region: every resource by id, and the rules that need several of them (addresses,
 * status changes, visibility). No time and no HTTP here; life.ts and routes/ act on it.
 */
import type { Clock } from '../../base/clock.ts';
import { type Random, seededRandom } from '../random.ts';
import type { Scenario } from '../scenario.ts';
import { EventLog } from './events.ts';
import {
  freeRanges,
  hostRange,
  ipNumber,
  formatIp,
  mergeUsed,
  nextFree,
  parseCidr,
  parseIp,
  type Cidr,
  type Range,
  type UsedRange,
} from './ipv4.ts';
import { Ledger } from './ledger.ts';
import type {
  BootResource,
  DnsRecord,
  DnsResource,
  Domain,
  Fabric,
  IpAddress,
  IpRange,
  Link,
  Machine,
  Nic,
  Pool,
  Space,
  SshKey,
  Subnet,
  Tag,
  Token,
  User,
  Vlan,
  Zone,
} from './model.ts';
import { DEFAULT_CONFIG } from './config.ts';
import { mayBecome, statusTitle, type Status } from './status.ts';
import type { Flavour } from './version.ts';

/** MAAS makes ids of these characters. */
const SYSTEM_ID_ALPHABET = '34678abcdefghkmnpqrstwxy';
const KEY_ALPHABET = 'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789';

export class Region {
  readonly flavour: Flavour;
  readonly clock: Clock;
  readonly random: Random;
  readonly events = new EventLog();
  readonly ledger = new Ledger();
  readonly users = new Map<string, User>();
  readonly tokens: Token[] = [];
  readonly zones: Zone[] = [];
  readonly pools: Pool[] = [];
  readonly domains: Domain[] = [];
  readonly dnsResources: DnsResource[] = [];
  readonly dnsRecords: DnsRecord[] = [];
  readonly spaces: Space[] = [];
  readonly fabrics: Fabric[] = [];
  readonly vlans: Vlan[] = [];
  readonly subnets: Subnet[] = [];
  readonly ipRanges: IpRange[] = [];
  readonly addresses = new Map<string, IpAddress>();
  readonly tags = new Map<string, Tag>();
  readonly images: BootResource[] = [];
  readonly sshKeys: SshKey[] = [];
  /** In the order of creation, which is the order of every list. */
  readonly machines = new Map<string, Machine>();
  readonly config = new Map<string, unknown>(Object.entries(DEFAULT_CONFIG));
  readonly rackSystemId: string;
  /** Seconds that MAAS's clock is ahead of the real one (fault clock-skew). */
  clockSkewS = 0;
  readonly #ids = new Map<string, number>();

  constructor(scenario: Scenario, flavour: Flavour, clock: Clock) {
    this.flavour = flavour;
    this.clock = clock;
    this.random = seededRandom(scenario.seed, 'region');
    this.rackSystemId = this.newSystemId();
    for (const [name, value] of Object.entries(scenario.config ?? {})) this.config.set(name, value);
  }

  now(): number {
    return this.clock.now() + this.clockSkewS * 1000;
  }

  /** Ids grow per kind and are never used again; `first` is where MAAS starts that kind. */
  nextId(kind: string, first = 1): number {
    const id = this.#ids.get(kind) ?? first;
    this.#ids.set(kind, id + 1);
    return id;
  }

  newSystemId(): string {
    for (;;) {
      const id = this.random.text(SYSTEM_ID_ALPHABET, 6);
      if (!this.machines.has(id)) return id;
    }
  }

  newToken(username: string, name: string): Token {
    const key = (length: number) => this.random.text(KEY_ALPHABET, length);
    const token = { consumer: key(18), key: key(18), secret: key(32), username, name };
    this.tokens.push(token);
    return token;
  }

  // Lookups that cannot fail: references between records are kept whole by the routes.

  zone(id: number): Zone {
    return must(this.zones.find((zone) => zone.id === id) ?? this.zones[0], 'zone');
  }

  pool(id: number): Pool {
    return must(this.pools.find((pool) => pool.id === id) ?? this.pools[0], 'pool');
  }

  domain(id: number): Domain {
    return must(this.domains.find((domain) => domain.id === id) ?? this.domains[0], 'domain');
  }

  vlan(id: number): Vlan {
    return must(this.vlans.find((vlan) => vlan.id === id) ?? this.vlans[0], 'vlan');
  }

  fabric(id: number): Fabric {
    return must(this.fabrics.find((fabric) => fabric.id === id) ?? this.fabrics[0], 'fabric');
  }

  subnet(id: number): Subnet | undefined {
    return this.subnets.find((subnet) => subnet.id === id);
  }

  fqdn(machine: Machine): string {
    return `${machine.hostname}.${this.domain(machine.domainId).name}`;
  }

  cidrOf(subnet: Subnet): Cidr {
    return must(parseCidr(subnet.cidr), 'cidr');
  }

  subnetOf(ip: string): Subnet | undefined {
    const value = parseIp(ip);
    if (value === undefined) return undefined;
    return this.subnets
      .map((subnet) => ({ subnet, cidr: this.cidrOf(subnet) }))
      .filter(({ cidr }) => value >= cidr.network && value <= cidr.broadcast)
      .sort((a, b) => b.cidr.prefix - a.cidr.prefix)[0]?.subnet;
  }

  /** A subnet by id, CIDR, name, or one of these after `id:`, `cidr:`, `name:`. */
  findSubnet(specifier: string): Subnet | undefined {
    const text = specifier.replace(/^(id|cidr|name):/, '');
    const cidr = parseCidr(text)?.text;
    return this.subnets.find(
      (subnet) =>
        String(subnet.id) === text || subnet.name === text || (text.includes('/') && subnet.cidr === cidr),
    );
  }

  // Addresses

  /** Everything that is not free in a subnet, as MAAS reports it. */
  usedRanges(subnet: Subnet): UsedRange[] {
    const cidr = this.cidrOf(subnet);
    const inside = (ip: string): number | undefined => {
      const value = parseIp(ip);
      return value !== undefined && value >= cidr.network && value <= cidr.broadcast ? value : undefined;
    };
    const single = (ip: string | null, purpose: string): UsedRange[] => {
      const value = ip === null ? undefined : inside(ip);
      return value === undefined ? [] : [{ start: value, end: value, purpose: [purpose] }];
    };
    const assigned = [...this.addresses.values()].filter((address) => address.subnetId === subnet.id);
    const discovered = [...this.machines.values()].flatMap((machine) =>
      machine.nics.flatMap((nic) => (nic.discovered?.subnetId === subnet.id ? [nic.discovered.ip] : [])),
    );
    return mergeUsed([
      ...this.ipRanges
        .filter((range) => range.subnetId === subnet.id)
        .map((range) => ({ start: ipNumber(range.start), end: ipNumber(range.end), purpose: [range.type] })),
      ...single(subnet.gateway, 'gateway-ip'),
      ...subnet.dnsServers.flatMap((ip) => single(ip, 'dns-server')),
      ...assigned.flatMap((address) => single(address.ip, 'assigned-ip')),
      ...discovered.flatMap((ip) => single(ip, 'assigned-ip')),
    ]);
  }

  freeRanges(subnet: Subnet): Range[] {
    return freeRanges(hostRange(this.cidrOf(subnet)), this.usedRanges(subnet));
  }

  /** The address that MAAS would hand out next; unmanaged subnets have none outside their reserved ranges. */
  nextFreeIp(subnet: Subnet): string | undefined {
    const value = subnet.managed ? nextFree(this.freeRanges(subnet)) : undefined;
    return value === undefined ? undefined : formatIp(value);
  }

  rangeAround(ip: string): IpRange | undefined {
    const value = ipNumber(ip);
    return this.ipRanges.find((range) => ipNumber(range.start) <= value && value <= ipNumber(range.end));
  }

  /** Gives every automatic link an address. Returns the subnet that had none left; then nothing was taken. */
  claimAutoIps(machine: Machine): Subnet | undefined {
    const taken: { nic: Nic; link: Link; ip: string; subnet: Subnet }[] = [];
    for (const nic of machine.nics)
      for (const link of nic.links) {
        const subnet = link.subnetId === null ? undefined : this.subnet(link.subnetId);
        if (link.mode !== 'auto' || !subnet || link.ip) continue;
        const ip = this.nextFreeIp(subnet);
        if (!ip) {
          for (const one of taken) this.#giveBack(one.link);
          return subnet;
        }
        this.addresses.set(ip, {
          ip,
          allocType: 0,
          username: null,
          subnetId: subnet.id,
          machine: { systemId: machine.systemId, interfaceId: nic.id },
          createdAt: this.now(),
        });
        link.ip = ip;
        taken.push({ nic, link, ip, subnet });
      }
    return undefined;
  }

  releaseAutoIps(machine: Machine): void {
    for (const nic of machine.nics)
      for (const link of nic.links) if (link.mode === 'auto') this.#giveBack(link);
  }

  #giveBack(link: Link): void {
    if (link.ip) this.addresses.delete(link.ip);
    link.ip = null;
  }

  /** Its own addresses, else the ones seen while commissioning. */
  machineIps(machine: Machine): string[] {
    const own = machine.nics.flatMap((nic) => nic.links.flatMap((link) => (link.ip ? [link.ip] : [])));
    if (own.length > 0) return own;
    return machine.nics.flatMap((nic) => (nic.discovered ? [nic.discovered.ip] : []));
  }

  // Status

  /** Changes the status and writes the event. Returns false when MAAS forbids the transition. */
  changeStatus(machine: Machine, to: Status): boolean {
    const from = machine.status;
    if (from === to) return true;
    if (!mayBecome(from, to)) return false;
    machine.status = to;
    const owner = to === 'allocated' && machine.owner ? ` (to ${machine.owner})` : '';
    const text = `From '${statusTitle(from)}' to '${statusTitle(to)}'${owner}`;
    this.events.add(machine, this.now(), 'DEBUG', 'Node changed status', text);
    return true;
  }

  /** What `machine` looks like to a user: everything to an admin, else unowned ones and one's own. */
  visibleTo(user: User, machine: Machine): boolean {
    return user.admin || machine.owner === null || machine.owner === user.username;
  }

  /** What a machine's faults are filtered by. */
  faultSubject(machine: Machine): string {
    const { hostname, systemId } = machine;
    return `${hostname} ${systemId} ${this.zone(machine.zoneId).name} ${this.pool(machine.poolId).name}`;
  }

  /** MAAS's DNS: machines that have an address of their own, and DNS resources. */
  resolve(host: string): string[] {
    const name = host.replace(/\.$/, '').toLowerCase();
    const machine = [...this.machines.values()].find((one) => this.fqdn(one).toLowerCase() === name);
    const resources = this.dnsResources.filter(
      (one) => `${one.name}.${this.domain(one.domainId).name}`.toLowerCase() === name,
    );
    return [...(machine ? this.machineIps(machine) : []), ...resources.flatMap((one) => one.ips)];
  }

  removeMachine(machine: Machine): void {
    for (const [ip, address] of this.addresses)
      if (address.machine?.systemId === machine.systemId) this.addresses.delete(ip);
    this.machines.delete(machine.systemId);
  }
}

function must<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`the region has no ${what}`);
  return value;
}
