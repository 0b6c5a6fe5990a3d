/** Memory after a collection, also where the process was not started with --expose-gc. */
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

async function collected(): Promise<NodeJS.MemoryUsage> {
  for (let n = 0; n < 5; n += 1) {
    collectGarbage();
    await setImmediate();
  }
  return process.memoryUsage();
}

/** Bytes that live: what is held only until the collector or a timer comes is none of it. */
export async function liveMemory(): Promise<number> {
  const { heapUsed, external } = await collected();
  return heapUsed + external;
}

/** Of these only what buffers hold, for processes in which much else comes and goes. */
export async function liveBuffers(): Promise<number> {
  return (await collected()).arrayBuffers;
}
