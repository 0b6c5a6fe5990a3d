/**
 * DNS names in MAAS. Parallel creates of one name make duplicates there, so writes queue up in this process
 * and a create looks before and after: of duplicates made by another gateway the oldest stays.
 */
import { isIP } from 'node:net';
import PQueue from 'p-queue';
import { PcgError } from '../base/errors.ts';
import type { DnsResource, MaasClient } from './client.ts';
import { toError } from './errors.ts';
import type { MaasCall } from './http.ts';
import type { Caller } from './retry.ts';
import { DnsResourceListWire, DnsResourceWire } from './schema.ts';

export type Dns = Pick<
  MaasClient,
  'dnsResources' | 'createDnsResource' | 'updateDnsResource' | 'deleteDnsResource'
>;

export function createDns(caller: Caller): Dns {
  const writing = new PQueue({ concurrency: 1 });

  async function list(fqdn: string, signal: AbortSignal): Promise<DnsResource[]> {
    const call: MaasCall = {
      what: 'dns.list',
      lane: 'read',
      method: 'GET',
      path: 'dnsresources/',
      query: [['fqdn', fqdn]],
    };
    const answer = await caller.tryAsk(call, signal);
    if (answer.kind === 'ok') {
      const found = caller.parse(DnsResourceListWire, answer.reply, call.what);
      return found.filter((resource) => resource.fqdn === fqdn).sort((a, b) => a.id - b.id);
    }
    if (answer.failure.kind === 'absent') return []; // no such domain
    throw toError(answer.failure, call);
  }

  async function update(id: number, addresses: readonly string[], signal: AbortSignal): Promise<DnsResource> {
    const form = [['ip_addresses', checked(addresses).join(' ')]] as const;
    const call: MaasCall = {
      what: 'dns.update',
      lane: 'read',
      method: 'PUT',
      path: `dnsresources/${id}/`,
      form,
    };
    return caller.parse(DnsResourceWire, await caller.ask(call, signal), call.what);
  }

  async function remove(id: number, signal: AbortSignal): Promise<void> {
    const call: MaasCall = {
      what: 'dns.delete',
      lane: 'read',
      method: 'DELETE',
      path: `dnsresources/${id}/`,
    };
    const answer = await caller.tryAsk(call, signal);
    if (answer.kind === 'failed' && answer.failure.kind !== 'absent') throw toError(answer.failure, call);
  }

  async function ensure(
    fqdn: string,
    addresses: readonly string[],
    ttlSeconds: number,
    signal: AbortSignal,
  ): Promise<DnsResource> {
    const [existing] = await list(fqdn, signal);
    if (existing !== undefined) return await settle(existing, addresses, signal);
    const call: MaasCall = {
      what: 'dns.create',
      lane: 'read',
      method: 'POST',
      path: 'dnsresources/',
      form: [
        ['fqdn', fqdn],
        ['ip_addresses', checked(addresses).join(' ')],
        ['address_ttl', String(ttlSeconds)],
      ],
    };
    const answer = await caller.effect(call, signal);
    const made = answer.kind === 'ok' ? caller.parse(DnsResourceWire, answer.reply, call.what) : undefined;
    if (answer.kind === 'failed' && answer.failure.kind === 'absent') {
      throw new PcgError('DOMAIN_UNKNOWN', `MAAS has no domain for ${fqdn}`, { field: 'fqdn' });
    }
    const [oldest] = await list(fqdn, signal);
    if (oldest === undefined) {
      if (answer.kind === 'failed') throw toError(answer.failure, call);
      throw new PcgError('MAAS_PROTOCOL', `MAAS confirmed ${fqdn} but does not list it`);
    }
    // Somebody else created it in the same moment; two resources of one name confuse both owners.
    if (made !== undefined && made.id !== oldest.id) await remove(made.id, signal);
    return await settle(oldest, addresses, signal);
  }

  /** The resource with exactly these addresses. */
  async function settle(
    resource: DnsResource,
    addresses: readonly string[],
    signal: AbortSignal,
  ): Promise<DnsResource> {
    const same =
      resource.addresses.length === addresses.length &&
      addresses.every((ip) => resource.addresses.includes(ip));
    return same ? resource : await update(resource.id, addresses, signal);
  }

  return {
    dnsResources: list,
    createDnsResource: (fqdn, addresses, ttlSeconds, signal) =>
      writing.add(() => ensure(fqdn, addresses, ttlSeconds, signal), { signal }),
    updateDnsResource: (id, addresses, signal) =>
      writing.add(() => update(id, addresses, signal), { signal }),
    deleteDnsResource: (id, signal) => writing.add(() => remove(id, signal), { signal }),
  };
}

/** MAAS answers 500 to anything that is not an address. */
function checked(addresses: readonly string[]): readonly string[] {
  const bad = addresses.find((ip) => isIP(ip) === 0);
  if (bad !== undefined) throw new PcgError('INVALID_INPUT', 'not an IP address', { field: 'addresses' });
  return addresses;
}
