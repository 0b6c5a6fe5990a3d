/** Removes what has ended: tokens, idempotency keys, keys of old pairing codes, events beyond retention. */
import { describeError } from '../base/errors.ts';
import { runForever } from '../base/loop.ts';
import { sweepCodes } from './pairing.ts';
import type { Portal } from './portal.ts';

export async function sweepOnce(portal: Portal): Promise<void> {
  const { db, clock, limits } = portal;
  const now = clock.now();
  await db.deleteFrom('tokens').where('expires_at', '<=', now).execute();
  await db
    .deleteFrom('idempotency')
    .where('created_at', '<=', now - limits.idempotencyTtlMs)
    .execute();
  await db
    .deleteFrom('events')
    .where('time', '<=', now - limits.eventRetentionMs)
    .execute();
  await sweepCodes(portal);
}

/** Until `signal` aborts. */
export async function sweepForever(portal: Portal, signal: AbortSignal): Promise<void> {
  await runForever<'done'>({
    clock: portal.clock,
    signal,
    attempt: async () => {
      await sweepOnce(portal);
      return 'done';
    },
    onError: (error) => {
      portal.log.error({ error: describeError(error) }, 'sweep failed');
      return 'done';
    },
    delayMs: () => portal.limits.sweepEveryMs,
  });
}
