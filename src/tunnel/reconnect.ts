/**
 * When to dial again: a pure policy over what the last attempt came to. Full jitter, drawn after the cap, so that
 * gateways that all sit at the cap still spread. It starts afresh only after a connection proved itself, so a portal
 * in a crash loop is not dialled faster and faster. Nothing ends the loop.
 */
import { backoffMs } from '../base/backoff.ts';
import type { PcgError } from '../base/errors.ts';
import { CLOSE } from './codes.ts';
import type { DrainNotice } from './session.ts';

export const RECONNECT = { baseMs: 500, capMs: 60_000 };
/** After a connection that had resumed its session: that portal is the same and well, it is the line that flaps. */
export const FLAPPING = { ...RECONNECT, capMs: 5_000 };
/** For what does not get better by itself soon: revoked, not authenticated, a foreign portal, a cloned identity. */
export const SLOW = { minimumMs: 5 * 60_000, baseMs: 5 * 60_000, capMs: 30 * 60_000 };
/** A connection that lived this long has proven itself; some proxies cut at 30 s. */
export const PROVEN_MS = 45_000;
/** Redirections between portal nodes in a row; after that, dial the known URL. */
const MAX_MOVES = 3;

export type AttemptOutcome =
  /** No session came to be. */
  | {
      readonly kind: 'failed';
      readonly reason: string;
      readonly error: PcgError;
      readonly closeCode?: number;
      readonly status?: number;
      readonly retryAfterMs?: number;
    }
  /** There was a connection and it is gone. `drain`: the peer had said when to come back. */
  | {
      readonly kind: 'lost';
      readonly reason: string;
      readonly error: PcgError;
      readonly closeCode: number;
      readonly livedMs: number;
      /** The connection went on with the session of the one before. */
      readonly resumed: boolean;
      readonly drain?: { readonly notice: DrainNotice; readonly agoMs: number };
    }
  | { readonly kind: 'moved'; readonly reason: string; readonly error: PcgError; readonly hint: string };

export interface ReconnectState {
  /** Attempts since the last proven connection. */
  readonly failures: number;
  readonly slowFailures: number;
  readonly moves: number;
  /** Another agent with this identity pushed this one out, and no connection has proven itself since. */
  readonly displaced: boolean;
}

export const FRESH: ReconnectState = { failures: 0, slowFailures: 0, moves: 0, displaced: false };

export interface NextAttempt {
  readonly state: ReconnectState;
  readonly delayMs: number;
  /** A person should look: it will not get better by waiting a little. */
  readonly alert: boolean;
  readonly followHint: boolean;
}

export function nextAttempt(
  before: ReconnectState,
  outcome: AttemptOutcome,
  random: () => number = Math.random,
): NextAttempt {
  const plain = { alert: false, followHint: false };
  if (outcome.kind === 'moved') {
    const state = { ...before, moves: before.moves + 1 };
    if (state.moves <= MAX_MOVES) return { ...plain, state, delayMs: 0, followHint: true };
    return {
      ...plain,
      state: { ...state, moves: 0, failures: before.failures + 1 },
      delayMs: backoffMs(RECONNECT, before.failures, random),
    };
  }
  const proven = outcome.kind === 'lost' && outcome.livedMs >= PROVEN_MS;
  const displaced = before.displaced && !proven;
  if (outcome.closeCode === CLOSE.SUPERSEDED && !displaced) {
    // once soon, and saying so: the portal then knows that there are two, and says it at once
    const delayMs = backoffMs(RECONNECT, 0, random);
    return { ...plain, state: { ...FRESH, failures: 1, displaced: true }, delayMs, alert: true };
  }
  if (isSlow(outcome)) {
    const slowFailures = proven ? 0 : before.slowFailures;
    const delayMs = SLOW.minimumMs + backoffMs(SLOW, slowFailures, random);
    return { ...plain, state: { ...FRESH, slowFailures: slowFailures + 1, displaced }, delayMs, alert: true };
  }
  const failures = proven ? 0 : before.failures;
  const state = { failures: failures + 1, slowFailures: 0, moves: 0, displaced };
  const hint = hintedMs(outcome, failures, random);
  const policy = outcome.kind === 'lost' && outcome.resumed ? FLAPPING : RECONNECT;
  return { ...plain, state, delayMs: hint ?? backoffMs(policy, failures, random) };
}

/** What the portal or its proxy asked for; spread, since it asked all gateways the same. */
function hintedMs(
  outcome: Exclude<AttemptOutcome, { kind: 'moved' }>,
  failures: number,
  random: () => number,
): number | undefined {
  if (outcome.kind === 'failed') {
    if (outcome.retryAfterMs === undefined) return undefined;
    // `Retry-After: 0` for ever must not become a tight loop: the back-off goes on growing
    const spreadMs = Math.max(
      1000 + outcome.retryAfterMs / 4,
      backoffMs(RECONNECT, failures, () => 1),
    );
    return outcome.retryAfterMs + random() * spreadMs;
  }
  if (!outcome.drain) return undefined;
  const { notice, agoMs } = outcome.drain;
  return Math.max(0, notice.reconnectAfterMs + random() * notice.spreadMs - agoMs);
}

const SLOW_CLOSE_CODES = new Set<number>([
  CLOSE.UNAUTHENTICATED,
  CLOSE.REVOKED,
  CLOSE.SUPERSEDED,
  CLOSE.TOO_OLD,
]);

function isSlow(outcome: Exclude<AttemptOutcome, { kind: 'moved' }>): boolean {
  if (outcome.closeCode !== undefined && SLOW_CLOSE_CODES.has(outcome.closeCode)) return true;
  return (
    outcome.kind === 'failed' &&
    (outcome.status === 401 || outcome.status === 403 || outcome.reason === 'untrusted')
  );
}
