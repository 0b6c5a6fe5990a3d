/**
 * TCP targets `tcp:<host>:<port>`: only what the site's allow-list names, and only if the address that the name
 * resolves to at this moment may be reached. The checked address is the one that is dialled, so a name that changes
 * between check and use gains nothing. Loopback, link-local, metadata and unspecified addresses are always refused.
 */
import { lookup } from 'node:dns/promises';
import { BlockList, connect, isIP, type Socket } from 'node:net';
import { type Clock, withDeadline } from '../base/clock.ts';
import { STREAM, StreamError } from './codes.ts';
import { NOTICES_LOSS, socketReady } from './socket-ready.ts';

const DIAL_TIMEOUT_MS = 10_000;
/** `tcp:` + a DNS name + `:65535` */
const MAX_TARGET_CHARS = 4 + 253 + 6;

export interface TcpTargetOptions {
  /** `host:port`, `*.domain:port`, `CIDR:port`; port may be `*` or `from-to`. IPv6 in brackets: `[fd00::/8]:443`. */
  readonly allow: readonly string[];
  /** For tests alone: addresses that are dialled although they are always refused. */
  readonly allowAddressesForTests?: readonly string[];
  readonly clock: Clock;
  readonly resolve?: (host: string) => Promise<readonly { readonly address: string }[]>;
}

/** Opens `target`; rejects with StreamError DENIED or DNS_FAILED, DeadlineError, or the socket's own error. */
export function createTcpTarget(
  options: TcpTargetOptions,
): (target: string, signal: AbortSignal) => Promise<Socket> {
  const rules = options.allow.map(parseTcpRule);
  const exempt = new Set(options.allowAddressesForTests);
  const resolve = options.resolve ?? ((host: string) => lookup(host, { all: true, verbatim: true }));
  return async (target, signal) => {
    const { host, port } = parseTarget(target);
    // no rule can match: say so before the resolver is asked, it is not the portal's to probe names with
    if (!rules.some((rule) => rule.port(port) && (rule.network !== undefined || rule.name?.(host))))
      throw denied(target);
    return await withDeadline(options.clock, DIAL_TIMEOUT_MS, 'dialling the target', signal, async (stop) => {
      const addresses = isIP(host) ? [host] : await resolved(host, resolve, stop);
      const allowed = addresses.filter(
        (address) =>
          (exempt.has(address) || !isForbidden(address)) &&
          rules.some((rule) => rule.port(port) && (rule.name?.(host) || rule.network?.(address))),
      );
      if (allowed.length === 0) throw denied(target);
      return await dialFirst(allowed, port, stop);
    });
  };
}

interface Rule {
  readonly port: (port: number) => boolean;
  readonly name?: (host: string) => boolean;
  readonly network?: (address: string) => boolean;
}

/** Throws TypeError: a wrong rule must stop the start, not open a hole or close a door silently. */
export function parseTcpRule(text: string): Rule {
  const found = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\*|\d{1,5}(?:-\d{1,5})?)$/.exec(text.trim().toLowerCase());
  if (!found) throw new TypeError(`not host:port: ${text}`);
  const host = (found[1] ?? found[2]) as string;
  const [from, to = from] = found[3] === '*' ? [1, 65_535] : (found[3] as string).split('-').map(Number);
  if (from === undefined || to === undefined || from < 1 || to > 65_535 || from > to)
    throw new TypeError(`not a port: ${text}`);
  const port = (wanted: number): boolean => wanted >= from && wanted <= to;
  const [network = '', prefix] = host.split('/');
  const family = isIP(network);
  if (family !== 0) {
    const bits = prefix === undefined ? (family === 6 ? 128 : 32) : Number(prefix);
    if (!Number.isInteger(bits) || bits < 0 || bits > (family === 6 ? 128 : 32))
      throw new TypeError(`not a network: ${text}`);
    const list = new BlockList();
    list.addSubnet(network, bits, family === 6 ? 'ipv6' : 'ipv4');
    return { port, network: (address) => list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4') };
  }
  if (host === '*' || !/^(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/.test(host))
    throw new TypeError(`not a host: ${text}`);
  if (host.startsWith('*.')) return { port, name: (wanted) => wanted.endsWith(host.slice(1)) };
  return { port, name: (wanted) => wanted === host };
}

/** Strict on purpose: decimal, hex and octal addresses, paths, and ports out of range are no targets. */
export function parseTarget(target: string): { host: string; port: number } {
  const found =
    target.length > MAX_TARGET_CHARS
      ? null
      : /^tcp:(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+)):(\d{1,5})$/i.exec(target);
  const host = (found?.[1] ?? found?.[2] ?? '').toLowerCase().replace(/\.$/, '');
  const port = Number(found?.[3]);
  const family = isIP(host);
  const bracketed = found?.[1] !== undefined;
  // what looks like a number to a resolver (2130706433, 0x7f.1, 127.1) and is no canonical address is refused
  const numeric = family === 0 && /^(0x[0-9a-f]*|\d+)$/i.test(host.split('.').at(-1) ?? '');
  if (host.split('.').includes('') || port < 1 || port > 65_535 || numeric || bracketed !== (family === 6)) {
    throw denied(target);
  }
  return { host, port };
}

