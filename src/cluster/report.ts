/**
 * What the world is told of one cluster. A large cluster looks at itself many times a second while it grows, and
 * its status is 50 KB and more that the store, the tunnel, the portal and every open page carry on: what concerns
 * the whole cluster is said at once, the progress of single machines once per interval.
 */
import type { Clock } from '../base/clock.ts';
import type { ClusterStatus } from '../contract/cluster.ts';
import type { Outbox } from '../store/outbox.ts';
import type { PlanInput } from './plan.ts';
import { sceneOf } from './plan.ts';
import { phaseOf, type StatusExtras, statusOf } from './progress.ts';

export class StatusReport {
  readonly #id: string;
  readonly #outbox: Outbox;
  readonly #clock: Clock;
  readonly #intervalMs: number;
  #status: ClusterStatus | undefined;
  /** What is worth an interruption, as it was last said. */
  #headline = '';
  /** Monotonic milliseconds. */
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(id: string, outbox: Outbox, clock: Clock, intervalMs: number) {
    this.#id = id;
    this.#outbox = outbox;
    this.#clock = clock;
    this.#intervalMs = intervalMs;
  }

  /** As last said. */
  get status(): ClusterStatus | undefined {
    return this.#status;
  }

  /** Returns after how many milliseconds to come again because something was kept back; Infinity: nothing was. */
  async put(input: PlanInput, extras: Omit<StatusExtras, 'previous'>): Promise<number> {
    const { record, generation } = input;
    const headline = JSON.stringify([
      phaseOf(sceneOf(input), extras),
      generation,
      record.problem,
      extras.queue,
    ]);
    const left = this.#saidAt + this.#intervalMs - this.#clock.monotonic();
    if (headline === this.#headline && left > 0) return left;
    const previous = this.#status?.conditions ?? [];
    await this.#say(statusOf(input, { ...extras, previous }), headline);
    return Number.POSITIVE_INFINITY;
  }

  /** For a cluster that cannot be looked at. */
  async replace(change: (status: ClusterStatus | undefined) => ClusterStatus): Promise<void> {
    await this.#say(change(this.#status), '');
  }

  async #say(status: ClusterStatus, headline: string): Promise<void> {
    this.#status = status;
    this.#headline = headline;
    this.#saidAt = this.#clock.monotonic();
    await this.#outbox.putSnapshot('cluster', this.#id, status);
  }
}
