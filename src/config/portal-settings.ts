/** What the environment can set on a portal, and on the commands that call one. */
import type { SettingDefinitions } from './settings.ts';

export const PORTAL_SETTINGS = {
  adminPassword: {
    doc: 'Password of the first administrator; without it one is made and printed once.',
    format: 'secret',
    default: null,
    env: 'PCG_ADMIN_PASSWORD',
  },
  tlsCert: {
    doc: 'PEM certificate chain: the portal speaks HTTPS itself; a changed file is served within 10 s, or at SIGHUP.',
    format: 'string',
    default: null,
    env: 'PCG_TLS_CERT',
  },
  tlsKey: {
    doc: 'PEM private key of the certificate.',
    format: 'string',
    default: null,
    env: 'PCG_TLS_KEY',
  },
  tlsCa: {
    doc: 'PEM CA of an HTTPS address, when it is a private one; kubeconfigs carry it.',
    format: 'string',
    default: null,
    env: 'PCG_TLS_CA',
  },
  kubePort: {
    doc: 'Port of the TLS listener for kubectl that a portal on plain HTTP has; 0 = any free one; default: port + 1.',
    format: 'integer',
    default: null,
    env: 'PCG_KUBE_PORT',
  },
  trustProxy: {
    doc: 'Callers have the address that a load balancer puts last into X-Forwarded-For; only behind one that always does.',
    format: 'boolean',
    default: false,
    env: 'PCG_TRUST_PROXY',
  },
} as const satisfies SettingDefinitions;

export const CLIENT_SETTINGS = {
  portalUrl: {
    doc: 'The portal that `pcg clusters` calls; without it they ask the agent on this host.',
    format: 'url',
    default: null,
    env: 'PCG_PORTAL_URL',
  },
  portalToken: {
    doc: "API token of a portal user, made on the portal's page (or PCG_PORTAL_TOKEN_FILE).",
    format: 'secret',
    default: null,
    env: 'PCG_PORTAL_TOKEN',
  },
  caFile: {
    doc: 'PEM file with the CA of the portal, when it is a private one.',
    format: 'string',
    default: null,
    env: 'PCG_CA_FILE',
  },
} as const satisfies SettingDefinitions;

/** Read by `pcg pair` alone. */
export const PAIR_SETTINGS = {
  pairingCode: {
    doc: 'The one-time code that the portal shows (or PCG_PAIRING_CODE_FILE, or standard input).',
    format: 'secret',
    default: null,
    env: 'PCG_PAIRING_CODE',
  },
} as const satisfies SettingDefinitions;
