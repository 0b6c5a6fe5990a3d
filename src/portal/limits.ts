/** Every bound of the portal, with its unit and reason. Tests may narrow them; nothing else does. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

export interface PortalLimits {
  /** R31: a pairing code lives this long. */
  readonly pairingCodeTtlMs: number;
  /** R124: force delete opens this long after Delete. */
  readonly forceDeleteAfterMs: number;
  /** R122: how far back the "recently deleted" filter may look. */
  readonly deletedFilterMaxMs: number;
  /** A resumed connection may take this long before its clusters show as Unknown. */
  readonly staleAfterMs: number;
  /** A browser session. */
  readonly sessionTtlMs: number;
  /** Token in a downloaded kubeconfig. */
  readonly kubeconfigTtlMs: number;
  /** N of scrypt for a new password: 1 KiB of memory for each, and time in proportion. */
  readonly passwordCost: number;
  /** Wrong passwords per address (of IPv6: per /64) and e-mail within `signInWindowMs`. */
  readonly signInTries: number;
  readonly signInWindowMs: number;
  /** Unauthenticated pairing calls per address (of IPv6: per /64) within `pairingWindowMs`. */
  readonly pairingCalls: number;
  readonly pairingWindowMs: number;
  /** A question to the gateway's agent: inventory, placement, validation. */
  readonly askTimeoutMs: number;
  /** Largest answer that the portal reads from an agent into memory, bytes. */
  readonly askMaxBytes: number;
  /** JSON bodies of the API, bytes; a profile may carry megabytes of manifests. */
  readonly bodyMaxBytes: number;
  /** Open event streams in total, and per user. */
  readonly feedClients: number;
  readonly feedClientsPerUser: number;
  /** A browser that takes nothing for this long is cut off; it resumes by Last-Event-ID. */
  readonly feedStallMs: number;
  /** Keeps idle proxies from cutting an event stream. */
  readonly feedHeartbeatMs: number;
  /** Changes of one object within this time reach a browser as one. */
  readonly feedCoalesceMs: number;
  /** Rows read at once for one browser. */
  readonly feedBatch: number;
  /** Proxied requests that may wait for a stream or an answer to begin. */
  readonly proxyOpenMs: number;
  /** Streams get this long to finish when the portal stops. */
  readonly drainMs: number;
  /** A repeated Idempotency-Key is recognised for this long. */
  readonly idempotencyTtlMs: number;
  /** Events older than this are removed. */
  readonly eventRetentionMs: number;
  /** How often expired rows are swept. */
  readonly sweepEveryMs: number;
}

export const DEFAULT_LIMITS: PortalLimits = {
  pairingCodeTtlMs: 24 * HOUR_MS,
  forceDeleteAfterMs: 15 * MINUTE_MS,
  deletedFilterMaxMs: 30 * 24 * HOUR_MS,
  staleAfterMs: 15_000,
  sessionTtlMs: 12 * HOUR_MS,
  kubeconfigTtlMs: 30 * 24 * HOUR_MS,
  passwordCost: 2 ** 16, // 64 MiB and about 150 ms on one core: dear to guess, cheap to sign in
  signInTries: 8,
  signInWindowMs: 5 * MINUTE_MS,
  pairingCalls: 60,
  pairingWindowMs: MINUTE_MS,
  askTimeoutMs: 20_000,
  askMaxBytes: 16 * 1024 * 1024,
  bodyMaxBytes: 8 * 1024 * 1024,
  feedClients: 2_000,
  feedClientsPerUser: 50,
  feedStallMs: 30_000,
  feedHeartbeatMs: 15_000,
  feedCoalesceMs: 250,
  feedBatch: 200,
  proxyOpenMs: 30_000,
  drainMs: 2_000,
  idempotencyTtlMs: 24 * HOUR_MS,
  eventRetentionMs: 180 * 24 * HOUR_MS,
  sweepEveryMs: 10 * MINUTE_MS,
};
