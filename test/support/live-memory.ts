/** Memory after a collection, also where the process was not started with --expose-gc. */
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** Bytes that live: what is held only until the collector or a timer comes is none of it. */
export async function liveMemory(): Promise<number> {
  for (let n = 0; n < 5; n += 1) {
    collectGarbage();
    await setImmediate();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
