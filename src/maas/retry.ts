/**
 * Who may be asked again. Reads and calls that are idempotent by nature repeat after anything transient;
 * effects repeat only after failures that prove nothing happened, everything else goes back to the caller
 * to be resolved by reading. Every attempt is a new exchange, so it is signed anew.
 */
import type { z } from 'zod';
import { backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { toError } from './errors.ts';
import type { MaasFailure, MaasReply } from './failure.ts';
import type { MaasCall, MaasHttp } from './http.ts';
import type { Redact } from './redact.ts';
import { VersionWire } from './schema.ts';

const ATTEMPTS = 5;
/** Waits of up to 0.5, 1, 2, 4 s: a worker restart heals within that; an outage is the caller's to outlast. */
const BACKOFF = { baseMs: 500, capMs: 8_000 };
/** No Retry-After of MAAS exceeds 10 s; a proxy's "come back tomorrow" is not waited for here. */
const MAX_RETRY_AFTER_MS = 30_000;

export type Answer =
  | { readonly kind: 'ok'; readonly reply: MaasReply }
  | { readonly kind: 'failed'; readonly failure: MaasFailure };

export interface Caller {
  /** For calls that may be repeated freely. Throws PcgError when it stays without an answer. */
  ask(call: MaasCall, signal: AbortSignal): Promise<MaasReply>;
  /** As `ask`, but hands every failure back instead of throwing. */
  tryAsk(call: MaasCall, signal: AbortSignal): Promise<Answer>;
  /** For effects: repeated only when certainly nothing happened. */
  effect(call: MaasCall, signal: AbortSignal): Promise<Answer>;
  /** A short wait with jitter, for repeating something after a look. */
  pause(attempt: number, signal: AbortSignal): Promise<void>;
  /** Reads a success body; throws MAAS_PROTOCOL when it is not what the API sends. */
  parse<S extends z.ZodType>(schema: S, reply: MaasReply, what: string): z.output<S>;
  /** As `get`, for long arrays of objects: each element is read while the rest is still on its way. */
  getEach<S extends z.ZodType>(
    schema: S,
    call: Omit<MaasCall, 'method' | 'element'>,
    signal: AbortSignal,
  ): Promise<z.output<S>[]>;
  get<S extends z.ZodType>(
    schema: S,
    call: Omit<MaasCall, 'method'>,
    signal: AbortSignal,
  ): Promise<z.output<S>>;
}

/** An idempotent call helps itself after these. */
function mayRepeat(failure: MaasFailure): boolean {
  switch (failure.kind) {
    case 'unsent':
      return !failure.tls;
    case 'lost':
    case 'conflict':
    case 'rack':
    case 'busy':
    case 'fault':
      return true;
    default:
      return false;
  }
}

/** After these nothing has happened at MAAS, or it was rolled back. */
function provesNoEffect(failure: MaasFailure): boolean {
  return (
    (failure.kind === 'unsent' && !failure.tls) || failure.kind === 'conflict' || failure.kind === 'rack'
  );
}

function retryAfterOf(failure: MaasFailure): number {
  return 'retryAfterMs' in failure ? (failure.retryAfterMs ?? 0) : 0;
}

/** The cheapest question that only a region answers. */
const VERSION: MaasCall = { what: 'version', lane: 'read', method: 'GET', path: 'version/' };

/** undefined when it is not JSON. */
function jsonOf(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

export function createCaller(options: {
  http: MaasHttp;
  clock: Clock;
  log: Log;
  redact: Redact;
  attempts?: number | undefined;
}): Caller {
  const { http, clock, log, redact } = options;
  const attempts = options.attempts ?? ATTEMPTS;

  async function persist(
    call: MaasCall,
    signal: AbortSignal,
    again: (failure: MaasFailure) => boolean,
  ): Promise<Answer> {
    for (let attempt = 0; ; attempt += 1) {
      const exchange = await http.exchange(call, signal);
      if (exchange.kind === 'reply') return { kind: 'ok', reply: exchange.reply };
      const failure = await doubted(exchange.failure, call, signal);
      const afterMs = retryAfterOf(failure);
      if (!again(failure) || attempt + 1 >= attempts || afterMs > MAX_RETRY_AFTER_MS) {
        return { kind: 'failed', failure };
      }
      log.debug({ call: call.what, failure: failure.kind, attempt: attempt + 1 }, 'maas call is repeated');
      await clock.sleep(afterMs + backoffMs(BACKOFF, attempt), signal);
    }
  }

  /**
   * A 403 or 404 without MAAS's own headers may be a proxy's ("no such route"). It counts only when a region
   * answers at this address at the same time.
   */
  async function doubted(failure: MaasFailure, call: MaasCall, signal: AbortSignal): Promise<MaasFailure> {
    if ((failure.kind !== 'absent' && failure.kind !== 'forbidden') || failure.genuine) return failure;
    if (call.path === VERSION.path) return { kind: 'foreign', text: failure.text };
    const probe = await http.exchange(VERSION, signal);
    const alive = probe.kind === 'reply' && VersionWire.safeParse(jsonOf(probe.reply.body)).success;
    return alive ? failure : { kind: 'foreign', text: failure.text };
  }

  function parse<S extends z.ZodType>(schema: S, reply: MaasReply, what: string): z.output<S> {
    const broken = (why: string) => toError({ kind: 'foreign', text: why }, { what, method: 'GET' });
    if (reply.truncated) throw broken('a body that is larger than expected');
    const value = jsonOf(reply.body);
    if (value === undefined) {
      throw broken(reply.bodyClass === 'html' ? 'an HTML page' : 'something that is not JSON');
    }
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    throw broken(redact(`JSON of another shape at ${issue?.path.join('.') || 'its root'}`));
  }

  const tryAsk: Caller['tryAsk'] = (call, signal) => persist(call, signal, mayRepeat);
  const ask: Caller['ask'] = async (call, signal) => {
    const answer = await tryAsk(call, signal);
    if (answer.kind === 'failed') throw toError(answer.failure, call);
    return answer.reply;
  };
  return {
    ask,
    tryAsk,
    effect: (call, signal) => persist(call, signal, provesNoEffect),
    pause: (attempt, signal) => clock.sleep(backoffMs(BACKOFF, attempt), signal),
    parse,
    async getEach(schema, call, signal) {
      const reply = await ask({ ...call, method: 'GET', element: (value) => schema.parse(value) }, signal);
      if (reply.elements !== undefined) return reply.elements as z.output<typeof schema>[];
      const text = reply.truncated
        ? 'a body that is larger than expected'
        : 'something that is not a list of it';
      throw toError({ kind: 'foreign', text }, { what: call.what, method: 'GET' });
    },
    get: async (schema, call, signal) =>
      parse(schema, await ask({ ...call, method: 'GET' }, signal), call.what),
  };
}
