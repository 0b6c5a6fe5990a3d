/**
 * Every deadline and interval of the cluster engine, named, in milliseconds. Bare metal is slow: a machine
 * installs in 5 to 20 minutes and MAAS itself gives up after 30, so our deadlines lie beyond MAAS's own.
 */

export interface Timings {
  /** How often a cluster with work in progress is looked at when nothing rings. */
  readonly activeMs: number;
  /** The same for a cluster at rest. */
  readonly restMs: number;
  /** The progress of single machines is told at most this often; what concerns the whole cluster at once. */
  readonly reportMs: number;
  /** Least distance between two looks at one cluster's API server while it works. */
  readonly kubeProbeMs: number;
  /** The same while the control plane comes up: every pause then is one of the whole cluster. */
  readonly kubeBootProbeMs: number;
  /** One request of a probe. */
  readonly kubeTimeoutMs: number;
  /** From the accepted deploy to Deployed. Longer than MAAS's node_timeout, which normally speaks first. */
  readonly deployDeadlineMs: number;
  /** From Deployed to an answering API server on the first control-plane node. */
  readonly initDeadlineMs: number;
  /** From Deployed (or from the node's turn to join, when later) to its Node object and Ready. */
  readonly joinDeadlineMs: number;
  /** An etcd member of no known machine has been silent or a learner for this long: it is removed. */
  readonly strayMemberMs: number;
  /** How often etcd is asked for members and alarms while nothing of the control plane moves. */
  readonly etcdRestMs: number;
  /** A joiner that failed after waiting this long for its turn (kubeadm waits an hour) is not to blame. */
  readonly joinPatienceMs: number;
  /** From release to Ready in MAAS, without erasing. */
  readonly releaseDeadlineMs: number;
  /** The same with erasing; a full overwrite of a large disk takes hours. */
  readonly eraseDeadlineMs: number;
  /** An allocate whose reply was lost may still be carried out by MAAS this much later (its retry loop is 90 s). */
  readonly claimSettleMs: number;
  /** A pack's workloads must be available this long after they were applied. */
  readonly packDeadlineMs: number;
  readonly drainDeadlineMs: number;
  /** First and largest pause before a failed step is tried again. */
  readonly retryBaseMs: number;
  readonly retryCapMs: number;
  /** Pause after an error that only a user can fix; a `retry` action or a new generation ends it at once. */
  readonly blockedRetryMs: number;
  /** What MAAS or the API server said last is shown for this long while they do not answer; then it is Unknown. */
  readonly staleMs: number;
  /** Life of a bootstrap token; refreshed at half of it while its node has not joined. Not scaled in simulations. */
  readonly tokenTtlMs: number;
  /** How long a machine that failed is not picked again. */
  readonly quarantineMs: number;
  /** A power cycle may take this long to bring a node back before it is replaced. */
  readonly powerCycleMs: number;
  /** Force delete spends at most this on MAAS before it reports leftovers. */
  readonly forceDeleteMs: number;
  /** The list of candidate machines is reused this long within one account. */
  readonly candidatesMs: number;
  /** How often the certificates of a running control plane are looked at. Not scaled in simulations. */
  readonly certificateCheckMs: number;
  /** Length of one second in durations that users set for hardware (`unhealthyAfterSeconds`). */
  readonly hardwareSecondMs: number;
  /** A deploy or release call waits for the BMC; this long we wait for its answer before reading back. */
  readonly policyRunDeadlineMs: number;
  /** From the order to reboot until the node is Ready again. */
  readonly rebootDeadlineMs: number;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

export const DEFAULT_TIMINGS: Timings = {
  activeMs: 10 * SECOND,
  restMs: 60 * SECOND,
  reportMs: SECOND,
  kubeProbeMs: 5 * SECOND,
  kubeBootProbeMs: SECOND,
  kubeTimeoutMs: 5 * SECOND,
  deployDeadlineMs: 45 * MINUTE,
  initDeadlineMs: 20 * MINUTE,
  joinDeadlineMs: 20 * MINUTE,
  strayMemberMs: 10 * MINUTE,
  etcdRestMs: 5 * MINUTE,
  joinPatienceMs: 50 * MINUTE,
  releaseDeadlineMs: 10 * MINUTE,
  eraseDeadlineMs: 24 * HOUR,
  claimSettleMs: 2 * MINUTE,
  packDeadlineMs: 15 * MINUTE,
  drainDeadlineMs: 15 * MINUTE,
  retryBaseMs: 2 * SECOND,
  retryCapMs: MINUTE,
  blockedRetryMs: 2 * MINUTE,
  staleMs: 3 * MINUTE,
  tokenTtlMs: HOUR,
  quarantineMs: 24 * HOUR,
  powerCycleMs: 10 * MINUTE,
  forceDeleteMs: 30 * SECOND,
  candidatesMs: 30 * SECOND,
  certificateCheckMs: 12 * HOUR,
  hardwareSecondMs: SECOND,
  policyRunDeadlineMs: 2 * HOUR,
  rebootDeadlineMs: 30 * MINUTE,
};

/**
 * How long before its end a certificate is renewed, and warned of when it still has not been. Renewing has a month of
 * daily attempts before anybody has to know; a month is time enough for any change window.
 */
export const EXPIRY = { renewMs: 60 * 24 * HOUR, warnMs: 30 * 24 * HOUR };

/** Where the gateway renews nothing itself, a person has to know from the start. */
export function warnBeforeMs({ renewInPlace }: { readonly renewInPlace: boolean }): number {
  return renewInPlace ? EXPIRY.warnMs : EXPIRY.renewMs;
}

/** Lives that belong to the outside world and do not shrink when simulated hardware runs faster. */
const UNSCALED: ReadonlySet<keyof Timings> = new Set([
  'tokenTtlMs',
  'quarantineMs',
  'kubeTimeoutMs',
  'candidatesMs',
  'certificateCheckMs',
]);
/** No interval shrinks below this: a busy loop observes nothing new. */
const LEAST_MS = 50;
/** A unit and no interval. */
const UNBOUNDED: ReadonlySet<keyof Timings> = new Set(['hardwareSecondMs']);

/** Timings for hardware that runs `speed` times faster than real (the simulator's `--speed`). */
export function scaleTimings(timings: Timings, speed: number): Timings {
  const scaled = Object.entries(timings).map(([name, ms]: [string, number]) => [
    name,
    UNSCALED.has(name as keyof Timings)
      ? ms
      : Math.max(UNBOUNDED.has(name as keyof Timings) ? 0 : LEAST_MS, ms / speed),
  ]);
  return Object.fromEntries(scaled) as unknown as Timings;
}
