/** Waits for what another process or thread of work does on its own time; fails with the last reason. */
import { systemClock } from '../../src/base/clock.ts';

const EVERY_MS = 15;
/** Only ends a hang: what takes a second on an idle machine may take twenty on a busy one. */
export const GIVE_UP_MS = 60_000;

export async function eventually(check: () => Promise<boolean> | boolean): Promise<void> {
  const end = systemClock.monotonic() + GIVE_UP_MS;
  for (;;) {
    if (await check()) return;
    if (systemClock.monotonic() > end) throw new Error(`never became true: ${check.toString()}`);
    await systemClock.sleep(EVERY_MS);
  }
}
