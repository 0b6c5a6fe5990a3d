/**
 * A small data centre behind the MAAS and Kubernetes ports, for tests of the cluster engine alone: machines
 * with owners and stamps, a ledger of who held what when, and API servers that appear when machines boot with
 * user-data that says so. Times are milliseconds of its clock and short. The full doubles live in src/simulator.
 */
import { PcgError } from '../../src/base/errors.ts';
import type { KubeClient, KubeTarget } from '../../src/kube/client.ts';
import type { EtcdClient } from '../../src/kube/etcd.ts';
import type {
  ActionOutcome,
  AllocateOutcome,
  MaasClient,
  MaasEvent,
  MaasMachineStatus,
  Machine,
} from '../../src/maas/client.ts';
import { type FakeApi, FakeKubernetes } from './fake-kubernetes.ts';
import { LeapingClock } from './leaping-clock.ts';

export interface FakeTimes {
  readonly callMs: number;
  readonly deployMs: number;
  readonly bootMs: number;
  readonly releaseMs: number;
  /** An allocate takes up to this much longer; it is carried out even when its caller is dead. */
  readonly allocateJitterMs: number;
}

const FAST: FakeTimes = { callMs: 1, deployMs: 30, bootMs: 15, releaseMs: 10, allocateJitterMs: 0 };

export interface FakeFaults {
  /** MAAS answers an allocate as lost although it carried it out. */
  loseAllocateReply?: () => boolean;
  loseDeployReply?: () => boolean;
  /** MAAS returns this machine instead of the one asked for. */
  wrongMachine?: () => string | undefined;
  deployFails?: (systemId: string) => boolean;
  deployStuck?: (systemId: string) => boolean;
  bootstrapFails?: (systemId: string) => boolean;
  /** Every MAAS call throws. */
  maasDown?: () => boolean;
  releaseFails?: (systemId: string) => boolean;
}

interface Box {
  machine: Machine;
  agentName: string;
  /** Ends whatever the machine does now. */
  life: number;
}

export function fakeMachine(index: number, changes: Partial<Machine> = {}): Machine {
  const ip = `10.20.0.${10 + index}`;
  return {
    systemId: `m${String(index).padStart(4, '0')}`,
    hostname: `host-${index}`,
    fqdn: `host-${index}.maas`,
    status: 'ready',
    statusName: 'Ready',
    statusMessage: '',
    errorDescription: '',
    owner: undefined,
    annotations: {},
    locked: false,
    zone: `zone-${'abc'[index % 3]}`,
    pool: 'default',
    domain: 'maas',
    architecture: 'amd64/generic',
    cpuCount: 8,
    memoryMiB: 16384,
    storageGb: 200,
    tags: [],
    powerState: 'off',
    powerType: 'ipmi',
    virtual: false,
    osystem: '',
    distroSeries: '',
    netboot: true,
    ipAddresses: [ip],
    interfaces: [
      {
        name: 'eno1',
        mac: `52:54:00:00:00:${index.toString(16).padStart(2, '0')}`,
        links: [{ mode: 'auto', ip, subnetCidr: '10.20.0.0/24', gatewayIp: '10.20.0.1' }],
      },
    ],
    ...changes,
  };
}

const STATUS_NAMES: Partial<Record<MaasMachineStatus, string>> = {
  ready: 'Ready',
  allocated: 'Allocated',
  deploying: 'Deploying',
  deployed: 'Deployed',
  failed_deployment: 'Failed deployment',
  releasing: 'Releasing',
};

export class FakeSite {
  /** Of the site and of every engine on it. */
  readonly clock = new LeapingClock(0); // TLS judges no certificate here
  readonly boxes = new Map<string, Box>();
  readonly reserved = new Map<string, string>();
  readonly dns = new Map<number, { id: number; fqdn: string; addresses: readonly string[] }>();
  readonly events: MaasEvent[] = [];
  readonly calls = new Map<string, number>();
  readonly kubernetes: FakeKubernetes;
  readonly faults: FakeFaults = {};
  /** Addresses at which a host answers that MAAS does not know. */
  readonly answering = new Set<string>();
  /** What every server shows. */
  certificateEnd = this.clock.now() + 365 * 24 * 3600 * 1000;
  readonly user = 'gateway';
  readonly #times: FakeTimes;

