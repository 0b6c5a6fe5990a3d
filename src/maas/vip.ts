/**
 * Free addresses to choose from. The address is chosen here and then claimed by name, so that a repeated
 * request can never reserve a second one; MAAS itself would also hand out network, broadcast and gateway.
 */
import { BlockList, isIP, isIPv4 } from 'node:net';
import type { Subnet } from './client.ts';

export interface FreeRange {
  readonly start: string;
  readonly end: string;
}

export function ipv4ToNumber(ip: string): number {
  return ip.split('.').reduce((value, octet) => value * 256 + Number(octet), 0);
}

export function numberToIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

/** First and last address of an IPv4 network, as numbers. */
export function ipv4Bounds(cidr: string): { first: number; last: number } | undefined {
  const [base = '', bits = ''] = cidr.split('/');
  const prefix = Number(bits);
  if (!isIPv4(base) || bits === '' || !Number.isInteger(prefix) || prefix < 0 || prefix > 32)
    return undefined;
  const size = 2 ** (32 - prefix);
  const first = Math.floor(ipv4ToNumber(base) / size) * size;
  return { first, last: first + size - 1 };
}

/** Whether an address (IPv4 or IPv6) lies in a network. */
export function isWithin(cidr: string, ip: string): boolean {
  const [base = '', prefix = ''] = cidr.split('/');
  const family = isIP(base);
  if (
    family === 0 ||
    family !== isIP(ip) ||
    !/^\d{1,3}$/.test(prefix) ||
    Number(prefix) > (family === 4 ? 32 : 128)
  ) {
    return false;
  }
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const network = new BlockList();
  network.addSubnet(base, Number(prefix), type);
  return network.check(ip, type);
}

/** Whether the address may carry an endpoint: inside, and neither network, broadcast nor gateway. */
export function isUsableIn(subnet: Pick<Subnet, 'cidr' | 'gatewayIp'>, ip: string): boolean {
  const bounds = ipv4Bounds(subnet.cidr);
  if (bounds === undefined || !isIPv4(ip)) return false;
  const value = ipv4ToNumber(ip);
  const small = bounds.last - bounds.first < 2; // /31 and /32 have no network address
  return (
    value >= bounds.first + (small ? 0 : 1) &&
    value <= bounds.last - (small ? 0 : 1) &&
    ip !== subnet.gatewayIp
  );
}

/**
 * Up to `count` free IPv4 addresses, starting at a random one of the largest range: MAAS fills the smallest
 * gaps first, and two gateways of one MAAS user should not choose alike.
 */
export function freeAddresses(
  subnet: Pick<Subnet, 'cidr' | 'gatewayIp'>,
  ranges: readonly FreeRange[],
  count: number,
  random: () => number = Math.random,
): string[] {
  const spans = ranges
    .filter((range) => isIPv4(range.start) && isIPv4(range.end))
    .map((range) => ({ from: ipv4ToNumber(range.start), to: ipv4ToNumber(range.end) }))
    .filter((span) => span.to >= span.from)
    .sort((a, b) => b.to - b.from - (a.to - a.from));
  const found: string[] = [];
  for (const [index, { from, to }] of spans.entries()) {
    const size = to - from + 1;
    const offset = index === 0 ? Math.floor(random() * size) : 0;
    for (let step = 0; step < size && found.length < count; step += 1) {
      const ip = numberToIpv4(from + ((offset + step) % size));
      if (isUsableIn(subnet, ip)) found.push(ip);
    }
  }
  return found;
}
