/**
 * Subnets and reserved addresses. Reserving names the address, so it is idempotent: "in use" is answered by
 * looking whether it is ours. Only one choice of a free address runs at a time in this process.
 */
import { isIP } from 'node:net';
import PQueue from 'p-queue';
import { PcgError } from '../base/errors.ts';
import type { MaasClient, Subnet } from './client.ts';
import { toError } from './errors.ts';
import type { MaasCall } from './http.ts';
import type { Caller } from './retry.ts';
import {
  AddressListWire,
  AddressWire,
  FabricListWire,
  RangeListWire,
  StatisticsWire,
  SubnetAddressesWire,
  SubnetListWire,
} from './schema.ts';
import { freeAddresses, isUsableIn, isWithin } from './vip.ts';

/** Addresses tried one after the other when others take them at the same moment. */
const CANDIDATES = 8;

export interface Fabric {
  readonly id: number;
  readonly name: string;
  readonly vlans: readonly {
    readonly id: number;
    readonly vid: number;
    readonly name: string;
    readonly mtu: number;
    readonly dhcpOn: boolean;
  }[];
}

export interface Network
  extends Pick<
    MaasClient,
    | 'subnets'
    | 'addressesIn'
    | 'subnetStatistics'
    | 'unreservedRanges'
    | 'reserveAddress'
    | 'releaseAddress'
    | 'reservedAddresses'
  > {
  fabrics(signal: AbortSignal): Promise<Fabric[]>;
}

type Reserved = Awaited<ReturnType<MaasClient['reserveAddress']>>;

