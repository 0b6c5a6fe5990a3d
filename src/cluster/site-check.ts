/**
 * Does the site have what the cluster wants? Zones, pools, tags, image, ranges, addresses and enough fitting
 * machines, each problem with the field it comes from and the fix. The same check serves the wizard's explain
 * request and the first step of a cluster; it only reads.
 */
import type { ClusterSpec, Pool } from '../contract/cluster.ts';
import { ERROR_CODES, type ErrorCode, type ProblemDetails } from '../contract/errors.ts';
import type { BootImage, MaasClient, Machine, Subnet } from '../maas/client.ts';
import { STATUS_NAMES } from '../maas/status.ts';
import { addressIn, cidrConflicts, parseCidr } from './cidr.ts';
import { explainPlacement, type PlacementReport } from './explain.ts';
import { type PlacementContext, primarySubnet, rejections } from './placement.ts';

export interface SiteRequest {
  readonly pools: readonly Pool[];
  /** pool name -> nodes that hold a machine already. */
  readonly placed: ReadonlyMap<string, number>;
  readonly network: ClusterSpec['network'];
  readonly image: string | undefined;
  readonly domain: string | undefined;
}

export interface SiteCheck {
  readonly report: PlacementReport;
  /** Where a kube-vip address is to be reserved. */
  readonly endpointSubnet: Subnet | undefined;
  /** IPv4 networks that MAAS manages: where any node, present or future, may be. */
  readonly machineNetworks: readonly string[];
}

/** Where the check learns of machines; CandidateList is one. */
export interface ReadyMachines {
  /** Undefined when listing them takes long. */
  readySoon(pools: readonly string[], signal: AbortSignal): Promise<Machine[] | undefined>;
  ready(pools: readonly string[], age: 'recent' | 'new', signal: AbortSignal): Promise<Machine[]>;
  sample(pool: Pool, context: PlacementContext, signal: AbortSignal): Promise<Machine | undefined>;
}

/**
 * `hurried`: on a site so large that its machines take long to list, one fitting machine for each pool is
 * enough to go on; whether there are enough of them then shows while they are allocated.
 */
export async function checkSite(
  maas: MaasClient,
  ready: ReadyMachines,
  request: SiteRequest,
  quarantined: ReadonlyMap<string, string>,
  pace: 'hurried' | 'thorough',
  signal: AbortSignal,
): Promise<SiteCheck> {
  const [zones, pools, subnets, images, domains] = await Promise.all([
    maas.zones(signal),
    maas.pools(signal),
    maas.subnets(signal),
    request.image === undefined ? [] : maas.images(signal),
    request.domain === undefined ? [] : maas.domains(signal),
  ]);
  const problems: ProblemDetails[] = [
    ...unknownNames(request, zones, pools, domains),
    ...imageProblems(request.image, images),
    ...(await unfinishedImage(maas, request.image, images, signal)),
    ...rangeProblems(request.network, subnets),
  ];
  const base: PlacementContext = { quarantined, architectures: architecturesOf(request.image, images) };
  // MAAS refuses a list of a pool that it does not have.
  const names = new Set(request.pools.map(({ placement }) => placement.resourcePool));
  const known = pools.map(({ name }) => name).filter((name) => names.has(name));
  // Names that MAAS does not know make it refuse a question for a sample.
  const quick = pace === 'hurried' && problems.length === 0;
  const { machines, complete } = await lookAround({ ready, known, request, base, quick }, signal);
  const endpointSubnet = chooseSubnet(request, machines, subnets, base);
  const { endpoint } = request.network;
  if (endpoint.kind === 'kube-vip')
    problems.push(...(await addressProblems(maas, request, endpointSubnet, signal)));
  const wanted = request.pools.map((pool, index) => ({
    pool,
    index,
    wanted: Math.max(0, pool.size - (request.placed.get(pool.name) ?? 0)),
    context:
      pool.role === 'control-plane' && endpoint.kind === 'kube-vip' && endpointSubnet
        ? { ...base, subnetCidr: endpointSubnet.cidr }
        : base,
  }));
  const machineNetworks = subnets.map(({ cidr }) => cidr).filter((cidr) => parseCidr(cidr) !== undefined);
  const found = { endpointSubnet, machineNetworks };
  if (!complete) return { report: { feasible: problems.length === 0, pools: [], problems }, ...found };
  let placement = explainPlacement(machines, wanted);
  // Only whoever comes too short is told what stands in the way of the others; those are many.
  if (!placement.feasible) {
    const anew = quick ? await ready.ready(known, 'new', signal) : machines;
    const others = await widerLook(maas, known, pools, signal);
    placement = explainPlacement([...anew, ...others], wanted);
  }
  problems.push(...placement.problems);
  return { report: { ...placement, feasible: problems.length === 0, problems }, ...found };
}

