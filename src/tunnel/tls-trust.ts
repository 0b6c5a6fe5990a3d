/**
 * Whom we trust in TLS: the system's CAs, Node's own list, and the extra CA of a TLS-inspecting proxy or of a private
 * portal. Verification is never switched off. Also: which errors are TLS failures, and what to do about each.
 */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import {
  type ConnectionOptions,
  createSecureContext,
  type DetailedPeerCertificate,
  getCACertificates,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import { PcgError } from '../base/errors.ts';

/** The CA file rarely changes; one context of ~300 certificates costs milliseconds and a megabyte. */
let cached: { caPem: string | undefined; context: SecureContext } | undefined;

/** TLS client options towards `host`: trust, SNI and name check. */
export function tlsOptions(host: string, caPem: string | undefined): ConnectionOptions {
  if (cached?.caPem !== caPem) cached = undefined;
  cached ??= { caPem, context: createSecureContext({ ca: trustedCas(caPem) }) };
  // SNI must not be an address (RFC 6066); the certificate is checked against `host` all the same
  return { secureContext: cached.context, host, ...(isIP(host) ? {} : { servername: host }) };
}

/** Every CA that is trusted, PEM. */
export function trustedCas(caPem: string | undefined): string[] {
  const all = new Set([...getCACertificates('default'), ...systemCas()]);
  if (caPem !== undefined) all.add(caPem);
  return [...all];
}

function systemCas(): string[] {
  try {
    return getCACertificates('system');
  } catch {
    return []; // minimal containers have no store; Node's own list remains
  }
}

/** True for failed verification and failed handshakes; false for a cut or unreachable connection. */
export function isTlsFailure(error: NodeJS.ErrnoException): boolean {
  const code = error.code ?? '';
  if (code === 'EPROTO' || code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS')) return true;
  // OpenSSL's verify errors (CERT_HAS_EXPIRED, SELF_SIGNED_CERT_IN_CHAIN, ...) name no system call and no errno
  return error.syscall === undefined && error.errno === undefined && /^[A-Z]+_[A-Z_0-9]+$/.test(code);
}

/** `peer`: whose certificate it was. */
export function tlsError(error: NodeJS.ErrnoException, host: string, peer: 'portal' | 'proxy'): PcgError {
  const reason = error.code ?? 'unknown';
  return new PcgError('TLS_FAILED', `the TLS connection to the ${peer} failed: ${reason}`, {
    fix: FIXES[reason],
    details: { peer, host, reason },
    cause: error,
  });
}

const FIXES: Record<string, string> = {
  CERT_HAS_EXPIRED: 'Renew the certificate, or set the clock of this host.',
  CERT_NOT_YET_VALID: 'Set the clock of this host (NTP): the certificate is not valid yet.',
  ERR_TLS_CERT_ALTNAME_INVALID: 'The certificate is for another name. Use the name that it was issued for.',
};

/** True when the verified chain of `socket` ends in a certificate of `caPem`. */
export function isIssuedByExtraCa(socket: TLSSocket, caPem: string): boolean {
  const extra = new Set(
    (caPem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
      (pem) => new X509Certificate(pem).fingerprint256,
    ),
  );
  let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  // a root is its own issuer; the bound is for chains that lie
  for (let depth = 0; at && depth < 10; depth += 1) {
    if (extra.has(at.fingerprint256)) return true;
    if (at.issuerCertificate === at) return false;
    at = at.issuerCertificate;
  }
  return false;
}