/** `whoami` throws when the key's user may do nothing. */
export function createNetwork(caller: Caller, whoami: MaasClient['whoami']): Network {
  const choosing = new PQueue({ concurrency: 1 });

  const subnets: Network['subnets'] = (signal) =>
    caller.get(SubnetListWire, { what: 'subnets', lane: 'read', path: 'subnets/' }, signal);

  const unreservedRanges: Network['unreservedRanges'] = (subnetId, signal) =>
    caller.get(
      RangeListWire,
      {
        what: 'subnets.unreservedRanges',
        lane: 'read',
        path: `subnets/${subnetId}/`,
        query: [['op', 'unreserved_ip_ranges']],
      },
      signal,
    );

  const ownAddresses = (ip: string | undefined, signal: AbortSignal) =>
    caller.get(
      AddressListWire,
      {
        what: 'addresses.list',
        lane: 'read',
        path: 'ipaddresses/',
        ...(ip === undefined ? {} : { query: [['ip', ip] as const] }),
      },
      signal,
    );

  async function claim(ip: string, signal: AbortSignal): Promise<Reserved & { readonly certain: boolean }> {
    const call: MaasCall = {
      what: 'addresses.reserve',
      lane: 'read',
      method: 'POST',
      path: 'ipaddresses/',
      query: [['op', 'reserve']],
      form: [['ip', ip]],
    };
    let certain = true;
    let answer = await caller.effect(call, signal);
    if (
      answer.kind === 'failed' &&
      !['absent', 'forbidden', 'unable', 'refused', 'invalid'].includes(answer.failure.kind)
    ) {
      certain = false; // the first sending may have taken it: "in use" can mean "by us"
      answer = await caller.tryAsk(call, signal);
    }
    if (answer.kind === 'ok') {
      const got = caller.parse(AddressWire, answer.reply, call.what);
      if (got.ip !== ip) throw new PcgError('MAAS_PROTOCOL', `MAAS reserved ${got.ip} when asked for ${ip}`);
      return { kind: 'reserved', ip, certain };
    }
    switch (answer.failure.kind) {
      case 'absent': // in use, or within a reserved range
        return { kind: 'taken', certain };
      case 'forbidden':
        await whoami(signal); // a disabled user is refused alike
        return { kind: 'taken', certain }; // within a dynamic range
      case 'unable':
        return { kind: 'full', certain };
      case 'refused':
        throw new PcgError('SUBNET_UNKNOWN', toError(answer.failure, call).message, { field: 'ip' });
      default:
        throw toError(answer.failure, call);
    }
  }

  const isOurs = async (ip: string, signal: AbortSignal) =>
    (await ownAddresses(ip, signal)).some((address) => address.ip === ip);

  async function reserveNamed(
    ip: string,
    subnetCidr: string | undefined,
    signal: AbortSignal,
  ): Promise<Reserved> {
    if (isIP(ip) === 0) throw new PcgError('INVALID_INPUT', 'not an IP address', { field: 'ip' });
    // MAAS ignores the subnet when an address is given, and hands out gateway and broadcast addresses.
    const subnet = subnetOf(await subnets(signal), ip, subnetCidr);
    if (subnet === undefined) {
      throw new PcgError(
        'SUBNET_UNKNOWN',
        `address ${ip} is in no subnet${subnetCidr ? ` ${subnetCidr}` : ''} of MAAS`,
        {
          field: 'ip',
        },
      );
    }
    if (isIP(ip) === 4 && !isUsableIn(subnet, ip)) return { kind: 'taken' };
    const claimed = await claim(ip, signal);
    if (claimed.kind === 'taken' && (await isOurs(ip, signal))) return { kind: 'reserved', ip };
    return strip(claimed);
  }

  async function reserveAny(subnetCidr: string, signal: AbortSignal): Promise<Reserved> {
    const subnet = (await subnets(signal)).find((candidate) => candidate.cidr === subnetCidr);
    if (subnet === undefined) {
      throw new PcgError('SUBNET_UNKNOWN', `MAAS has no subnet ${subnetCidr}`, { field: 'subnetCidr' });
    }
    for (const ip of freeAddresses(subnet, await unreservedRanges(subnet.id, signal), CANDIDATES)) {
      const claimed = await claim(ip, signal);
      // Ours only if this very call may have reserved it; otherwise it serves another cluster.
      if (claimed.kind === 'taken' && !claimed.certain && (await isOurs(ip, signal)))
        return { kind: 'reserved', ip };
      if (claimed.kind !== 'taken') return strip(claimed);
    }
    return { kind: 'full' };
  }

  return {
    subnets,
    unreservedRanges,
    addressesIn: (subnetId, signal) =>
      caller.get(
        SubnetAddressesWire,
        {
          what: 'subnets.addresses',
          lane: 'read',
          path: `subnets/${subnetId}/`,
          // Who holds an address costs MAAS queries of its own.
          query: [
            ['op', 'ip_addresses'],
            ['with_username', '0'],
            ['with_summary', '0'],
          ],
        },
        signal,
      ),
    subnetStatistics: (subnetId, signal) =>
      caller.get(
        StatisticsWire,
        {
          what: 'subnets.statistics',
          lane: 'read',
          path: `subnets/${subnetId}/`,
          query: [['op', 'statistics']],
        },
        signal,
      ),
    reserveAddress: async ({ ip, subnetCidr }, signal) => {
      if (ip !== undefined) return await reserveNamed(ip, subnetCidr, signal);
      if (subnetCidr !== undefined)
        return await choosing.add(() => reserveAny(subnetCidr, signal), { signal });
      throw new PcgError('INVALID_INPUT', 'name a subnet or an address', { field: 'subnetCidr' });
    },
    async releaseAddress(ip, signal) {
      if (isIP(ip) === 0) throw new PcgError('INVALID_INPUT', 'not an IP address', { field: 'ip' });
      const call: MaasCall = {
        what: 'addresses.release',
        lane: 'read',
        method: 'POST',
        path: 'ipaddresses/',
        query: [['op', 'release']],
        form: [['ip', ip]],
      };
      const answer = await caller.tryAsk(call, signal);
      if (answer.kind === 'ok') return 'released';
      // 400 as text: not there, or not ours; 404 in case a version says so. Or another refusal, and it is still ours.
      const gone = answer.failure.kind === 'refused' || answer.failure.kind === 'absent';
      if (gone && !(await isOurs(ip, signal))) return 'absent';
      throw toError(answer.failure, call);
    },
    reservedAddresses: (signal) => ownAddresses(undefined, signal),
    async fabrics(signal) {
      const fabrics = await caller.get(
        FabricListWire,
        { what: 'fabrics', lane: 'read', path: 'fabrics/' },
        signal,
      );
      return fabrics.map(({ id, name, vlans }) => ({
        id,
        name,
        vlans: vlans.map((vlan) => ({
          id: vlan.id,
          vid: vlan.vid,
          name: vlan.name,
          mtu: vlan.mtu,
          dhcpOn: vlan.dhcp_on,
        })),
      }));
    },
  };
}

function strip({ certain: _, ...reserved }: Reserved & { readonly certain: boolean }): Reserved {
  return reserved;
}

/** The named subnet, or the most specific one around the address. */
function subnetOf(subnets: readonly Subnet[], ip: string, cidr: string | undefined): Subnet | undefined {
  return subnets
    .filter((subnet) => (cidr === undefined || subnet.cidr === cidr) && isWithin(subnet.cidr, ip))
    .sort((a, b) => Number(b.cidr.split('/')[1]) - Number(a.cidr.split('/')[1]))[0];
}
