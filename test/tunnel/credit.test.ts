import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  COMMAND_RESERVE_BYTES,
  INITIAL_WINDOW_BYTES,
  MAX_WINDOW_BYTES,
  ReceiveBudget,
  ReceiveWindow,
} from '../../src/tunnel/credit.ts';

const FLOOR = 4096;
const MIB = 1024 * 1024;

/** Reads everything at once, for `rounds` windows, each taking `roundMs`. */
function consumeFast(window: ReceiveWindow, rounds: number, roundMs: number): void {
  let now = 0;
  for (let round = 0; round < rounds; round += 1) {
    const bytes = window.window;
    window.receive(bytes);
    now += roundMs;
    window.consume(bytes, () => now, 100);
  }
}

describe('receive window', () => {
  it('doubles up to 4 MiB while a whole window is consumed within two round trips', () => {
    const window = new ReceiveWindow(new ReceiveBudget(16 * MIB), FLOOR, 3);
    window.widen(0);
    expect(window.window).toBe(INITIAL_WINDOW_BYTES);
    consumeFast(window, 3, 150);
    expect(window.window).toBe(8 * INITIAL_WINDOW_BYTES);
    consumeFast(window, 10, 150);
    expect(window.window).toBe(MAX_WINDOW_BYTES);
  });

  it('does not grow for a slow reader', () => {
    const window = new ReceiveWindow(new ReceiveBudget(16 * MIB), FLOOR, 3);
    window.widen(0);
    consumeFast(window, 10, 400);
    expect(window.window).toBe(INITIAL_WINDOW_BYTES);
  });

  it('#9: whatever a thousand readers do, the promises stay within the budget', () => {
    const action = fc.record({ stream: fc.nat(999), consume: fc.double({ min: 0, max: 1, noNaN: true }) });
    fc.assert(
      fc.property(fc.array(action, { minLength: 100, maxLength: 2000 }), (actions) => {
        const limit = 4 * MIB;
        const budget = new ReceiveBudget(limit);
        const windows = Array.from({ length: 1000 }, () => new ReceiveWindow(budget, FLOOR, 2));
        const granted = windows.map((window) => FLOOR + window.widen(0));
        const received = windows.map(() => 0);
        const consumed = windows.map(() => 0);
        let now = 0;
        for (const { stream, consume } of actions) {
          now += 1;
          const window = windows[stream] as ReceiveWindow;
          const more = (granted[stream] as number) - (received[stream] as number);
          expect(window.receive(more)).toBe(true);
          received[stream] = granted[stream] as number;
          const bytes = Math.floor(((received[stream] as number) - (consumed[stream] as number)) * consume);
          consumed[stream] = (consumed[stream] as number) + bytes;
          granted[stream] = (granted[stream] as number) + window.consume(bytes, () => now, 50);
        }
        const promised = granted.reduce((sum, bytes, index) => sum + bytes - (consumed[index] as number), 0);
        expect(promised).toBeLessThanOrEqual(limit + 1000 * FLOOR);
        for (const window of windows) window.release();
        expect(budget.usedBytes).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it('#15: commands find credit when bulk has taken everything', () => {
    const budget = new ReceiveBudget(MIB);
    for (let index = 0; index < 500; index += 1) new ReceiveWindow(budget, FLOOR, 3).widen(0);
    const hog = new ReceiveWindow(budget, FLOOR, 3);
    expect(hog.widen(0)).toBeLessThan(FLOOR);
    expect(new ReceiveWindow(budget, FLOOR, 1).widen(0)).toBeGreaterThanOrEqual(COMMAND_RESERVE_BYTES / 8);
  });

  it('large windows give way when the budget is scarce', () => {
    const budget = new ReceiveBudget(4 * MIB);
    const first = new ReceiveWindow(budget, FLOOR, 3);
    first.widen(0);
    consumeFast(first, 10, 1);
    expect(first.window).toBeGreaterThan(2 * MIB);
    const others = Array.from({ length: 63 }, () => new ReceiveWindow(budget, FLOOR, 3));
    for (const other of others) other.widen(0);
    const before = Math.min(...others.map((other) => other.window));
    for (let round = 0; round < 200; round += 1)
      for (const window of [first, ...others]) consumeFast(window, 1, 1);
    expect(first.window).toBeLessThanOrEqual(MIB);
    expect(Math.min(...others.map((other) => other.window))).toBeGreaterThan(2 * before);
  });

  it('#11: sees the first byte beyond the credit', () => {
    const window = new ReceiveWindow(new ReceiveBudget(MIB), FLOOR, 2);
    expect(window.receive(FLOOR)).toBe(true);
    expect(window.receive(1)).toBe(false);
  });

  it('one process-wide budget bounds all sessions together', () => {
    const all = new ReceiveBudget(MIB);
    const sessions = Array.from({ length: 10 }, () => new ReceiveBudget(8 * MIB, all));
    const windows = sessions.flatMap((budget) =>
      Array.from({ length: 5 }, () => {
        const window = new ReceiveWindow(budget, FLOOR, 3);
        window.widen(0);
        return window;
      }),
    );
    expect(all.usedBytes).toBeLessThanOrEqual(MIB);
    for (const window of windows) window.release();
    expect(all.usedBytes).toBe(0);
  });
});
