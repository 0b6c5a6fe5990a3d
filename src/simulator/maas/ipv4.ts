/**
 * IPv4 arithmetic and the free-space rules of a MAAS subnet. Ranges are inclusive pairs of 32-bit numbers.
 * The simulated site has no IPv6.
 */

export function parseIp(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  let value = 0;
  for (const part of match.slice(1)) {
    const octet = Number(part);
    if (octet > 255) return undefined;
    value = value * 256 + octet;
  }
  return value;
}

export const formatIp = (value: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** Like `parseIp` for text that the simulator itself has made. */
export function ipNumber(text: string): number {
  const value = parseIp(text);
  if (value === undefined) throw new RangeError(`not an IPv4 address: ${text}`);
  return value;
}

export interface Cidr {
  readonly text: string;
  readonly network: number;
  readonly broadcast: number;
  readonly prefix: number;
}

/** `10.0.0.0/24`, or an address alone as /32. Host bits are cleared. */
export function parseCidr(text: string): Cidr | undefined {
  const [address = '', length = '32', ...rest] = text.split('/');
  const value = parseIp(address);
  if (value === undefined || rest.length > 0 || !/^\d{1,2}$/.test(length)) return undefined;
  const prefix = Number(length);
  if (prefix > 32) return undefined;
  const size = 2 ** (32 - prefix);
  const network = Math.floor(value / size) * size;
  return { text: `${formatIp(network)}/${prefix}`, network, broadcast: network + size - 1, prefix };
}

export interface Range {
  readonly start: number;
  readonly end: number;
}

export interface UsedRange extends Range {
  readonly purpose: readonly string[];
}

/** Addresses that hosts may have: without network and broadcast address, where there are any. */
export const hostRange = (cidr: Cidr): Range =>
  cidr.prefix >= 31
    ? { start: cidr.network, end: cidr.broadcast }
    : { start: cidr.network + 1, end: cidr.broadcast - 1 };

export const rangeSize = (range: Range): number => range.end - range.start + 1;

/** Sorts, and joins neighbours that serve the same purpose, as MAAS shows them. */
export function mergeUsed(ranges: readonly UsedRange[]): UsedRange[] {
  const merged: UsedRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.start - b.start || b.end - a.end)) {
    const last = merged.at(-1);
    if (last && range.end <= last.end) {
      const purpose = [...new Set([...last.purpose, ...range.purpose])].sort();
      merged[merged.length - 1] = { ...last, purpose };
    } else if (
      last &&
      range.start <= last.end + 1 &&
      last.purpose.join() === range.purpose.join() &&
      last.purpose[0] === 'assigned-ip'
    ) {
      merged[merged.length - 1] = { ...last, end: range.end };
    } else {
      merged.push(range);
    }
  }
  return merged;
}

/** What is left of `within` when `used` is taken away, in ascending order. */
export function freeRanges(within: Range, used: readonly Range[]): Range[] {
  const free: Range[] = [];
  let at = within.start;
  for (const range of [...used].sort((a, b) => a.start - b.start)) {
    if (range.end < at) continue;
    if (range.start > within.end) break;
    if (range.start > at) free.push({ start: at, end: range.start - 1 });
    at = Math.max(at, range.end + 1);
  }
  if (at <= within.end) free.push({ start: at, end: within.end });
  return free;
}

/** MAAS fills the smallest gap first, from its lowest address. */
export function nextFree(free: readonly Range[]): number | undefined {
  let best: Range | undefined;
  for (const range of free) if (!best || rangeSize(range) < rangeSize(best)) best = range;
  return best?.start;
}
