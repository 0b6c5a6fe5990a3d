/** What a broken connection says about whether MAAS may have acted. */
import type { MaasFailure } from './failure.ts';

/** Errors that end before a byte of the request is out. */
const UNSENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
]);
const TLS_ERROR =
  /^(?:ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO)/;

export function transportFailure(cause: unknown): MaasFailure {
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  if (TLS_ERROR.test(code)) return { kind: 'unsent', cause, tls: true };
  if (UNSENT.has(code)) return { kind: 'unsent', cause, tls: false };
  if (code.startsWith('HPE_')) return { kind: 'foreign', text: 'an answer that is not HTTP' };
  return { kind: 'lost', cause };
}
