/**
 * The address of the API server. kube-vip: one address reserved in MAAS, chosen here and written down before
 * MAAS is asked, so that a repeated request can never reserve a second one. maas-dns: a name whose A records
 * are the control plane's addresses. external: given by the user, nothing to make.
 */
import { PcgError } from '../base/errors.ts';
import type { ClusterSpec } from '../contract/cluster.ts';
import { freeAddresses } from '../maas/vip.ts';
import type { StepContext, StepOutcome } from './context.ts';
import { DONE } from './context.ts';
import { type EndpointRecord, endpointAddress } from './model.ts';
import { randomText } from './names.ts';
import { API_PORT } from './observe.ts';
import { checkSite, type SiteCheck } from './site-check.ts';

/** Clients re-resolve this often; the value of Cluster API's MAAS provider. */
const DNS_TTL_SECONDS = 10;
/** Addresses tried before the subnet counts as full. */
const ADDRESSES_TRIED = 20;
/** A subnet in which so many free addresses answer is not MAAS's to give away. */
const ANSWERING_TOLERATED = 5;

export async function reserveEndpoint(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const { endpoint } = context.document.spec.network;
  switch (endpoint.kind) {
    case 'external':
      return await settle(context, { kind: 'external', host: endpoint.host, port: endpoint.port });
    case 'maas-dns': {
      const host = `${context.document.spec.name}-${randomText(6, context.random)}.${context.document.spec.domain}`;
      return await settle(context, { kind: 'dns', host, port: API_PORT, addresses: [] });
    }
    case 'kube-vip':
      return await reserveVip(endpoint, context, signal);
  }
}

type KubeVip = Extract<ClusterSpec['network']['endpoint'], { kind: 'kube-vip' }>;

async function reserveVip(wanted: KubeVip, context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const pending = context.record().endpoint;
  if (pending.kind === 'reserving') {
    const outcome = await context.maas.reserveAddress(
      { ip: pending.ip, subnetCidr: pending.subnetCidr },
      signal,
    );
    if (outcome.kind === 'reserved') return await held(context, pending.ip, pending.subnetCidr);
    await context.commit((record) => ({ ...record, endpoint: { kind: 'none' } }));
    if (wanted.address !== undefined) throw unavailable(wanted.address, pending.subnetCidr);
  }
  const { endpointSubnet: subnet } = await siteOf(context, signal);
  if (!subnet)
    throw new PcgError('VIP_UNAVAILABLE', 'no subnet for the endpoint address', {
      field: 'spec.network.endpoint',
    });
  const [reserved, inUse, ranges] = await Promise.all([
    context.maas.reservedAddresses(signal),
    context.addressesInUse(),
    context.maas.unreservedRanges(subnet.id, signal),
  ]);
  // Reserving again what this MAAS user holds is a success in MAAS: an address that somebody has is no candidate.
  const taken = new Set([...reserved.map(({ ip }) => ip), ...inUse]);
  const candidates = (
    wanted.address === undefined
      ? freeAddresses(subnet, ranges, ADDRESSES_TRIED, context.random)
      : [wanted.address]
  ).filter((ip) => !taken.has(ip));
  const answering: string[] = [];
  for (const ip of candidates) {
    // MAAS knows its own addresses only: a host that somebody set up by hand would fight with kube-vip for this one.
    if (await context.isTaken(ip, API_PORT, signal)) {
      answering.push(ip);
      if (answering.length >= ANSWERING_TOLERATED) break;
      continue;
    }
    await context.commit((record) => ({
      ...record,
      endpoint: { kind: 'reserving', ip, subnetCidr: subnet.cidr },
    }));
    const outcome = await context.maas.reserveAddress({ ip, subnetCidr: subnet.cidr }, signal);
    if (outcome.kind === 'reserved') return await held(context, ip, subnet.cidr);
    await context.commit((record) => ({ ...record, endpoint: { kind: 'none' } }));
    if (outcome.kind === 'full') break;
  }
  throw unavailable(wanted.address, subnet.cidr, answering);
}

