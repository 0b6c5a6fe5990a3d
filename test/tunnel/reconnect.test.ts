import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import { CLOSE } from '../../src/tunnel/codes.ts';
import {
  type AttemptOutcome,
  FRESH,
  nextAttempt,
  PROVEN_MS,
  RECONNECT,
  type ReconnectState,
  SLOW,
} from '../../src/tunnel/reconnect.ts';

const error = new PcgError('PORTAL_UNREACHABLE', 'test');
const failed = (extra: Partial<Extract<AttemptOutcome, { kind: 'failed' }>> = {}): AttemptOutcome => ({
  kind: 'failed',
  reason: 'test',
  error,
  ...extra,
});
const lost = (
  livedMs: number,
  extra: Partial<Extract<AttemptOutcome, { kind: 'lost' }>> = {},
): AttemptOutcome => ({
  kind: 'lost',
  reason: 'test',
  error,
  closeCode: 1006,
  livedMs,
  resumed: false,
  ...extra,
});

/** Bounds (draws of 0 and almost 1) of the delay after each outcome in turn. */
function bounds(outcomes: AttemptOutcome[]): [number, number][] {
  let state: ReconnectState = FRESH;
  return outcomes.map((outcome) => {
    const low = nextAttempt(state, outcome, () => 0);
    const high = nextAttempt(state, outcome, () => 1);
    state = low.state;
    return [low.delayMs, high.delayMs];
  });
}

