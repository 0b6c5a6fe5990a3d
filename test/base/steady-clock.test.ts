import { expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';

function standStill(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

it('a process that stands still has lived through next to nothing of it', async () => {
  const before = steadyClock.monotonic();
  standStill(1_500);
  expect(steadyClock.monotonic() - before).toBeLessThanOrEqual(250);
  // what is due by the wall is not due by what was lived through
  const began = steadyClock.monotonic();
  let lived = 0;
  using _timer = steadyClock.timer(600, () => {
    lived = steadyClock.monotonic() - began;
  });
  standStill(1_500);
  await steadyClock.sleep(700);
  expect(lived).toBeGreaterThanOrEqual(600);
});