function unavailable(
  address: string | undefined,
  subnet: string,
  answering: readonly string[] = [],
): PcgError {
  const field = address === undefined ? 'spec.network.endpoint.subnet' : 'spec.network.endpoint.address';
  const [first] = answering;
  const why = address === undefined ? `no free address in ${subnet}` : `${address} is taken`;
  if (first === undefined) return new PcgError('VIP_UNAVAILABLE', why, { field });
  return new PcgError('VIP_UNAVAILABLE', `${why}: a host that MAAS does not know answers at ${first}`, {
    field,
    details: { answering },
    fix: 'Find the host that uses the address, or reserve the range that such hosts use in MAAS.',
  });
}

async function held(context: StepContext, ip: string, subnetCidr: string): Promise<StepOutcome> {
  return await settle(context, { kind: 'vip', host: ip, port: API_PORT, subnetCidr });
}

async function settle(context: StepContext, endpoint: EndpointRecord): Promise<StepOutcome> {
  await context.commit((record) => ({ ...record, endpoint }));
  if ('host' in endpoint)
    await context.event({
      severity: 'info',
      reason: 'EndpointReserved',
      message: `the API server's address is ${endpoint.host}:${endpoint.port}`,
      task: 'reserve-endpoint',
    });
  return DONE;
}

/** The site check for this cluster as it is now: what is placed already is not asked for again. */
export async function siteOf(context: StepContext, signal: AbortSignal): Promise<SiteCheck> {
  const { spec, profile } = context.document;
  const placed = new Map<string, number>();
  for (const node of context.record().nodes) {
    if (node.claim.kind === 'held') placed.set(node.pool, (placed.get(node.pool) ?? 0) + 1);
  }
  const entries = await context.quarantine.list(context.clock.now(), context.account.id);
  const quarantined = new Map(entries.map((entry) => [entry.systemId, entry.reason]));
  return await checkSite(
    context.maas,
    context.account.candidates,
    { pools: spec.pools, placed, network: spec.network, image: profile.os.image, domain: spec.domain },
    quarantined,
    'hurried',
    signal,
  );
}

export async function publishEndpoint(
  step: { addresses: readonly string[] },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const { endpoint } = context.record();
  if (endpoint.kind !== 'dns' || step.addresses.length === 0) return DONE;
  const [existing] = await context.maas.dnsResources(endpoint.host, signal);
  if (existing) await context.maas.updateDnsResource(existing.id, step.addresses, signal);
  else await context.maas.createDnsResource(endpoint.host, step.addresses, DNS_TTL_SECONDS, signal);
  await context.commit((record) => ({ ...record, endpoint: { ...endpoint, addresses: step.addresses } }));
  return DONE;
}

export async function releaseEndpoint(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const { endpoint } = context.record();
  switch (endpoint.kind) {
    case 'reserving':
      await context.maas.releaseAddress(endpoint.ip, signal);
      break;
    case 'vip':
      await context.maas.releaseAddress(endpoint.host, signal);
      break;
    case 'dns':
      // By exact name: a resource of another name is never ours.
      for (const resource of await context.maas.dnsResources(endpoint.host, signal)) {
        if (resource.fqdn === endpoint.host) await context.maas.deleteDnsResource(resource.id, signal);
      }
      break;
    case 'none':
    case 'external':
    case 'released':
      break;
  }
  await context.commit((record) => ({ ...record, endpoint: { kind: 'released' } }));
  return DONE;
}

/** The API server works on its node, and the address that all nodes use does not lead to it. */
export async function reportEndpoint(context: StepContext): Promise<StepOutcome> {
  const endpoint = endpointAddress(context.record().endpoint);
  throw new PcgError(
    'VIP_UNAVAILABLE',
    `the API server answers on its own address, but not at ${endpoint?.host ?? 'its endpoint'}`,
    {
      fix: 'Check that no other host uses the address, and that the machines of the control plane share its subnet.',
      details: { endpoint: endpoint?.host },
    },
  );
}
