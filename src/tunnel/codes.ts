/**
 * Codes of the protocol: why a WebSocket was closed and why a stream ended. Numbers are part of
 * `pcg.tunnel.v1` and never change; decisions are made on them, never on message text.
 */

/** WebSocket close codes. 4401, 4403 and 4426 do not get better by dialling again soon. */
export const CLOSE = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL: 4400,
  UNAUTHENTICATED: 4401,
  /** The gateway was revoked: stop work, keep data. */
  REVOKED: 4403,
  HANDSHAKE_TIMEOUT: 4408,
  SLOW_CONSUMER: 4409,
  /** A newer connection of the same session took over. */
  SUPERSEDED: 4410,
  SESSION_EXPIRED: 4411,
  MOVED: 4412,
  TOO_BIG: 4413,
  TOO_OLD: 4426,
  TOO_MANY: 4429,
  INTERNAL: 4500,
  /** The portal has as many sessions as it can hold. */
  OVERLOADED: 4503,
} as const;

export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

/** Stream codes of OPEN_ERR, RESET and STOP. */
export const STREAM = {
  NONE: 0,
  CANCELLED: 1,
  DENIED: 2,
  DNS_FAILED: 3,
  CONN_REFUSED: 4,
  CONN_TIMEOUT: 5,
  HOST_UNREACHABLE: 6,
  TLS_FAILED: 7,
  FLOW_CONTROL: 8,
  BUSY: 9,
  DRAINING: 10,
  SESSION_LOST: 11,
  DEADLINE: 12,
  PROTOCOL: 13,
  INTERNAL: 14,
  /** The target reset its TCP connection. */
  PEER_RESET: 15,
  /** A connection to an HTTP target on which nothing was asked for minutes. */
  IDLE_TIMEOUT: 16,
} as const;

export type StreamCodeName = keyof typeof STREAM;

const STREAM_NAMES = new Map<number, StreamCodeName>(
  Object.entries(STREAM).map(([name, code]) => [code, name as StreamCodeName]),
);

/** Name of a stream code; a newer peer may send codes that this version does not know. */
export function streamCodeName(code: number): StreamCodeName | 'UNKNOWN' {
  return STREAM_NAMES.get(code) ?? 'UNKNOWN';
}

/** Why a stream ended or could not be opened. `code` looks like Node's socket errors, for code that expects those. */
export class StreamError extends Error {
  /** The number on the wire, see STREAM. */
  readonly streamCode: number;
  /** `ERR_TUNNEL_<NAME>`. */
  readonly code: string;

  constructor(streamCode: number, message?: string, options?: { readonly cause?: unknown }) {
    super(message ?? `stream ended: ${streamCodeName(streamCode)}`, options);
    this.name = 'StreamError';
    this.streamCode = streamCode;
    this.code = `ERR_TUNNEL_${streamCodeName(streamCode)}`;
  }
}

/** Node's error codes of sockets, DNS and TLS as stream codes. */
const SYSTEM_CODES: Record<string, number> = {
  ECONNREFUSED: STREAM.CONN_REFUSED,
  ECONNRESET: STREAM.PEER_RESET,
  EPIPE: STREAM.PEER_RESET,
  ECONNABORTED: STREAM.PEER_RESET,
  ETIMEDOUT: STREAM.CONN_TIMEOUT,
  UND_ERR_CONNECT_TIMEOUT: STREAM.CONN_TIMEOUT,
  EHOSTUNREACH: STREAM.HOST_UNREACHABLE,
  ENETUNREACH: STREAM.HOST_UNREACHABLE,
  EHOSTDOWN: STREAM.HOST_UNREACHABLE,
  EADDRNOTAVAIL: STREAM.HOST_UNREACHABLE,
  ENOTFOUND: STREAM.DNS_FAILED,
  EAI_AGAIN: STREAM.DNS_FAILED,
  EAI_FAIL: STREAM.DNS_FAILED,
  ENODATA: STREAM.DNS_FAILED,
  EACCES: STREAM.DENIED,
  EPERM: STREAM.DENIED,
  EMFILE: STREAM.BUSY,
  ENFILE: STREAM.BUSY,
  ENOMEM: STREAM.BUSY,
};

/** The stream code that tells the peer what went wrong here. Unknown things are INTERNAL. */
export function streamCodeOf(error: unknown): number {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 6; depth += 1) {
    if (at instanceof StreamError) return at.streamCode;
    if (at.name === 'AbortError') return STREAM.CANCELLED;
    if (at.name === 'DeadlineError') return STREAM.CONN_TIMEOUT;
    if ('code' in at && typeof at.code === 'string') {
      const known = SYSTEM_CODES[at.code];
      if (known !== undefined) return known;
      if (at.code.startsWith('ERR_TLS_') || at.code.startsWith('ERR_SSL_') || TLS_CODES.has(at.code))
        return STREAM.TLS_FAILED;
    }
    // happy eyeballs fails with an AggregateError: the first address' reason is as good as any
    at = at instanceof AggregateError && at.errors.length > 0 ? at.errors[0] : at.cause;
  }
  return STREAM.INTERNAL;
}

/** OpenSSL's verification results, which Node uses as error codes without a prefix. */
const TLS_CODES = new Set([
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'CERT_REVOKED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'EPROTO',
]);

/** What ended a session for good: thrown by what needs a live one, and given to `closed` observers. */
export class SessionError extends Error {
  readonly closeCode: number;
  constructor(closeCode: number, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = 'SessionError';
    this.closeCode = closeCode;
  }
}