const FORBIDDEN = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16], // link-local, with the metadata services of clouds
  ['100.100.100.200', 32], // metadata service of one cloud outside link-local
  ['192.0.0.192', 32], // and of another
  ['168.63.129.16', 32], // and of a third, which hands out secrets of its machines as well
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  FORBIDDEN.addSubnet(network, bits, 'ipv4');
}
for (const [network, bits] of [
  ['::', 127], // unspecified and loopback
  ['fe80::', 10],
  ['fec0::', 10], // link-local's predecessor for a site: routers of today know nothing of it
  ['ff00::', 8],
  ['fd00:ec2::254', 128], // metadata services
  ['fd20:ce::254', 128],
  ['fd00:42::42', 128],
  ['64:ff9b::', 96], // NAT64: an IPv4 address in disguise
  ['64:ff9b:1::', 48], // NAT64 with a prefix of the site's own
  ['::ffff:0:0:0', 96], // stateless translation: likewise
  ['2002::', 16], // 6to4: likewise
  ['2001::', 32], // Teredo: likewise
] as const) {
  FORBIDDEN.addSubnet(network, bits, 'ipv6');
}

/** True for addresses that no allow-list opens. IPv4 in IPv6 clothes is looked at as IPv4. */
export function isForbidden(address: string): boolean {
  const family = isIP(address);
  if (family === 0) return true;
  if (family === 4) return FORBIDDEN.check(address, 'ipv4');
  // BlockList compares mapped addresses with the IPv4 rules; a zone (fe80::1%eth0) is link-local anyway
  return address.includes('%') || FORBIDDEN.check(address, 'ipv6') || isCompatible(address);
}

/** `::a.b.c.d`, long deprecated and still understood by some stacks. */
function isCompatible(address: string): boolean {
  const list = new BlockList();
  list.addSubnet('::', 96, 'ipv6');
  return list.check(address, 'ipv6');
}

/** Does not wait for a resolver that says nothing: it knows no signal. */
async function resolved(
  host: string,
  resolve: NonNullable<TcpTargetOptions['resolve']>,
  signal: AbortSignal,
): Promise<string[]> {
  const given = Promise.withResolvers<never>();
  const giveUp = (): void => given.reject(signal.reason);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return (await Promise.race([resolve(host), given.promise])).map(({ address }) => address);
  } catch (cause) {
    signal.throwIfAborted();
    throw new StreamError(STREAM.DNS_FAILED, 'the name of the target does not resolve', { cause });
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

/** One after the other: the first that answers. */
async function dialFirst(addresses: readonly string[], port: number, signal: AbortSignal): Promise<Socket> {
  let last: unknown;
  for (const address of addresses) {
    signal.throwIfAborted();
    try {
      return await dialAddress(address, port, signal);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

function dialAddress(address: string, port: number, signal: AbortSignal): Promise<Socket> {
  const options = { host: address, port, noDelay: true, allowHalfOpen: true, ...NOTICES_LOSS };
  return socketReady(connect(options), 'connect', signal);
}

const denied = (target: string): StreamError =>
  new StreamError(STREAM.DENIED, `the site does not allow ${JSON.stringify(target.slice(0, 80))}`);
