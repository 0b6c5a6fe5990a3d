/** What every node of a cluster gets is refused where it is given: machines with a broken proxy only fail an hour later. */
import { PcgError } from '../base/errors.ts';
import type { ClusterSpecRequest } from '../contract/cluster.ts';

/** Throws INVALID_INPUT naming the first wrong field. Proxy values are not repeated: they may hold a password. */
export function checkNodeSettings({ nodes }: Pick<ClusterSpecRequest, 'nodes'>): void {
  for (const name of ['httpsProxy', 'httpProxy'] as const) {
    const proxy = nodes[name];
    if (proxy !== undefined && !isProxy(proxy))
      throw wrong(name, 'is no proxy', 'Give it like http://user:password@proxy.example:3128.');
  }
  const noProxy = nodes.noProxy.find((entry) => !/^[^\s,]+$/.test(entry));
  if (noProxy !== undefined)
    throw wrong('noProxy', `"${noProxy}" is no host, domain or network`, 'Give one entry for each.');
  const server = nodes.ntpServers.find((entry) => !/^[\w.:-]+$/.test(entry));
  if (server !== undefined)
    throw wrong('ntpServers', `"${server}" is no host`, 'Give names or addresses of hosts.');
  const key = nodes.sshAuthorizedKeys.findIndex((entry) => !/^[^\n]*[a-z0-9@.-]+ AAAA\S+[^\n]*$/.test(entry));
  if (key !== -1)
    throw wrong(
      'sshAuthorizedKeys',
      `line ${key + 1} is no public key`,
      'Give the content of a file like id_ed25519.pub.',
    );
  if (nodes.caCertificates.some((pem) => !pem.includes('-----BEGIN CERTIFICATE-----')))
    throw wrong('caCertificates', 'one is no certificate', 'Give PEM blocks "BEGIN CERTIFICATE".');
}

const isProxy = (text: string): boolean => /^https?:\/\/\S+$/i.test(text);

function wrong(name: string, what: string, fix: string): PcgError {
  return new PcgError('INVALID_INPUT', `spec.nodes.${name}: ${what}`, { field: `spec.nodes.${name}`, fix });
}
