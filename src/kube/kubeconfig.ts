/**
 * kubeconfig files: for kube-vip on a node, and the break-glass file for a person in the site. Written as JSON-like
 * YAML from data, never by string concatenation.
 */
import { stringify } from 'yaml';
import type { CertificatePair } from './pki.ts';

export interface KubeconfigInput {
  readonly clusterName: string;
  readonly user: string;
  /** `https://10.20.0.10:6443` */
  readonly server: string;
  readonly caPem: string;
  readonly credential: CertificatePair | { readonly token: string };
  readonly proxyUrl?: string;
  readonly namespace?: string;
}

/** A complete kubeconfig with one cluster, one user and one context `<user>@<cluster>`. */
export function renderKubeconfig(input: KubeconfigInput): string {
  const context = `${input.user}@${input.clusterName}`;
  const user =
    'token' in input.credential
      ? { token: input.credential.token }
      : {
          'client-certificate-data': base64(input.credential.certPem),
          'client-key-data': base64(input.credential.keyPem),
        };
  return stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: input.clusterName,
          cluster: {
            server: input.server,
            'certificate-authority-data': base64(input.caPem),
            ...(input.proxyUrl === undefined ? {} : { 'proxy-url': input.proxyUrl }),
          },
        },
      ],
      users: [{ name: input.user, user }],
      contexts: [
        {
          name: context,
          context: {
            cluster: input.clusterName,
            user: input.user,
            ...(input.namespace === undefined ? {} : { namespace: input.namespace }),
          },
        },
      ],
      'current-context': context,
      preferences: {},
    },
    { lineWidth: 0, version: '1.1' }, // Go reads YAML 1.1: yes, no, on, off need quotes
  );
}

function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}
