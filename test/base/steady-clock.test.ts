import { expect, it } from 'vitest';
import { createSteadyClock } from '../../src/base/steady-clock.ts';
import { ManualClock } from '../support/manual-clock.ts';

it('a process that stands still lives through next to nothing of it, and no deadline of it fires', async () => {
  const time = new ManualClock();
  const clock = createSteadyClock(time);
  await time.advance(5_000);
  const before = clock.monotonic();
  const fired: string[] = [];
  using _timer = clock.timer(1_000, () => fired.push('timer'));
  void clock.sleep(1_000).then(() => fired.push('sleep'));
  time.jump(60_000, 60_000);
  await time.advance(0); // what is due by the wall fires, and waits on
  expect(clock.monotonic() - before).toBe(250);
  await time.advance(700);
  expect(fired).toEqual([]);
  await time.advance(100);
  expect(fired.toSorted()).toEqual(['sleep', 'timer']);
});

it('a timer that was taken back never fires, and a sleep ends with its signal', async () => {
  const time = new ManualClock();
  const clock = createSteadyClock(time);
  let fired = false;
  const timer = clock.timer(1_000, () => {
    fired = true;
  });
  const stop = new AbortController();
  const sleeping = clock.sleep(1_000, stop.signal);
  time.jump(60_000, 60_000);
  await time.advance(0);
  timer[Symbol.dispose]();
  stop.abort(new Error('enough'));
  await expect(sleeping).rejects.toThrow('enough');
  await time.advance(5_000);
  expect(fired).toBe(false);
});
