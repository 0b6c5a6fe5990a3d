/**
 * What the rest of the product may ask of one MAAS region. `maas/*` implements it over REST; results are
 * projections (a machine on the wire is 20-40 kB, here ~400 B). Units: memory MiB, storage decimal GB.
 * Every call takes a signal, may throw PcgError with a MAAS_* code, and never prints the key.
 */

export type MaasMachineStatus =
  | 'new'
  | 'commissioning'
  | 'failed_commissioning'
  | 'missing'
  | 'ready'
  | 'reserved'
  | 'deployed'
  | 'retired'
  | 'broken'
  | 'deploying'
  | 'allocated'
  | 'failed_deployment'
  | 'releasing'
  | 'failed_releasing'
  | 'disk_erasing'
  | 'failed_disk_erasing'
  | 'rescue_mode'
  | 'entering_rescue_mode'
  | 'failed_entering_rescue_mode'
  | 'exiting_rescue_mode'
  | 'failed_exiting_rescue_mode'
  | 'testing'
  | 'failed_testing'
  | 'unknown'; // a number that this version does not know

export interface Machine {
  readonly systemId: string;
  readonly hostname: string;
  readonly fqdn: string;
  readonly status: MaasMachineStatus;
  /** As MAAS words it; for showing, never for deciding. */
  readonly statusName: string;
  readonly statusMessage: string;
  readonly errorDescription: string;
  readonly owner: string | undefined;
  /** owner_data / workload annotations. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly locked: boolean;
  readonly zone: string;
  readonly pool: string;
  readonly domain: string;
  readonly architecture: string;
  readonly cpuCount: number;
  readonly memoryMiB: number;
  readonly storageGb: number;
  readonly tags: readonly string[];
  readonly powerState: string;
  readonly powerType: string;
  /** A VM composed on an LXD or virsh host. */
  readonly virtual: boolean;
  readonly osystem: string;
  readonly distroSeries: string;
  readonly netboot: boolean;
  /** Kernel chosen for the deployment; empty or absent before one. */
  readonly hweKernel?: string;
  /** Addresses that MAAS assigned; stale in the answer of deploy, true in a later read. */
  readonly ipAddresses: readonly string[];
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac: string;
    readonly links: readonly {
      readonly mode: string;
      readonly ip: string | undefined;
      readonly subnetCidr: string | undefined;
      readonly gatewayIp: string | undefined;
    }[];
  }[];
}

/** Filters of GET machines/; values OR, keys AND. Unknown names are refused by MAAS with 400. */
export interface MachineFilter {
  readonly ids?: readonly string[];
  readonly agentName?: string;
  readonly statuses?: readonly Exclude<MaasMachineStatus, 'unknown'>[];
  readonly pools?: readonly string[];
  readonly zones?: readonly string[];
  readonly tags?: readonly string[];
  readonly notTags?: readonly string[];
  readonly minCpu?: number;
  readonly minMemoryMiB?: number;
  readonly owner?: string;
  readonly hostnames?: readonly string[];
}

export interface AllocateRequest {
  /** Ownership stamp, <= 255 of [A-Za-z0-9._-]; filterable, invisible in the JSON. */
  readonly agentName: string;
  readonly comment: string;
  readonly systemId?: string;
  readonly pool?: string;
  readonly zones?: readonly string[];
  readonly minCpu?: number;
  readonly minMemoryMiB?: number;
  readonly minDiskGb?: number;
  readonly tags?: readonly string[];
  readonly notTags?: readonly string[];
  readonly dryRun?: boolean;
  /** Also VMs that MAAS composes on LXD or virsh hosts; otherwise they are excluded (default). */
  readonly allowVirtual?: boolean;
}

/**
 * `allocated`: the machine that MAAS gave under the agent name, asked for or not. `none`: MAAS answered that nothing
 * matches. `unknown`: no answer can be trusted; read back by agent name. `doubtful`: an answer was lost on the way
 * here, so MAAS may still carry out a sending of this call.
 */
export type AllocateOutcome =
  | { readonly kind: 'allocated'; readonly machine: Machine; readonly doubtful: boolean }
  | { readonly kind: 'none'; readonly reason: string; readonly doubtful: boolean }
  | { readonly kind: 'taken'; readonly systemId: string; readonly doubtful: boolean }
  | { readonly kind: 'unknown'; readonly cause: unknown };

export interface DeployRequest {
  /** `ubuntu/noble`, `custom/<image>`. */
  readonly image: string;
  /** Plain cloud-config text; the client encodes it. */
  readonly userData: string;
  readonly hweKernel?: string;
  readonly comment?: string;
}

/** `accepted`: Deploying (or already so). `unknown`: read the machine again before deciding. */
export type ActionOutcome =
  | { readonly kind: 'accepted'; readonly machine: Machine }
  | { readonly kind: 'wrong-state'; readonly machine: Machine | undefined }
  | { readonly kind: 'gone' }
  | { readonly kind: 'unknown'; readonly cause: unknown };

export type EraseMode = 'none' | 'quick' | 'secure' | 'full';

export interface MaasEvent {
  readonly id: number;
  readonly systemId: string;
  readonly hostname: string;
  readonly level: string;
  /** As MAAS writes it; no zone, so order by id. */
  readonly created: string;
  readonly type: string;
  readonly description: string;
}

