/**
 * What ties a child of the demo to its parent: the child's standard input is a pipe that the parent holds and
 * never writes to. The kernel closes it however the parent ends, `kill -9` included; then the child stops as
 * for SIGTERM, and soon by force, since nobody is left who would end one that hangs.
 */
import type { Clock } from '../base/clock.ts';

/** Set by the parent. Without it standard input means what it means: a pairing code, a terminal, nothing. */
export const LIFELINE_VARIABLE = 'PCG_LIFELINE';
/** As long as a parent would wait before it sends SIGKILL. */
const STOP_GRACE_MS = 8_000;

/** Calls `stop` when the parent is gone, and ends this process if that was not enough. */
export function holdLifeline(
  environment: Readonly<Record<string, string | undefined>>,
  clock: Clock,
  stop: () => void,
): void {
  if (environment[LIFELINE_VARIABLE] !== 'stdin') return;
  const cut = () => {
    clock.timer(STOP_GRACE_MS, () => process.kill(process.pid, 'SIGKILL'));
    stop();
  };
  process.stdin.once('end', cut);
  process.stdin.once('error', cut);
  process.stdin.resume();
  // It shall not keep a finished command alive.
  if ('unref' in process.stdin) process.stdin.unref();
}
