/** The settings of one node: the cluster's own over those of the gateway's site. Lists are united, single values replaced. */
import type { NodeSettings } from '../contract/cluster.ts';

/** What the gateway's site gives to every node; `spec.nodes` is merged over it. */
export interface SiteSettings extends Partial<NodeSettings> {
  /** Host of the MAAS endpoint, for NO_PROXY. */
  readonly maasHost?: string;
  /** Networks of the machines (MAAS subnets), for NO_PROXY. */
  readonly nodeCidrs?: readonly string[];
}

export function mergeNodeSettings(site: SiteSettings, own: NodeSettings): NodeSettings {
  const httpProxy = own.httpProxy ?? site.httpProxy;
  const httpsProxy = own.httpsProxy ?? site.httpsProxy;
  const imageRepository = own.imageRepository ?? site.imageRepository;
  const packageMirror = own.packageMirror ?? site.packageMirror;
  return {
    ...(filled(httpProxy) ? { httpProxy } : {}),
    ...(filled(httpsProxy) ? { httpsProxy } : {}),
    ...(filled(imageRepository) ? { imageRepository } : {}),
    ...(filled(packageMirror) ? { packageMirror } : {}),
    noProxy: unite(site.noProxy, own.noProxy),
    caCertificates: unite(site.caCertificates, own.caCertificates),
    sshAuthorizedKeys: unite(site.sshAuthorizedKeys, own.sshAuthorizedKeys),
    // Mixing time sources of two lists makes clocks worse, not better.
    ntpServers: own.ntpServers.length > 0 ? own.ntpServers : (site.ntpServers ?? []),
    registryMirrors: { ...site.registryMirrors, ...own.registryMirrors },
  };
}

/** An empty string switches a site's setting off for one cluster. */
function filled(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}

function unite(first: readonly string[] | undefined, second: readonly string[]): string[] {
  return [...new Set([...(first ?? []), ...second].map((entry) => entry.trim()))].filter(
    (entry) => entry !== '',
  );
}
