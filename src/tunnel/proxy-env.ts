/**
 * Which proxy, if any, a URL goes through: proxy URLs as people type them, and NO_PROXY in all its dialects.
 * Pure: settings come from the configuration, never from process.env here. Loopback has no special treatment:
 * what shall bypass the proxy is listed.
 */
import { BlockList, isIP } from 'node:net';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';

/** R57-R59, as configured; blank and missing mean none. */
export interface ProxySettings {
  readonly httpsProxy?: string | Secret | undefined;
  readonly httpProxy?: string | Secret | undefined;
  /** Hosts, domain suffixes, `host:port`, addresses, CIDRs, or `*`; separated by commas or spaces. */
  readonly noProxy?: string | readonly string[] | undefined;
}

export interface ProxyTarget {
  /** How we speak to the proxy itself. */
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  readonly credentials: { readonly user: string; readonly password: Secret } | undefined;
}

/** The proxy for `url` (http, https, ws, wss), or undefined for a direct connection. Throws BAD_CONFIG. */
export function proxyFor(url: URL, settings: ProxySettings): ProxyTarget | undefined {
  const secure = url.protocol === 'https:' || url.protocol === 'wss:';
  const configured = secure ? settings.httpsProxy : settings.httpProxy;
  const text = (configured instanceof Secret ? configured.reveal() : (configured ?? '')).trim();
  if (text === '') return undefined;
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
  if (bypasses(url.hostname, port, settings.noProxy)) return undefined;
  return parseProxyUrl(text, secure ? 'httpsProxy' : 'httpProxy');
}

/**
 * `http://user:password@host:port`, also `https://` for TLS to the proxy, or bare `host:port`. Everything up to the
 * last `@` is credentials, so a password may hold @ : / and % as they are; a valid percent escape is decoded.
 */
export function parseProxyUrl(text: string, field = 'proxy'): ProxyTarget {
  const wrong = (message: string): PcgError =>
    new PcgError('BAD_CONFIG', message, {
      field,
      fix: 'Give it like http://user:password@proxy.example:3128.',
    });
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text);
  const name = (scheme?.[1] ?? 'http').toLowerCase();
  if (name !== 'http' && name !== 'https') throw wrong('only http:// and https:// proxies are supported');
  const rest = text.slice(scheme?.[0].length ?? 0);
  const at = rest.lastIndexOf('@');
  const authority = rest.slice(at + 1).replace(/\/+$/, '');
  let url: URL;
  try {
    if (!/^[^/?#\s\\]+$/.test(authority)) throw new TypeError('not host:port');
    url = new URL(`http://${authority}`);
  } catch {
    throw wrong('the proxy URL names no valid host and port'); // never quote it: it may hold a password
  }
  // WHATWG hides a default port, so look at the text for an explicit one
  const explicit = /:(\d+)$/.exec(authority)?.[1];
  const port = explicit === undefined ? (name === 'https' ? 443 : 3128) : Number(explicit);
  if (port === 0) throw wrong('the proxy URL names no valid host and port');
  return {
    secure: name === 'https',
    host: bare(url.hostname),
    port,
    credentials: at < 0 ? undefined : parseCredentials(rest.slice(0, at)),
  };
}

function parseCredentials(userinfo: string): { user: string; password: Secret } {
  const colon = userinfo.indexOf(':');
  const user = colon < 0 ? userinfo : userinfo.slice(0, colon);
  const password = colon < 0 ? '' : userinfo.slice(colon + 1);
  return { user: unescape(user), password: new Secret(unescape(password)) };
}

/** Percent escapes become bytes; a % that starts none stays. */
function unescape(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}

/** `Proxy-Authorization` for Basic. */
export function basicCredentials(credentials: NonNullable<ProxyTarget['credentials']>): string {
  return `Basic ${Buffer.from(`${credentials.user}:${credentials.password.reveal()}`).toString('base64')}`;
}

/** True when NO_PROXY lists `host`. A name matches itself and its subdomains; names are not resolved for CIDRs. */
export function bypasses(host: string, port: number, noProxy: ProxySettings['noProxy']): boolean {
  const entries = typeof noProxy === 'string' ? noProxy.split(/[\s,]+/) : (noProxy ?? []);
  const wanted = bare(host).toLowerCase().replace(/\.$/, '');
  return entries.some((entry) => matches(entry.trim().toLowerCase(), wanted, port));
}

function matches(entry: string, host: string, port: number): boolean {
  if (entry === '') return false;
  if (entry === '*') return true;
  const family = isIP(host);
  if (entry.includes('/')) return family !== 0 && inNetwork(entry, host, family);
  const { name, port: wantedPort } = splitPort(entry);
  if (wantedPort !== undefined && wantedPort !== port) return false;
  if (isIP(name) !== 0) return family !== 0 && sameAddress(name, host);
  const suffix = name.replace(/^\*?\./, '').replace(/\.$/, '');
  if (suffix === '' || family !== 0) return false;
  // `.example.com` and `*.example.com` are written for subdomains, but people mean the domain too
  return host === suffix || host.endsWith(`.${suffix}`);
}

function splitPort(entry: string): { name: string; port: number | undefined } {
  if (isIP(entry) !== 0) return { name: entry, port: undefined };
  const found = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(entry);
  return found
    ? { name: bare(found[1] as string), port: Number(found[2]) }
    : { name: bare(entry), port: undefined };
}

function inNetwork(cidr: string, address: string, family: number): boolean {
  const [network = '', prefix = ''] = cidr.split('/');
  const kind = isIP(network);
  const bits = Number(prefix);
  if (kind === 0 || kind !== family || !/^\d+$/.test(prefix) || bits > (kind === 6 ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(network, bits, kind === 6 ? 'ipv6' : 'ipv4');
  return list.check(address, kind === 6 ? 'ipv6' : 'ipv4');
}

/** Two spellings of one address (`::1`, `0:0::1`) are the same. */
function sameAddress(left: string, right: string): boolean {
  const family = isIP(left);
  return family === isIP(right) && inNetwork(`${left}/${family === 6 ? 128 : 32}`, right, family);
}

const bare = (host: string): string => host.replace(/^\[|\]$/g, '');
