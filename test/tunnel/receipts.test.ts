import { describe, expect, it } from 'vitest';
import type { Ack } from '../../src/tunnel/payload.ts';
import { Receipts } from '../../src/tunnel/receipts.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** Receipts that acknowledge at once when asked, as a session with a carrier does at the end of its turn. */
function listening(first = 0) {
  const clock = new ManualClock();
  const acks: { at: number; ack: Ack | undefined }[] = [];
  const started = clock.monotonic();
  const receipts = new Receipts(clock, first, () => {
    acks.push({ at: clock.monotonic() - started, ack: receipts.take(clock.monotonic()) });
  });
  const receive = (bytes: number): void => {
    receipts.add(bytes, clock.monotonic());
    receipts.plan(clock.monotonic());
  };
  return { clock, receipts, acks, receive };
}

describe('receipts', () => {
  it('acknowledges 32 KiB at once, and a full line once a millisecond, with nothing left unsaid', async () => {
    const { clock, acks, receive, receipts } = listening(7);
    receive(32 * 1024);
    expect(acks).toEqual([{ at: 0, ack: { sequence: 8, bytes: 32 * 1024, delayUs: 0 } }]);
    for (let count = 0; count < 100; count += 1) {
      for (let message = 0; message < 4; message += 1) receive(16 * 1024);
      await clock.advance(0.1);
    }
    expect(acks.length).toBeGreaterThanOrEqual(10);
    expect(acks.length).toBeLessThanOrEqual(12);
    await clock.advance(1);
    expect(acks.at(-1)?.ack?.sequence).toBe(receipts.count);
    expect(receipts.take(clock.monotonic())).toBeUndefined();
  });

  it('a sender that waits for its first 64 KiB hears of them within a millisecond, also just after another', async () => {
    const { clock, acks, receive } = listening();
    receive(40 * 1024);
    receive(64 * 1024);
    expect(acks.length).toBe(1);
    await clock.advance(1);
    expect(acks.map(({ at }) => at)).toEqual([0, 1]);
    expect(acks[1]?.ack?.delayUs).toBe(1000);
  });

  it('acknowledges little within 25 ms while busy and 200 ms when quiet', async () => {
    const { clock, acks, receive } = listening();
    await clock.advance(1000);
    receive(100);
    await clock.advance(199);
    expect(acks).toEqual([]);
    await clock.advance(1);
    receive(100);
    await clock.advance(25);
    expect(acks.map(({ at }) => at)).toEqual([1200, 1225]);
  });

  it('lets little ride with what leaves anyway, once a millisecond, and bulk never', async () => {
    const { clock, acks, receive, receipts } = listening();
    await clock.advance(1000);
    receive(100);
    expect(receipts.ride(clock.monotonic())?.sequence).toBe(1);
    receive(100);
    expect(receipts.ride(clock.monotonic())).toBeUndefined();
    await clock.advance(1);
    expect(receipts.ride(clock.monotonic())?.sequence).toBe(2);
    // what rode is not said again, and what comes later is not said early
    await clock.advance(20);
    receive(100);
    await clock.advance(24);
    expect(acks).toEqual([]);
    await clock.advance(1);
    expect(acks.map(({ ack }) => ack?.sequence)).toEqual([3]);
    receive(16 * 1024);
    await clock.advance(10);
    expect(receipts.ride(clock.monotonic())).toBeUndefined();
  });

  it('shortens the wait when little becomes much, and plans nothing without a carrier', async () => {
    const { clock, acks, receive, receipts } = listening();
    receive(33 * 1024);
    receive(100);
    receive(33 * 1024);
    await clock.advance(1);
    expect(acks.map(({ at }) => at)).toEqual([0, 1]);
    receive(100);
    receipts.rest();
    await clock.advance(1000);
    expect(acks.length).toBe(2);
    expect(receipts.take(clock.monotonic())?.bytes).toBe(2 * 33 * 1024 + 200);
  });
});
