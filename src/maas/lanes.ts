/**
 * Who may talk to the region at the same time. A region serves about 16 requests at once, shared with its
 * own machines, so: 4 in flight; list, allocate and power query one each; calls that wait for a BMC never
 * take the last slot, or reads would starve behind them. A slow region gets fewer.
 * An allocate takes 0.2 s and no BMC: it uses the last slot and does not stand in line behind deployments,
 * which take 4 s and more each. Only a slow region, where it may last as long, counts it among those.
 */
import PQueue from 'p-queue';

export type CallClass = 'read' | 'list' | 'allocate' | 'action' | 'power' | 'download';

export interface LaneLimits {
  /** Requests in flight. */
  readonly total: number;
  /** Of these at most this many that can last minutes (deploy, release, power, downloads). */
  readonly slow: number;
  /** A quick read that takes longer than this shows a struggling region, milliseconds. */
  readonly slowReadMs: number;
}

export const DEFAULT_LANES: LaneLimits = { total: 4, slow: 3, slowReadMs: 5_000 };

/** Quick replies in a row after which one more slot is opened again. */
const QUICK_REPLIES_TO_RECOVER = 5;
/** Even for the slowest region: one for an action, one for reads. */
const LEAST_IN_FLIGHT = 2;

export interface Lanes {
  /** `urgent` goes before others that wait for the same slots. */
  run<T>(lane: CallClass, urgent: boolean, signal: AbortSignal, work: () => Promise<T>): Promise<T>;
  /** Feeds the governor with how a call went. */
  felt(lane: CallClass, elapsedMs: number, healthy: boolean): void;
  readonly inFlight: number;
  /** Slots given up at the moment because the region is slow. */
  readonly pressure: number;
}

export function createLanes(limits: LaneLimits = DEFAULT_LANES): Lanes {
  const most = Math.max(LEAST_IN_FLIGHT, limits.total);
  const total = new PQueue({ concurrency: most });
  const slow = new PQueue({ concurrency: Math.min(limits.slow, most - 1) });
  const single = {
    list: new PQueue({ concurrency: 1 }),
    allocate: new PQueue({ concurrency: 1 }),
    power: new PQueue({ concurrency: 1 }),
  };
  let pressure = 0;
  let quick = 0;

  const route = (lane: CallClass): readonly PQueue[] => {
    switch (lane) {
      case 'read':
        return [total];
      case 'list':
        return [single.list, total];
      case 'allocate':
        return pressure > 0 ? [single.allocate, slow, total] : [single.allocate, total];
      case 'action':
      case 'download':
        return [slow, total];
      case 'power':
        return [single.power, slow, total];
    }
  };

  const setPressure = (value: number) => {
    pressure = Math.min(Math.max(0, value), most - LEAST_IN_FLIGHT);
    quick = 0;
    total.concurrency = most - pressure;
    slow.concurrency = Math.max(1, Math.min(limits.slow, most - pressure - 1));
  };

  return {
    async run(lane, urgent, signal, work) {
      signal.throwIfAborted();
      let enter = work;
      for (const queue of route(lane).toReversed()) {
        const inner = enter;
        enter = () => queue.add(inner, { signal, priority: urgent ? 1 : 0 });
      }
      return await enter();
    },
    felt(lane, elapsedMs, healthy) {
      // Only quick reads tell about the region; the others also wait for hardware or carry megabytes.
      if (!healthy || (lane === 'read' && elapsedMs > limits.slowReadMs)) setPressure(pressure + 1);
      else if (lane === 'read' && ++quick >= QUICK_REPLIES_TO_RECOVER) setPressure(pressure - 1);
    },
    get inFlight() {
      return total.pending;
    },
    get pressure() {
      return pressure;
    },
  };
}