describe('when to dial again', () => {
  it('49: the first retry comes within a second, the bound doubles to 60 s, and the jitter stays full at the cap', () => {
    const got = bounds(Array.from({ length: 12 }, () => failed()));
    expect(got.map(([low]) => low)).toEqual(Array(12).fill(0));
    expect(got.map(([, high]) => high)).toEqual([
      500,
      1000,
      2000,
      4000,
      8000,
      16_000,
      32_000,
      ...Array(5).fill(60_000),
    ]);
  });

  it('49: 5000 gateways that lost the portal for 30 s spread their attempts over the window', () => {
    const downMs = 30_000;
    const firstAfter: number[] = [];
    const random = seededRandom(49, 'gateways');
    for (let gateway = 0; gateway < 5000; gateway += 1) {
      let at = 0;
      let state: ReconnectState = FRESH;
      while (at < downMs) {
        const next = nextAttempt(state, at === 0 ? lost(1e9) : failed(), random.next);
        state = next.state;
        at += next.delayMs;
      }
      firstAfter.push(at - downMs);
    }
    firstAfter.sort((a, b) => a - b);
    const seconds = new Map<number, number>();
    for (const ms of firstAfter)
      seconds.set(Math.floor(ms / 1000), (seconds.get(Math.floor(ms / 1000)) ?? 0) + 1);
    expect(firstAfter.at(-1)! - firstAfter[0]!).toBeGreaterThan(0.8 * 30_000);
    // no second sees more than a tenth of them
    expect(Math.max(...seconds.values())).toBeLessThan(500);
  });

  it('50: a portal that accepts and drops after 2 s is dialled slower and slower', () => {
    const got = bounds([lost(1e9), ...Array.from({ length: 9 }, () => lost(2000))]);
    expect(got.map(([, high]) => high)).toEqual([
      500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000,
    ]);
    expect(bounds([failed(), failed(), failed(), lost(PROVEN_MS - 1)])[3]![1]).toBe(4000);
    expect(bounds([failed(), failed(), failed(), lost(PROVEN_MS)])[3]![1]).toBe(RECONNECT.baseMs);
  });

  it('a line that flaps, over which the session resumes each time, is tried again within 5 s for ever', () => {
    const got = bounds(Array.from({ length: 12 }, () => lost(2000, { resumed: true })));
    expect(got.map(([, high]) => high)).toEqual([500, 1000, 2000, 4000, ...Array(8).fill(5000)]);
    // a portal that cannot be reached any more is no flapping line
    const away = bounds([...Array.from({ length: 12 }, () => lost(2000, { resumed: true })), failed()]);
    expect(away.at(-1)?.[1]).toBe(RECONNECT.capMs);
  });

  it.each([
    ['HTTP 401', failed({ status: 401 })],
    ['HTTP 403', failed({ status: 403 })],
    ['refused 4401', failed({ closeCode: CLOSE.UNAUTHENTICATED })],
    ['refused 4403', failed({ closeCode: CLOSE.REVOKED })],
    ['too old', failed({ closeCode: CLOSE.TOO_OLD })],
    ['a foreign portal', failed({ reason: 'untrusted' })],
    ['revoked while connected', lost(1e9, { closeCode: CLOSE.REVOKED })],
  ])('waits at least 5 minutes and alerts after: %s', (_what, outcome) => {
    const got = bounds([outcome, outcome, outcome, outcome, outcome]);
    for (const [low, high] of got) {
      expect(low).toBe(SLOW.minimumMs);
      expect(high).toBeGreaterThan(SLOW.minimumMs);
      expect(high).toBeLessThanOrEqual(SLOW.minimumMs + SLOW.capMs);
    }
    expect(nextAttempt(FRESH, outcome).alert).toBe(true);
    expect(nextAttempt(FRESH, failed()).alert).toBe(false);
  });

  it('54: whoever is pushed out by a clone comes back once soon, then after 5 minutes or more', () => {
    const pushed = lost(1e9, { closeCode: CLOSE.SUPERSEDED });
    const refused = lost(5, { closeCode: CLOSE.SUPERSEDED });
    const first = nextAttempt(FRESH, pushed, () => 1);
    expect(first).toMatchObject({ delayMs: RECONNECT.baseMs, alert: true, state: { displaced: true } });
    const second = nextAttempt(first.state, refused, () => 0);
    expect(second).toMatchObject({ delayMs: SLOW.minimumMs, alert: true, state: { displaced: true } });
    // a cut on the way does not make it forget, a connection that proves itself does
    const cut = nextAttempt(second.state, failed());
    expect(cut.state.displaced).toBe(true);
    expect(nextAttempt(cut.state, lost(PROVEN_MS)).state.displaced).toBe(false);
    expect(nextAttempt(cut.state, pushed, () => 1).delayMs).toBe(RECONNECT.baseMs);
  });

  it('obeys Retry-After and the hint of a draining portal, with spread and never earlier', () => {
    const [[low, high]] = bounds([failed({ retryAfterMs: 20_000 })]) as [[number, number]];
    expect(low).toBe(20_000);
    expect(high).toBe(26_000);
    const zero = bounds(Array.from({ length: 8 }, () => failed({ retryAfterMs: 0 })));
    expect(zero.map(([, most]) => most)).toEqual([1000, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000]);
    const notice = { reason: 'update', deadlineMs: 30_000, reconnectAfterMs: 10_000, spreadMs: 60_000 };
    const drained = (agoMs: number) => bounds([lost(1e9, { closeCode: 1001, drain: { notice, agoMs } })])[0];
    expect(drained(0)).toEqual([10_000, 70_000]);
    expect(drained(4000)).toEqual([6000, 66_000]);
    expect(drained(90_000)).toEqual([0, 0]);
  });

  it('follows three moves in a row at once, then dials the known URL with back-off', () => {
    const moved: AttemptOutcome = { kind: 'moved', reason: 'moved', error, hint: 'wss://other/tunnel/v1' };
    let state: ReconnectState = FRESH;
    const hints: boolean[] = [];
    for (let n = 0; n < 4; n += 1) {
      const next = nextAttempt(state, moved, () => 1);
      hints.push(next.followHint);
      expect(next.delayMs).toBe(next.followHint ? 0 : RECONNECT.baseMs);
      state = next.state;
    }
    expect(hints).toEqual([true, true, true, false]);
  });
});
