/**
 * MAAS's worker for what machines tell while they install themselves: it looks every so often and writes down what
 * came in since. Such an event keeps the time at which it happened, but its id is that of the moment when it was written.
 */
import type { Pace } from '../ports.ts';
import type { Level } from './events.ts';
import type { Machine } from './model.ts';
import type { Processes } from './processes.ts';
import type { Region } from './region.ts';

export type Told = (level: Level, type: string, text: string) => void;

interface WorkerOptions {
  readonly region: Region;
  readonly pace: Pace;
  readonly processes: Processes;
  /** From one look to the next, milliseconds of hardware time. */
  readonly periodMs: number;
}

/** For one installation of `machine`, which has begun. What is told after its release is lost: its key is gone. */
export function startEventWorker(machine: Machine, options: WorkerOptions): Told {
  const { region, pace, processes, periodMs } = options;
  const { incarnation } = machine;
  let waiting: { readonly at: number; readonly event: Parameters<Told> }[] = [];
  processes.detach(machine, 'event worker', async () => {
    for (let installs = true; installs; ) {
      await pace.sleep(periodMs, processes.stopped);
      if (machine.owner === null || machine.incarnation !== incarnation) return;
      installs = machine.status === 'deploying';
      for (const { at, event } of waiting) region.events.add(machine, at, ...event);
      waiting = [];
    }
  });
  return (...event) => void waiting.push({ at: region.now(), event });
}