/** What is not Ready in these pools, and what is Ready in the others: machines that one change would admit. */
export async function widerLook(
  maas: MaasClient,
  wanted: readonly string[],
  pools: readonly { readonly name: string }[],
  signal: AbortSignal,
): Promise<Machine[]> {
  const others = pools.map(({ name }) => name).filter((name) => !wanted.includes(name));
  const own = await maas.machines.list({ pools: wanted, statuses: NOT_READY }, signal);
  return [...own, ...(await maas.machines.list({ pools: others, statuses: ['ready'] }, signal))];
}

const NOT_READY = STATUS_NAMES.filter((status) => status !== 'ready');

/** Ready machines of the wanted pools, or one for each pool where all would take too long. */
async function lookAround(
  look: {
    readonly ready: ReadyMachines;
    readonly known: readonly string[];
    readonly request: SiteRequest;
    readonly base: PlacementContext;
    readonly quick: boolean;
  },
  signal: AbortSignal,
): Promise<{ machines: readonly Machine[]; complete: boolean }> {
  const { ready, known, request, base, quick } = look;
  if (quick) {
    const machines = await ready.readySoon(known, signal);
    if (machines) return { machines, complete: true };
    const samples: Machine[] = [];
    const open = request.pools.filter((pool) => pool.size > (request.placed.get(pool.name) ?? 0));
    for (const pool of open) {
      const machine = await ready.sample(pool, base, signal);
      if (machine) samples.push(machine);
    }
    if (samples.length === open.length) return { machines: samples, complete: false };
  }
  return { machines: await ready.ready(known, 'new', signal), complete: true };
}

function issue(code: ErrorCode, message: string, field: string, fix?: string): ProblemDetails {
  const entry = ERROR_CODES[code];
  return {
    code,
    message,
    field,
    fix: fix ?? entry.fix,
    retryable: entry.retryable,
    userFixable: entry.userFixable,
  };
}

const list = (names: readonly string[]) => (names.length === 0 ? 'none' : [...names].sort().join(', '));

function unknownNames(
  request: SiteRequest,
  zones: readonly { name: string }[],
  pools: readonly { name: string }[],
  domains: readonly { name: string }[],
): ProblemDetails[] {
  const problems: ProblemDetails[] = [];
  const zoneNames = zones.map(({ name }) => name);
  const poolNames = pools.map(({ name }) => name);
  request.pools.forEach((pool, index) => {
    const { placement } = pool;
    const at = `spec.pools[${index}].placement`;
    placement.zones.forEach((zone, position) => {
      if (!zoneNames.includes(zone))
        problems.push(
          issue(
            'ZONE_UNKNOWN',
            `MAAS has no zone "${zone}"`,
            `${at}.zones[${position}]`,
            `Choose of: ${list(zoneNames)}.`,
          ),
        );
    });
    if (!poolNames.includes(placement.resourcePool))
      problems.push(
        issue(
          'POOL_UNKNOWN',
          `MAAS has no resource pool "${placement.resourcePool}"`,
          `${at}.resourcePool`,
          `Choose of: ${list(poolNames)}.`,
        ),
      );
  });
  if (request.domain !== undefined && !domains.some(({ name }) => name === request.domain))
    problems.push(
      issue(
        'DOMAIN_UNKNOWN',
        `MAAS has no domain "${request.domain}"`,
        'spec.domain',
        `Choose of: ${list(domains.map(({ name }) => name))}.`,
      ),
    );
  return problems;
}

function matchingImages(image: string, images: readonly BootImage[]): BootImage[] {
  // Custom images are listed with and without their prefix, depending on the version of MAAS.
  return images.filter(({ name }) => name === image || `custom/${name}` === image);
}

function imageProblems(image: string | undefined, images: readonly BootImage[]): ProblemDetails[] {
  if (image === undefined || matchingImages(image, images).length > 0) return [];
  const known = list([...new Set(images.map(({ name }) => name))]);
  return [
    issue(
      'MAAS_IMAGE_MISSING',
      `MAAS has no image "${image}"`,
      'profile.os.image',
      `Import it in MAAS, or choose of: ${known}.`,
    ),
  ];
}

