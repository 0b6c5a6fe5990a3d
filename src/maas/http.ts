/**
 * The one door to MAAS: one signed attempt per call, form bodies, no redirects, bounded time and bytes.
 * An exchange ends as a reply or as a failure that says whether MAAS may have acted; nothing else leaves
 * here except the caller's own abort. Retries live in `retry.ts`, limits in `lanes.ts`.
 */
import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, request } from 'undici';
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { classifyReply, type MaasFailure, type MaasReply } from './failure.ts';
import { readBody, readElements } from './http-body.ts';
import type { CallClass, Lanes } from './lanes.ts';
import type { Redact } from './redact.ts';
import { toReply } from './reply.ts';
import type { Signer } from './sign.ts';
import { Silence } from './silence.ts';
import { transportFailure } from './transport.ts';

export type Pairs = readonly (readonly [name: string, value: string])[];

export interface MaasCall {
  /** For logs and errors, e.g. `machines.deploy`. */
  readonly what: string;
  readonly lane: CallClass;
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Relative to the API base; ends with a slash. */
  readonly path: string;
  readonly query?: Pairs;
  /** Sent as application/x-www-form-urlencoded; lists are repeated names. MAAS ignores or breaks on JSON. */
  readonly form?: Pairs;
  /** Small and waited for: goes before others of its lane. */
  readonly urgent?: boolean;
  /** Keep only the last bytes of the body instead of refusing a larger one. */
  readonly tailBytes?: number;
  /** The body is an array of objects: reads each while it arrives; `reply.elements` has the results. */
  readonly element?: (value: unknown) => unknown;
}

export type Exchange =
  | { readonly kind: 'reply'; readonly reply: MaasReply }
  | { readonly kind: 'failure'; readonly failure: MaasFailure };

/** What happened, without any content: for metrics. */
export interface ExchangeFacts {
  readonly what: string;
  readonly status: number | undefined;
  readonly bytes: number;
  readonly elapsedMs: number;
}