  constructor(
    count: number,
    options: { times?: Partial<FakeTimes>; machine?: (index: number) => Partial<Machine> } = {},
  ) {
    this.#times = { ...FAST, ...options.times };
    this.kubernetes = new FakeKubernetes(this.#times.bootMs, 3, this.clock);
    for (let index = 1; index <= count; index += 1) {
      const machine = fakeMachine(index, options.machine?.(index));
      this.boxes.set(machine.systemId, { machine, agentName: '', life: 0 });
    }
  }

  get apis(): Map<string, FakeApi> {
    return this.kubernetes.apis;
  }

  /** Things that must never happen, in words. */
  get violations(): string[] {
    return this.kubernetes.violations;
  }

  /** System ids that the gateway's user owns. */
  owned(): string[] {
    return [...this.boxes.values()]
      .filter(({ machine }) => machine.owner === this.user)
      .map(({ machine }) => machine.systemId);
  }

  set(systemId: string, changes: Partial<Machine>): void {
    const box = this.#box(systemId);
    const status = changes.status ?? box.machine.status;
    box.machine = { ...box.machine, ...changes, statusName: STATUS_NAMES[status] ?? status };
  }

  failDeployment(systemId: string): void {
    this.set(systemId, { status: 'failed_deployment', errorDescription: 'curtin failed' });
    this.#event(systemId, 'Node installation failure', 'curtin failed', 'ERROR');
  }

  /** Somebody else releases the machine by hand and takes it. */
  steal(systemId: string): void {
    const box = this.#box(systemId);
    box.life += 1;
    box.agentName = '';
    this.#halt(box.machine);
    this.set(systemId, { owner: 'somebody', annotations: {}, status: 'deployed' });
  }

  #box(systemId: string): Box {
    const box = this.boxes.get(systemId);
    if (!box) throw new Error(`no machine ${systemId}`);
    return box;
  }

