/**
 * Proxy settings of a node and the NO_PROXY list that keeps the cluster's own traffic away from the proxy.
 * kubeadm copies these variables into the control plane's static pods, so one missing network here makes the
 * API server call kubelets and webhooks through the proxy.
 */
import { isIPv4 } from 'node:net';
import type { NodeSettings } from '../contract/cluster.ts';

/** Replaced on the machine by its own address, which nobody knows before it is deployed. */
export const NODE_IP_PLACEHOLDER = '__NODE_IP__';
/** Replaced by the network of that address. */
export const NODE_NETWORK_PLACEHOLDER = '__NODE_NETWORK__';

export interface NoProxyFacts {
  readonly settings: NodeSettings;
  readonly podCidr: string;
  readonly serviceCidr: string;
  readonly nodeCidrs: readonly string[];
  readonly endpointHost: string;
  /** MAAS domain of the machines. */
  readonly domain: string;
  readonly maasHost: string | undefined;
}

/** Link-local metadata services are never behind a proxy. */
const ALWAYS_DIRECT = ['localhost', '127.0.0.1', '127.0.0.0/8', '::1', '169.254.169.254'];
const CLUSTER_SUFFIXES = ['.svc', '.svc.cluster.local', '.cluster.local'];

/** Every name and network that must be reached directly; without duplicates, in a stable order. */
export function composeNoProxy(facts: NoProxyFacts): string[] {
  const mirrors = Object.values(facts.settings.registryMirrors).map(hostOf);
  const packages = facts.settings.packageMirror === undefined ? [] : [hostOf(facts.settings.packageMirror)];
  const images = facts.settings.imageRepository?.split('/')[0]?.replace(/:\d+$/, '');
  const list = [
    ...ALWAYS_DIRECT,
    NODE_IP_PLACEHOLDER,
    NODE_NETWORK_PLACEHOLDER,
    facts.podCidr,
    facts.serviceCidr,
    ...facts.nodeCidrs,
    facts.endpointHost,
    ...CLUSTER_SUFFIXES,
    `.${facts.domain}`,
    facts.maasHost ?? '',
    // Mirrors exist because the site has no way out: they are inside.
    ...mirrors,
    ...packages,
    // A private image repository may as well be a public one behind the proxy.
    images !== undefined && isSiteHost(images, facts.domain) ? images : '',
    ...facts.settings.noProxy,
  ];
  return [...new Set(list.filter((entry) => entry !== ''))];
}

/** Names that only resolve inside a site: addresses, bare names, the MAAS domain and private top levels. */
function isSiteHost(host: string, domain: string): boolean {
  return (
    isIPv4(host) ||
    !host.includes('.') ||
    host.endsWith(`.${domain}`) ||
    /\.(local|lan|internal|intranet|corp|home\.arpa)$/.test(host)
  );
}

function hostOf(url: string): string {
  return new URL(url).hostname;
}

/** Both spellings, since curl and apt read the lower-case one and some programs only the other. Empty without proxy. */
export function proxyEnvironment(settings: NodeSettings, noProxy: readonly string[]): Record<string, string> {
  const pairs: [string, string][] = [];
  if (settings.httpProxy !== undefined) pairs.push(['HTTP_PROXY', settings.httpProxy]);
  if (settings.httpsProxy !== undefined) pairs.push(['HTTPS_PROXY', settings.httpsProxy]);
  if (pairs.length === 0) return {};
  pairs.push(['NO_PROXY', noProxy.join(',')]);
  return Object.fromEntries(
    pairs.flatMap(([name, value]) => [
      [name, value],
      [name.toLowerCase(), value],
    ]),
  );
}

/** systemd drop-in; `%` starts a specifier there, and URL-encoded passwords are full of them. */
export function systemdProxyDropIn(environment: Record<string, string>): string {
  const lines = Object.entries(environment).map(
    ([name, value]) => `Environment="${name}=${value.replace(/[\\"]/g, '\\$&').replaceAll('%', '%%')}"`,
  );
  return `[Service]\n${lines.join('\n')}\n`;
}

/** `/etc/environment` is read by PAM: no expansion, plain quotes. */
export function environmentFile(environment: Record<string, string>): string {
  return `${Object.entries(environment)
    .map(([name, value]) => `${name}="${value}"`)
    .join('\n')}\n`;
}

/** apt knows neither suffixes nor networks in NO_PROXY: each direct host gets its own line. */
export function aptProxyConfig(settings: NodeSettings, noProxy: readonly string[]): string {
  const lines: string[] = [];
  for (const [scheme, proxy] of [
    ['http', settings.httpProxy],
    ['https', settings.httpsProxy],
  ] as const) {
    if (proxy === undefined) continue;
    lines.push(`Acquire::${scheme}::Proxy "${proxy}";`);
    for (const host of noProxy)
      if (/^[A-Za-z0-9][A-Za-z0-9.-]*$/.test(host))
        lines.push(`Acquire::${scheme}::Proxy::${host} "DIRECT";`);
  }
  return `${lines.join('\n')}\n`;
}
