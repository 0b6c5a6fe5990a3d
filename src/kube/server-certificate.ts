/**
 * How long the certificate of a running API server or etcd member still serves: kubeadm's leaf certificates live a
 * year and end without a word, so the gateway looks before they do.
 */
import { type Clock, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { KubeTarget } from './client.ts';
import { createDispatcher, send } from './dispatcher.ts';
import { networkError } from './errors.ts';

const TIMEOUT_MS = 10_000;

/**
 * End of the server certificate's validity, milliseconds since the epoch; the present when it has ended already
 * (TLS then does not show the certificate). Throws KUBE_UNREACHABLE.
 */
export async function serverCertificateExpiry(
  target: KubeTarget,
  options: { readonly clock: Clock },
  signal: AbortSignal,
): Promise<number> {
  let expiresAtMs = Number.NaN;
  const what = `certificate of ${target.server}`;
  const dispatcher = createDispatcher(
    {
      ...target,
      onCertificate: (certificate) => {
        expiresAtMs = Date.parse(certificate.valid_to);
      },
    },
    1,
  );
  try {
    await withDeadline(options.clock, TIMEOUT_MS, what, signal, async (limited) => {
      const origin = new URL(target.server).origin;
      const { body } = await send(dispatcher, { origin, path: '/version', method: 'GET', signal: limited });
      await body.dump();
    });
  } catch (error) {
    if (isExpired(error)) return options.clock.now();
    if (Number.isNaN(expiresAtMs)) throw networkError(error, what, signal);
  } finally {
    await dispatcher.destroy();
  }
  if (Number.isNaN(expiresAtMs)) throw new PcgError('KUBE_UNREACHABLE', `${what}: none was shown`);
  return expiresAtMs;
}

function isExpired(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; depth += 1) {
    if ('code' in at && at.code === 'CERT_HAS_EXPIRED') return true;
    at = at.cause;
  }
  return false;
}