  #event(systemId: string, type: string, description: string, level = 'INFO'): void {
    const { hostname } = this.#box(systemId).machine;
    this.events.push({
      id: this.events.length + 1,
      systemId,
      hostname,
      level,
      created: '',
      type,
      description,
    });
  }

  #halt(machine: Machine): void {
    this.kubernetes.halt(machine.systemId);
  }

  #deploy(box: Box, userData: string): void {
    const { systemId } = box.machine;
    box.life += 1;
    const { life } = box;
    this.set(systemId, { status: 'deploying', powerState: 'on' });
    if (this.faults.deployStuck?.(systemId)) return;
    void (async () => {
      await this.clock.sleep(this.#times.deployMs);
      if (box.life !== life) return;
      if (this.faults.deployFails?.(systemId)) {
        this.failDeployment(systemId);
        return;
      }
      this.set(systemId, { status: 'deployed' });
      await this.clock.sleep(this.#times.bootMs);
      if (box.life !== life) return;
      if (this.faults.bootstrapFails?.(systemId)) {
        this.#event(systemId, 'Node post-installation failure', "'cloudinit' running modules-final", 'ERROR');
        return;
      }
      const { hostname, zone, ipAddresses } = box.machine;
      const booted = { systemId, hostname, zone, ip: ipAddresses[0] ?? '' };
      await this.kubernetes.boot(booted, userData, () => box.life === life);
    })();
  }

  client(): MaasClient {
    const call = async (name: string, signal: AbortSignal) => {
      this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
      const jitter = name === 'allocate' ? Math.random() * this.#times.allocateJitterMs : 0;
      signal.throwIfAborted();
      // A request that has left cannot be called back: MAAS carries it out although nobody listens any more.
      await this.clock.sleep(this.#times.callMs + jitter);
      if (this.faults.maasDown?.()) throw new PcgError('MAAS_UNREACHABLE', 'MAAS is down');
    };
    const site = this;
    const unused = async (): Promise<never> => {
      throw new Error('not part of this fake');
    };
    const acted = (box: Box): ActionOutcome => ({ kind: 'accepted', machine: box.machine });
    return {
      apiUrl: 'http://fake/MAAS/api/2.0/',
      version: async () => ({ version: '3.5.0', major: 3, minor: 5, subversion: '', capabilities: [] }),
      whoami: async () => ({ username: site.user, isAdmin: true }),
      config: unused,
      machines: {
        async list(filter, signal) {
          await call('list', signal);
          return [...site.boxes.values()]
            .filter(
              ({ machine, agentName }) =>
                (filter.ids === undefined || filter.ids.includes(machine.systemId)) &&
                (filter.agentName === undefined || filter.agentName === agentName) &&
                (filter.statuses === undefined ||
                  (filter.statuses as readonly string[]).includes(machine.status)) &&
                (filter.pools === undefined || filter.pools.includes(machine.pool)) &&
                (filter.zones === undefined || filter.zones.includes(machine.zone)) &&
                (filter.owner === undefined || filter.owner === machine.owner),
            )
            .map(({ machine }) => machine);
        },
        async get(systemId, signal) {
          await call('get', signal);
          return site.boxes.get(systemId)?.machine;
        },
        async allocate(request, signal): Promise<AllocateOutcome> {
          await call('allocate', signal);
          const box = site.#box(site.faults.wrongMachine?.() ?? request.systemId ?? '');
          if (box.machine.status !== 'ready')
            return { kind: 'taken', systemId: box.machine.systemId, doubtful: false };
          site.set(box.machine.systemId, { status: 'allocated', owner: site.user });
          box.agentName = request.agentName;
          site.#event(
            box.machine.systemId,
            'User acquiring node',
            `(${site.user}) - ${request.comment}`,
            'DEBUG',
          );
          const [, cluster, node] = request.agentName.split('.');
          const twins = [...site.boxes.values()].filter((other) => {
            const stamp = other.agentName.split('.');
            return other.machine.owner === site.user && stamp[1] === cluster && stamp[2] === node;
          });
          if (twins.length > 1) site.violations.push(`${node} holds ${twins.length} machines`);
          if (site.faults.loseAllocateReply?.()) return { kind: 'unknown', cause: new Error('lost') };
          return { kind: 'allocated', machine: box.machine, doubtful: false };
        },
        async deploy(systemId, request, signal) {
          await call('deploy', signal);
          const box = site.#box(systemId);
          if (box.machine.owner !== site.user) {
            site.violations.push(`deployed foreign ${systemId}`);
            return { kind: 'wrong-state', machine: box.machine };
          }
          if (box.machine.status !== 'allocated') return { kind: 'wrong-state', machine: box.machine };
          site.#deploy(box, request.userData);
          if (site.faults.loseDeployReply?.()) return { kind: 'unknown', cause: new Error('lost') };
          return acted(box);
        },
        async release(systemId, _options, signal) {
          await call('release', signal);
          const box = site.#box(systemId);
          if (box.machine.owner !== undefined && box.machine.owner !== site.user)
            site.violations.push(`released foreign ${systemId}`);
          if (box.machine.status === 'ready' || box.machine.status === 'releasing') return acted(box);
          if (site.faults.releaseFails?.(systemId))
            throw new PcgError('MAAS_POWER_FAILED', 'the BMC is silent');
          box.life += 1;
          box.agentName = '';
          site.#halt(box.machine);
          site.set(systemId, { status: 'releasing' });
          void site.clock
            .sleep(site.#times.releaseMs)
            .then(() =>
              site.set(systemId, { status: 'ready', owner: undefined, annotations: {}, powerState: 'off' }),
            );
          return acted(box);
        },
        async abort(systemId, _comment, signal) {
          await call('abort', signal);
          const box = site.#box(systemId);
          if (box.machine.status !== 'deploying') return { kind: 'wrong-state', machine: box.machine };
          box.life += 1;
          site.set(systemId, { status: 'allocated' });
          return acted(box);
        },
        async setAnnotations(systemId, annotations, signal) {
          await call('annotate', signal);
          const box = site.#box(systemId);
          if (box.machine.owner !== site.user) throw new PcgError('MAAS_CONFLICT', 'not acquired');
          site.set(systemId, { annotations: { ...box.machine.annotations, ...annotations } });
        },
        powerOn: async (systemId) => acted(site.#box(systemId)),
        powerOff: async (systemId) => acted(site.#box(systemId)),
        queryPower: async () => 'on',
        markBroken: unused,
        installationOutput: async () => 'curtin: everything is lost',
      },
      async events(query, signal) {
        await call('events', signal);
        const found = site.events.filter(
          (event) =>
            event.id > (query.after ?? 0) && (query.ids === undefined || query.ids.includes(event.systemId)),
        );
        return query.after === undefined
          ? found.slice(-(query.limit ?? 100))
          : found.slice(0, query.limit ?? 100);
      },
      zones: async () => ['zone-a', 'zone-b', 'zone-c'].map((name, id) => ({ id, name, description: '' })),
      pools: async () => [{ id: 1, name: 'default', description: '' }],
      domains: async () => [{ id: 1, name: 'maas', isDefault: true, authoritative: true }],
      tags: async () => [],
      subnets: async () => [
        {
          id: 1,
          name: 'machines',
          cidr: '10.20.0.0/24',
          gatewayIp: '10.20.0.1',
          managed: true,
          vid: 0,
          fabric: 'fabric-0',
          space: undefined,
          dnsServers: [],
        },
      ],
      addressesIn: async () =>
        new Set([...site.boxes.values()].flatMap(({ machine }) => machine.ipAddresses)),
      subnetStatistics: async () => ({ numAvailable: 100, largestAvailable: 100, totalAddresses: 254 }),
      unreservedRanges: async () => [{ start: '10.20.0.200', end: '10.20.0.250', count: 51 }],
      imageComplete: async () => true,
      images: async () => [
        { name: 'ubuntu/noble', architecture: 'amd64/ga-24.04', type: 'Synced', subarches: '', title: '' },
        { name: 'ubuntu/jammy', architecture: 'amd64/ga-22.04', type: 'Synced', subarches: '', title: '' },
      ],
      async reserveAddress({ ip }, signal) {
        await call('reserve', signal);
        if (ip === undefined) return { kind: 'full' };
        site.reserved.set(ip, site.user);
        return { kind: 'reserved', ip };
      },
      async releaseAddress(ip, signal) {
        await call('release-address', signal);
        return site.reserved.delete(ip) ? 'released' : 'absent';
      },
      reservedAddresses: async () =>
        [...site.reserved].map(([ip, owner]) => ({
          ip,
          owner,
          subnetCidr: '10.20.0.0/24',
          createdAt: undefined,
        })),
      dnsResources: async (fqdn) => [...site.dns.values()].filter((resource) => resource.fqdn === fqdn),
      async createDnsResource(fqdn, addresses) {
        const resource = { id: site.dns.size + 1, fqdn, addresses };
        site.dns.set(resource.id, resource);
        return resource;
      },
      async updateDnsResource(id, addresses) {
        const resource = { ...site.dns.get(id), id, fqdn: site.dns.get(id)?.fqdn ?? '', addresses };
        site.dns.set(id, resource);
        return resource;
      },
      async deleteDnsResource(id) {
        site.dns.delete(id);
      },
      signHeaders: () => ({}),
      async [Symbol.asyncDispose]() {},
    };
  }

  etcd(endpoints: readonly string[]): EtcdClient {
    return this.kubernetes.etcd(endpoints);
  }

  kube(target: KubeTarget): KubeClient {
    return this.kubernetes.kube(target);
  }
}
