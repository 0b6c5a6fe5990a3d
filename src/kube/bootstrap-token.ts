/**
 * Bootstrap tokens: how a new machine proves that it may join. Bare metal boots slowly, so a token is extended
 * while its machine deploys and deleted as soon as its Node is Ready; the token cleaner removes what we forget.
 */
import { randomInt } from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import type { KubeClient, KubeObject } from './client.ts';

export interface BootstrapToken {
  readonly id: string;
  readonly secret: string;
}

/** Long enough for the slowest normal deployment (30 min in MAAS) and the join after it. */
export const TOKEN_TTL_MS = 60 * 60 * 1000;

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
const GROUP = 'system:bootstrappers:kubeadm:default-node-token';

export function createBootstrapToken(): BootstrapToken {
  return { id: randomText(6), secret: randomText(16) };
}

function randomText(length: number): string {
  return Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');
}

/**
 * Makes sure that the cluster accepts `token` for at least another TTL from now. Repeating it is how a token is
 * extended. `description` is shown by `kubeadm token list`.
 */
export async function ensureBootstrapToken(
  client: KubeClient,
  token: BootstrapToken,
  options: { readonly nowMs: number; readonly ttlMs?: number; readonly description: string },
  signal: AbortSignal,
): Promise<void> {
  const expiration = new Date(options.nowMs + (options.ttlMs ?? TOKEN_TTL_MS))
    .toISOString()
    .replace(/\.\d+Z$/, 'Z');
  const secret: KubeObject = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: `bootstrap-token-${token.id}`, namespace: 'kube-system' },
    type: 'bootstrap.kubernetes.io/token',
    data: encode({
      'token-id': token.id,
      'token-secret': token.secret,
      expiration,
      'usage-bootstrap-authentication': 'true',
      'usage-bootstrap-signing': 'true',
      'auth-extra-groups': GROUP,
      description: options.description,
    }),
  };
  const created = await client.create(secret, signal);
  if (created !== 'exists') return;
  try {
    await client.patch(secretPath(token.id), { data: encode({ expiration }) }, 'merge', signal);
  } catch (error) {
    // The token cleaner was faster: the next run creates it anew.
    if (error instanceof PcgError && error.details?.['status'] === 404) {
      await client.create(secret, signal);
      return;
    }
    throw error;
  }
}

/** When the token ends, milliseconds since the epoch; undefined when the cluster does not know it. */
export async function bootstrapTokenExpiry(
  client: KubeClient,
  id: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const secret = await client.get(secretPath(id), signal);
  const data = secret?.['data'] as Record<string, unknown> | undefined;
  const expiration = data?.['expiration'];
  if (typeof expiration !== 'string') return undefined;
  const at = Date.parse(Buffer.from(expiration, 'base64').toString('utf8'));
  return Number.isNaN(at) ? undefined : at;
}

/** Deleting twice is fine. */
export async function deleteBootstrapToken(
  client: KubeClient,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  await client.delete(secretPath(id), signal);
}

function secretPath(id: string): string {
  return `/api/v1/namespaces/kube-system/secrets/bootstrap-token-${encodeURIComponent(id)}`;
}

function encode(data: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'utf8').toString('base64')]),
  );
}
