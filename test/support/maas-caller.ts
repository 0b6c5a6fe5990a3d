/** A bare MAAS caller for tests of the simulator: signs, sends a form, gives back what came. Knows no retries. */
import { randomUUID } from 'node:crypto';
import type { Simulator } from '../../src/simulator/simulator.ts';
import type { ManualClock } from './manual-clock.ts';

export interface Called {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Parsed when it is JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect and fail where it is not there
  readonly json: any;
}

export type Caller = (
  method: 'GET' | 'POST' | 'PUT' | 'DELETE',
  path: string,
  form?: Readonly<Record<string, string | readonly string[]>>,
  signal?: AbortSignal,
) => Promise<Called>;

/** `apiKey` as MAAS shows it: consumer:token:secret. Timestamps come from `now`, milliseconds. */
export function maasCaller(maasUrl: string, apiKey: string, now: () => number = Date.now): Caller {
  const [consumer = '', token = '', secret = ''] = apiKey.split(':');
  return async (method, path, form, signal) => {
    const authorization =
      `OAuth oauth_version="1.0", oauth_signature_method="PLAINTEXT", oauth_consumer_key="${consumer}", ` +
      `oauth_token="${token}", oauth_signature="%26${secret}", oauth_nonce="${randomUUID()}", ` +
      `oauth_timestamp="${Math.floor(now() / 1000)}"`;
    const body = form === undefined ? undefined : new URLSearchParams();
    for (const [key, value] of Object.entries(form ?? {}))
      for (const item of typeof value === 'string' ? [value] : value) body?.append(key, item);
    const response = await fetch(`${maasUrl}/api/2.0/${path}`, {
      method,
      redirect: 'manual',
      headers: { authorization },
      ...(body ? { body } : {}),
      ...(signal ? { signal } : {}),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: isJson ? JSON.parse(text) : undefined,
    };
  };
}

/** Most steps that a call may need before the test gives up on it. */
const MAX_STEPS = 5_000;
/** How long a request may take to MAAS, or an answer from it, in real time. Only ends a hang. */
const HANGS_MS = 240_000;

interface OwnTime {
  readonly clock: ManualClock;
  readonly simulator: Pick<Simulator, 'stats'>;
}

/** Requests that meet: no time passes before MAAS has all of them that it does not answer at once. */
export async function sideBySide<T>(site: OwnTime, works: readonly Promise<T>[], stepMs = 1): Promise<T[]> {
  let answered = 0;
  const count = (): void => void (answered += 1);
  for (const work of works) work.then(count, count);
  const end = performance.now() + HANGS_MS;
  while (answered + site.simulator.stats().inFlight < works.length) {
    if (performance.now() > end) throw new Error(`not all of ${works.length} requests have come to MAAS`);
    await site.clock.settle();
  }
  return await passUntilDone(site, Promise.all(works), stepMs);
}

/**
 * Lets time pass in small steps until `work` is done, while MAAS has a request that it has not answered. It stands still
 * while bytes are under way: how long those take on this machine changes nothing.
 */
export async function passUntilDone<T>(
  { clock, simulator }: OwnTime,
  work: Promise<T>,
  stepMs = 250,
): Promise<T> {
  const state = { done: false };
  const settled = work.finally(() => {
    state.done = true;
  });
  settled.catch(() => {});
  let end = performance.now() + HANGS_MS;
  for (let step = 0; step < MAX_STEPS && !state.done; ) {
    await clock.settle();
    if (simulator.stats().inFlight === 0) {
      if (performance.now() > end) throw new Error('the call did not end, and MAAS has no request of it');
      continue;
    }
    await clock.advance(stepMs);
    step += 1;
    end = performance.now() + HANGS_MS;
  }
  if (!state.done) throw new Error('the call did not end however much time passed');
  return settled;
}