export interface MaasHttp {
  /** One attempt (and a second one, re-signed, when a 401 teaches the clock). Rejects only when `signal` aborts. */
  exchange(call: MaasCall, signal: AbortSignal): Promise<Exchange>;
  authorization(): string;
  /** MAAS's clock minus ours, milliseconds, from the newest Date header. */
  readonly clockSkewMs: number | undefined;
  /** For how long MAAS has said nothing although it was asked, milliseconds; 0 = it answers. */
  readonly silentMs: number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Connect: a region answers in milliseconds or is not there. */
const CONNECT_TIMEOUT_MS = 10_000;
/** nginx closes idle connections after 65 s; a request must never meet that close. */
const KEEP_ALIVE_MS = 30_000;
/** Recycle connections now and then, or all load sticks to one region worker. */
const CONNECTION_LIFE_MS = 300_000;

/** Whole exchange, from sending to the last byte. */
export const TIMEOUT_MS: Readonly<Record<CallClass, number>> = {
  read: 60_000,
  list: 120_000, // 1000 machines take 20 s on an idle region, 60 s on a busy one
  allocate: 100_000, // the region retries conflicts for up to 90 s
  action: 300_000, // 3.5 waits for the BMC inside the request
  power: 90_000, // a power query waits up to 60 s for the BMC
  download: 60_000,
};

/** A fleet of 1000 machines is 15-40 MB; anything else is small. */
const MAX_BODY_BYTES: Readonly<Record<CallClass, number>> = {
  read: 32 << 20,
  list: 256 << 20,
  allocate: 32 << 20,
  action: 32 << 20,
  power: 1 << 20,
  download: 64 << 20,
};
/** Bodies of errors are only shown. */
const MAX_ERROR_BYTES = 64 << 10;
/** A larger difference between the clocks is worth signing with MAAS's; it refuses requests older than 300 s. */
const SKEW_WORTH_LEARNING_MS = 60_000;

/** What stands in front of a region answers for it. */
const isAway = (status: number): boolean => status === 502 || status === 503 || status === 504;

export interface HttpOptions {
  readonly apiUrl: string;
  readonly signer: Signer;
  readonly redact: Redact;
  readonly lanes: Lanes;
  readonly clock: Clock;
  readonly log: Log;
  readonly userAgent: string;
  readonly connections: number;
  readonly caPem?: string | undefined;
  readonly dispatcher?: Dispatcher | undefined;
  readonly timeoutMs?: Partial<Record<CallClass, number>> | undefined;
  readonly onExchange?: ((facts: ExchangeFacts) => void) | undefined;
}

export function createMaasHttp(options: HttpOptions): MaasHttp {
  const { clock, log, lanes, redact, signer } = options;
  const ownAgent =
    options.dispatcher === undefined ? createAgent(options.caPem, options.connections) : undefined;
  const dispatcher = options.dispatcher ?? ownAgent;
  const timeouts = { ...TIMEOUT_MS, ...options.timeoutMs };
  let observedSkewMs: number | undefined;
  let appliedSkewMs = 0;
  const silence = new Silence();

  async function attempt(call: MaasCall, signal: AbortSignal): Promise<Exchange> {
    const started = clock.monotonic();
    let bytes = 0;
    let status: number | undefined;
    silence.asked(started);
    try {
      const exchange = await withDeadline(clock, timeouts[call.lane], call.what, signal, async (bounded) => {
        const response = await request(urlOf(options.apiUrl, call), {
          method: call.method,
          headers: headersOf(call),
          body:
            call.form === undefined
              ? null
              : new URLSearchParams(call.form.map(([k, v]) => [k, v])).toString(),
          signal: bounded,
          ...(dispatcher === undefined ? {} : { dispatcher }),
        });
        status = response.statusCode;
        learnClock(response.headers['date']);
        if (!isAway(status)) silence.answered(clock.monotonic());
        const ok = status < 400;
        const limit = ok ? (call.tailBytes ?? MAX_BODY_BYTES[call.lane]) : MAX_ERROR_BYTES;
        const read =
          ok && call.element !== undefined
            ? await readElements(response.body, limit, call.element)
            : await readBody(response.body, limit, ok && call.tailBytes !== undefined);
        bytes = read.bytes;
        return toReply(response, read, clock.monotonic() - started);
      });
      lanes.felt(call.lane, exchange.elapsedMs, !isAway(exchange.status));
      const failure = classifyReply(exchange, redact);
      return failure === undefined ? { kind: 'reply', reply: exchange } : { kind: 'failure', failure };
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const failure = transportFailure(cause);
      if (failure.kind === 'lost')
        lanes.felt(call.lane, clock.monotonic() - started, !(cause instanceof DeadlineError));
      return { kind: 'failure', failure };
    } finally {
      silence.over(status === undefined ? !signal.aborted : isAway(status));
      const facts = { what: call.what, status, bytes, elapsedMs: Math.round(clock.monotonic() - started) };
      options.onExchange?.(facts);
      log.debug({ call: facts.what, status, bytes, elapsedMs: facts.elapsedMs }, 'maas exchange');
    }
  }

  function headersOf(call: MaasCall): Record<string, string> {
    return {
      authorization: authorization(),
      accept: 'application/json',
      'user-agent': options.userAgent,
      // Also for an empty form: without it MAAS takes an allocate as unconstrained.
      ...(call.form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
    };
  }

  const authorization = () => signer.authorization(clock.now() + appliedSkewMs);

  function learnClock(date: string | string[] | undefined): void {
    const at = typeof date === 'string' ? Date.parse(date) : Number.NaN;
    if (Number.isFinite(at)) observedSkewMs = at - clock.now();
  }

  /** True when a 401 can come from the clock and signing with MAAS's own time is worth one more attempt. */
  function adoptSkew(): boolean {
    if (observedSkewMs === undefined || Math.abs(observedSkewMs - appliedSkewMs) < SKEW_WORTH_LEARNING_MS)
      return false;
    log.warn({ skewMs: observedSkewMs }, 'maas clock differs, signing with its time');
    appliedSkewMs = observedSkewMs;
    return true;
  }

  return {
    exchange: (call, signal) =>
      lanes.run(call.lane, call.urgent ?? false, signal, async () => {
        const first = await attempt(call, signal);
        if (first.kind === 'failure' && first.failure.kind === 'unauthorized' && adoptSkew()) {
          return await attempt(call, signal);
        }
        return first;
      }),
    authorization,
    get clockSkewMs() {
      return observedSkewMs;
    },
    get silentMs() {
      return silence.lasts(clock.monotonic());
    },
    async [Symbol.asyncDispose]() {
      await ownAgent?.destroy();
    },
  };
}

function createAgent(caPem: string | undefined, connections: number): Agent {
  return new Agent({
    connections,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    clientTtl: CONNECTION_LIFE_MS,
    headersTimeout: 0, // the deadline of the call rules, on our clock
    bodyTimeout: 0,
    connect: {
      timeout: CONNECT_TIMEOUT_MS,
      ...(caPem === undefined ? {} : { ca: [...getCACertificates('default'), caPem] }),
    },
  });
}

function urlOf(apiUrl: string, call: MaasCall): string {
  if (!call.path.endsWith('/')) throw new Error(`MAAS path without trailing slash: ${call.path}`);
  const query = call.query?.length
    ? `?${new URLSearchParams(call.query.map(([k, v]) => [k, v])).toString()}`
    : '';
  return `${apiUrl}${call.path}${query}`;
}
