/**
 * Time as this process lives it: while it stands still (stopped, starved, swapped out) no time passes for it. For a
 * world that is all inside of one process, where nothing goes on meanwhile either: otherwise every deadline of it that
 * passed would fire before what it waits for had its turn.
 */
import type { Clock } from './clock.ts';

/** What passes between two looks counts up to this; more is a stall. */
const STALL_MS = 250;
const LOOK_MS = 100;

/** `clock`: where time comes from, and who wakes. */
export function createSteadyClock(clock: Clock): Clock {
  let counted = clock.monotonic();
  let lookedAt = counted;
  const monotonic = (): number => {
    const now = clock.monotonic();
    counted += Math.min(now - lookedAt, STALL_MS);
    lookedAt = now;
    return counted;
  };
  const look = (): void => {
    monotonic();
    clock.timer(LOOK_MS, look);
  };
  look();
  return {
    now: () => clock.now(),
    monotonic,
    async sleep(ms, signal) {
      const due = monotonic() + ms;
      for (let left = ms; ; left = due - monotonic()) {
        await clock.sleep(Math.max(0, left), signal);
        if (monotonic() >= due) return;
      }
    },
    timer(ms, run) {
      const due = monotonic() + ms;
      let handle: Disposable;
      const arm = (left: number): void => {
        handle = clock.timer(Math.max(0, left), () => {
          const rest = due - monotonic();
          if (rest > 0) arm(rest);
          else run();
        });
      };
      arm(ms);
      return { [Symbol.dispose]: () => handle[Symbol.dispose]() };
    },
  };
}