export interface Subnet {
  readonly id: number;
  readonly name: string;
  readonly cidr: string;
  readonly gatewayIp: string | undefined;
  readonly managed: boolean;
  readonly vid: number;
  readonly fabric: string;
  readonly space: string | undefined;
  readonly dnsServers: readonly string[];
}

export interface SubnetStatistics {
  readonly numAvailable: number;
  readonly largestAvailable: number;
  readonly totalAddresses: number;
}

export interface Named {
  readonly id: number;
  readonly name: string;
  readonly description: string;
}
export interface Domain {
  readonly id: number;
  readonly name: string;
  readonly isDefault: boolean;
  readonly authoritative: boolean;
}
export interface BootImage {
  readonly name: string;
  readonly architecture: string;
  readonly type: string;
  readonly subarches: string;
  readonly title: string;
}
export interface ReservedAddress {
  readonly ip: string;
  readonly owner: string | undefined;
  readonly subnetCidr: string | undefined;
  readonly createdAt: string | undefined;
}
export interface DnsResource {
  readonly id: number;
  readonly fqdn: string;
  readonly addresses: readonly string[];
}

export interface MaasClient {
  /** Normalised API base, ends in `/api/2.0/`. */
  readonly apiUrl: string;
  version(signal: AbortSignal): Promise<{
    version: string;
    major: number;
    minor: number;
    subversion: string;
    capabilities: readonly string[];
  }>;
  whoami(signal: AbortSignal): Promise<{ username: string; isAdmin: boolean }>;
  config(name: string, signal: AbortSignal): Promise<unknown>;

  readonly machines: {
    list(filter: MachineFilter, signal: AbortSignal): Promise<Machine[]>;
    /** undefined: not there, or hidden from this key. */
    get(systemId: string, signal: AbortSignal): Promise<Machine | undefined>;
    allocate(request: AllocateRequest, signal: AbortSignal): Promise<AllocateOutcome>;
    deploy(systemId: string, request: DeployRequest, signal: AbortSignal): Promise<ActionOutcome>;
    release(
      systemId: string,
      options: { erase: EraseMode; comment: string },
      signal: AbortSignal,
    ): Promise<ActionOutcome>;
    abort(systemId: string, comment: string, signal: AbortSignal): Promise<ActionOutcome>;
    setAnnotations(systemId: string, annotations: Record<string, string>, signal: AbortSignal): Promise<void>;
    powerOn(systemId: string, signal: AbortSignal): Promise<ActionOutcome>;
    powerOff(systemId: string, mode: 'hard' | 'soft', signal: AbortSignal): Promise<ActionOutcome>;
    /** Waits for the BMC, up to 60 s; one at a time. */
    queryPower(systemId: string, signal: AbortSignal): Promise<string>;
    markBroken(systemId: string, comment: string, signal: AbortSignal): Promise<ActionOutcome>;
    /** Installation log (curtin), last `maxBytes`; undefined when there is none. */
    installationOutput(systemId: string, maxBytes: number, signal: AbortSignal): Promise<string | undefined>;
  };
  /** Oldest first, ids > `after`. */
  events(
    query: {
      after?: number;
      ids?: readonly string[];
      level?: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR';
      limit?: number;
    },
    signal: AbortSignal,
  ): Promise<MaasEvent[]>;

  zones(signal: AbortSignal): Promise<Named[]>;
  pools(signal: AbortSignal): Promise<Named[]>;
  domains(signal: AbortSignal): Promise<Domain[]>;
  tags(signal: AbortSignal): Promise<{ name: string; comment: string }[]>;
  subnets(signal: AbortSignal): Promise<Subnet[]>;
  /** Every address of the subnet that MAAS has given to anybody. */
  addressesIn(subnetId: number, signal: AbortSignal): Promise<ReadonlySet<string>>;
  subnetStatistics(subnetId: number, signal: AbortSignal): Promise<SubnetStatistics>;
  unreservedRanges(
    subnetId: number,
    signal: AbortSignal,
  ): Promise<{ start: string; end: string; count: number }[]>;
  images(signal: AbortSignal): Promise<BootImage[]>;
  /** Whether the image was imported or uploaded completely; undefined when MAAS does not say. */
  imageComplete(name: string, signal: AbortSignal): Promise<boolean | undefined>;

  /** Reserves `ip`, or the next free address of the subnet. `taken` when somebody else has it; idempotent for our own. */
  reserveAddress(
    request: { subnetCidr?: string; ip?: string },
    signal: AbortSignal,
  ): Promise<{ kind: 'reserved'; ip: string } | { kind: 'taken' } | { kind: 'full' }>;
  /** `absent`: not ours any more, or never. Throws when MAAS refuses while its list still shows it as ours. */
  releaseAddress(ip: string, signal: AbortSignal): Promise<'released' | 'absent'>;
  reservedAddresses(signal: AbortSignal): Promise<ReservedAddress[]>;

  dnsResources(fqdn: string, signal: AbortSignal): Promise<DnsResource[]>;
  createDnsResource(
    fqdn: string,
    addresses: readonly string[],
    ttlSeconds: number,
    signal: AbortSignal,
  ): Promise<DnsResource>;
  updateDnsResource(id: number, addresses: readonly string[], signal: AbortSignal): Promise<DnsResource>;
  deleteDnsResource(id: number, signal: AbortSignal): Promise<void>;

  /** Signed pass-through for the tunnel's `maas` target: adds the OAuth header to a raw request. */
  signHeaders(): Record<string, string>;
  [Symbol.asyncDispose](): Promise<void>;
}
