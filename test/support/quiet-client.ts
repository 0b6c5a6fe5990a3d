/**
 * Lets a manual clock and real sockets live together: counts calls of a client that are under way, so that time
 * only moves while nothing is. Otherwise deadlines would fire during a slow moment of the machine.
 */
import type { KubeClient } from '../../src/kube/client.ts';
import type { ManualClock } from './manual-clock.ts';

export interface QuietClient {
  /** Behaves as the given client. */
  readonly client: KubeClient;
  /** Waits until no call is under way. */
  quiet(): Promise<void>;
  /** Moves the clock in steps, waiting for quiet before each. */
  pass(ms: number, stepMs?: number): Promise<void>;
}

export function quietClient(client: KubeClient, clock: ManualClock): QuietClient {
  let pending = 0;
  const counted = new Proxy(client, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const result: unknown = value.apply(target, args);
        if (!(result instanceof Promise)) return result;
        pending += 1;
        return result.finally(() => {
          pending -= 1;
        });
      };
    },
  });
  const quiet = async () => {
    for (let calm = 0; calm < 3; ) {
      await clock.settle();
      calm = pending === 0 ? calm + 1 : 0;
    }
  };
  return {
    client: counted,
    quiet,
    pass: async (ms, stepMs = 250) => {
      await quiet();
      for (let passed = 0; passed < ms; passed += stepMs) {
        await clock.advance(stepMs);
        await quiet();
      }
    },
  };
}
