/** Processes that tests start, and those that these start: all have the mark of the test in their environment. */
import { readdirSync, readFileSync } from 'node:fs';
import { systemClock } from '../../src/base/clock.ts';
import { GIVE_UP_MS } from './eventually.ts';

/** The variable that carries the mark. */
export const MARK = 'PCG_TEST_MARK';

/** Process ids, as Linux shows them with the environment with which they were started. */
function processesOf(mark: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`${MARK}=${mark}`);
      } catch {
        return false; // gone meanwhile
      }
    });
}

/** Waits until none is left; those that stay for too long. */
export async function noneLeft(mark: string): Promise<string[]> {
  const deadline = performance.now() + GIVE_UP_MS;
  for (;;) {
    const left = processesOf(mark);
    if (left.length === 0 || performance.now() > deadline) return left;
    await systemClock.sleep(50);
  }
}
