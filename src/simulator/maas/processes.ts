/**
 * What goes on in the background: at most one process a machine, which ends early when another takes the
 * machine over, and work that outlives its request. Nothing outlives the simulator.
 */
import type { Log } from '../../base/log.ts';
import type { Machine } from './model.ts';

export class Processes implements AsyncDisposable {
  readonly #log: Log;
  readonly #stopped = new AbortController();
  readonly #current = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Aborted when the simulator stops. */
  get stopped(): AbortSignal {
    return this.#stopped.signal;
  }

  /** Ends whatever the machine is in the middle of. */
  interrupt(machine: Machine): void {
    this.#current.get(machine.systemId)?.abort(new Error('superseded'));
    this.#current.delete(machine.systemId);
  }

  /** Starts the machine's next process; it ends early when interrupted. */
  begin(machine: Machine, what: string, work: (signal: AbortSignal) => Promise<void>): void {
    this.interrupt(machine);
    const controller = new AbortController();
    this.#current.set(machine.systemId, controller);
    const signal = AbortSignal.any([controller.signal, this.stopped]);
    this.#track(machine, what, signal, work(signal));
  }

  /** What goes on after a request was answered; only the end of the simulator ends it early. */
  detach(machine: Machine, what: string, work: () => Promise<void>): void {
    this.#track(machine, what, this.stopped, work());
  }

  #track(machine: Machine, what: string, signal: AbortSignal, work: Promise<void>): void {
    const task = work
      .catch((error: unknown) => {
        if (!signal.aborted)
          this.#log.error({ machine: machine.systemId, what, err: error }, 'machine process failed');
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error('the simulator stops'));
    await Promise.allSettled(this.#running);
  }
}