/** Listed is not imported: MAAS takes the order and lets the machine fail. */
async function unfinishedImage(
  maas: MaasClient,
  image: string | undefined,
  images: readonly BootImage[],
  signal: AbortSignal,
): Promise<ProblemDetails[]> {
  if (image === undefined) return [];
  const [listed] = matchingImages(image, images);
  if (listed === undefined || (await maas.imageComplete(listed.name, signal)) !== false) return [];
  const message = `the image "${image}" is not complete in MAAS yet`;
  return [
    issue('MAAS_IMAGE_MISSING', message, 'profile.os.image', 'Wait for its import, or upload it again.'),
  ];
}

function architecturesOf(image: string | undefined, images: readonly BootImage[]): string[] {
  if (image === undefined) return [];
  const found = matchingImages(image, images).map(({ architecture }) => architecture.split('/')[0] ?? '');
  return [...new Set(found)];
}

function rangeProblems(network: ClusterSpec['network'], subnets: readonly Subnet[]): ProblemDetails[] {
  return cidrConflicts(
    network,
    subnets.map(({ cidr }) => cidr),
  ).map((conflict) =>
    issue(
      'CIDR_OVERLAP',
      `${conflict.range} overlaps ${conflict.with}`,
      conflict.field,
      conflict.proposal === undefined
        ? undefined
        : `Use ${conflict.proposal}: it overlaps nothing that MAAS knows.`,
    ),
  );
}

/** The named subnet, the one that holds the named address, or the one that most fitting machines live in. */
function chooseSubnet(
  request: SiteRequest,
  machines: readonly Machine[],
  subnets: readonly Subnet[],
  context: PlacementContext,
): Subnet | undefined {
  const { endpoint } = request.network;
  if (endpoint.kind !== 'kube-vip') return undefined;
  if (endpoint.subnet !== undefined) return subnets.find(({ cidr }) => cidr === endpoint.subnet);
  const { address } = endpoint;
  if (address !== undefined) return subnets.find(({ cidr }) => addressIn(cidr, address));
  const control = request.pools.find((pool) => pool.role === 'control-plane');
  if (!control) return undefined;
  const votes = new Map<string, number>();
  for (const machine of machines) {
    const subnet = primarySubnet(machine);
    if (subnet !== undefined && rejections(machine, control.placement, context).length === 0)
      votes.set(subnet, (votes.get(subnet) ?? 0) + 1);
  }
  const [best] = [...votes].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  return best === undefined ? undefined : subnets.find(({ cidr }) => cidr === best[0]);
}

/** One address for the endpoint and one for each node that is still to come (R16). */
async function addressProblems(
  maas: MaasClient,
  request: SiteRequest,
  subnet: Subnet | undefined,
  signal: AbortSignal,
): Promise<ProblemDetails[]> {
  const { endpoint } = request.network;
  if (endpoint.kind !== 'kube-vip') return [];
  const field =
    endpoint.subnet === undefined ? 'spec.network.endpoint.address' : 'spec.network.endpoint.subnet';
  if (subnet === undefined) {
    if (endpoint.subnet === undefined && endpoint.address === undefined) return []; // no machine fits: said elsewhere
    return [issue('SUBNET_UNKNOWN', `MAAS has no subnet for ${endpoint.subnet ?? endpoint.address}`, field)];
  }
  if (endpoint.address !== undefined && !addressIn(subnet.cidr, endpoint.address))
    return [
      issue(
        'VIP_UNAVAILABLE',
        `${endpoint.address} is not in ${subnet.cidr}`,
        'spec.network.endpoint.address',
      ),
    ];
  const { numAvailable } = await maas.subnetStatistics(subnet.id, signal);
  const control = request.pools.find((pool) => pool.role === 'control-plane')?.size ?? 0;
  const needed = control + 1;
  if (numAvailable >= needed) return [];
  return [
    issue(
      numAvailable === 0 ? 'VIP_UNAVAILABLE' : 'MAAS_IP_EXHAUSTED',
      `subnet ${subnet.cidr} has ${numAvailable} free addresses, ${needed} are needed`,
      'spec.network.endpoint',
      'Free or add addresses in the subnet, or choose another one.',
    ),
  ];
}
