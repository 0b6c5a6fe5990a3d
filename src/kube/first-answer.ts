/**
 * One question to several servers of which any may answer. Whoever is silent is waited for on the side while the next
 * one is asked, so that a machine that swallows everything costs a moment and not the caller's whole time.
 */
import type { Clock } from '../base/clock.ts';

type Reply<T> =
  | { readonly kind: 'answer'; readonly answer: T }
  | { readonly kind: 'failed'; readonly from: number; readonly error: unknown };

/**
 * In the order of `servers`, of which there is at least one; the next as soon as one has failed or has been silent for
 * `patienceMs`. Rejects with an error that `isFinal` (the server's own answer), else with the last one when all have
 * failed, else with the reason of `signal`. Calls that are not needed any more are aborted.
 */
export async function firstAnswer<S, T>(
  servers: readonly S[],
  ask: (server: S, signal: AbortSignal) => Promise<T>,
  options: {
    readonly patienceMs: number;
    readonly isFinal: (error: unknown) => boolean;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): Promise<T> {
  const { patienceMs, isFinal, clock, signal } = options;
  const enough = new AbortController();
  const limited = AbortSignal.any([signal, enough.signal]);
  const open = new Map<number, Promise<Reply<T>>>();
  let next = 0;
  let last: unknown;
  try {
    for (;;) {
      const server = servers[next];
      if (server !== undefined) {
        const from = next;
        open.set(
          from,
          ask(server, limited).then(
            (answer) => ({ kind: 'answer', answer }),
            (error: unknown) => ({ kind: 'failed', from, error }),
          ),
        );
        next += 1;
      }
      if (open.size === 0) throw last;
      const others = next < servers.length;
      // Ends early when somebody has answered.
      const silence = others ? [clock.sleep(patienceMs, limited).catch(() => undefined)] : [];
      const reply = await Promise.race([...open.values(), ...silence]);
      signal.throwIfAborted();
      if (reply === undefined) continue;
      if (reply.kind === 'answer') return reply.answer;
      if (isFinal(reply.error)) throw reply.error;
      open.delete(reply.from);
      last = reply.error;
    }
  } finally {
    enough.abort();
  }
}
