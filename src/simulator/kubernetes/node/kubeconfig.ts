/** Kubeconfig files as kubeadm writes them on nodes. */
import { stringify } from 'yaml';
import type { KeyPairPem } from './pki.ts';

export function renderKubeconfig(server: string, caPem: string, user: string, pair: KeyPairPem): string {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'kubernetes', cluster: { server, 'certificate-authority-data': base64(caPem) } }],
    users: [
      {
        name: user,
        user: { 'client-certificate-data': base64(pair.certPem), 'client-key-data': base64(pair.keyPem) },
      },
    ],
    contexts: [{ name: `${user}@kubernetes`, context: { cluster: 'kubernetes', user } }],
    'current-context': `${user}@kubernetes`,
  });
}
