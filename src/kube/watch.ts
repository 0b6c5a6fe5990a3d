/**
 * One watch connection: newline-delimited JSON to events. The server ends it after `timeoutSeconds` as a matter
 * of course; a connection that dies without a word is noticed by silence, since bookmarks come about every minute.
 */
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { KubeObject, WatchEvent } from './client.ts';
import { asRecord, asText, networkError, statusError } from './errors.ts';
import { parseJson } from './json.ts';

/** Servers close after this time, spread so that all watches of a gateway do not return at once. */
const MIN_TIMEOUT_SECONDS = 300;
const SPREAD_SECONDS = 300;
/** Bookmarks come about every 60 s; two missed ones and some slack mean a half-open connection. */
export const IDLE_LIMIT_MS = 150_000;
/** An object is at most about 1.5 MB in etcd; JSON with managed fields stays well below this. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

export interface WatchSource {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** For messages. */
  readonly what: string;
  /** Opens the stream; throws typed errors for answers other than 200. */
  open(limits: { timeoutSeconds: number }, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
}

/** Events until the server closes. Throws KUBE_CONFLICT with details.status 410 when the version is too old. */
export async function* readWatch(source: WatchSource): AsyncGenerator<WatchEvent> {
  const stop = new AbortController();
  const signal = AbortSignal.any([source.signal, stop.signal]);
  const idle = new IdleTimer(source.clock, () =>
    stop.abort(
      new PcgError('KUBE_UNREACHABLE', `${source.what}: the stream went silent`, {
        details: { reason: 'idle' },
      }),
    ),
  );
  try {
    const timeoutSeconds = MIN_TIMEOUT_SECONDS + Math.floor(Math.random() * SPREAD_SECONDS);
    const body = await source.open({ timeoutSeconds }, signal);
    for await (const line of readLines(body, () => idle.touch())) {
      const event = parseEvent(line, source.what);
      if (event !== undefined) yield event;
    }
  } catch (error) {
    if (stop.signal.aborted && !source.signal.aborted) throw stop.signal.reason;
    throw networkError(error, source.what, source.signal);
  } finally {
    idle[Symbol.dispose]();
    stop.abort(); // closes the connection when the reader leaves early
  }
}

class IdleTimer implements Disposable {
  readonly #clock: Clock;
  readonly #expired: () => void;
  #timer: Disposable;

  constructor(clock: Clock, expired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
    this.#timer = clock.timer(IDLE_LIMIT_MS, expired);
  }

  touch(): void {
    this.#timer[Symbol.dispose]();
    this.#timer = this.#clock.timer(IDLE_LIMIT_MS, this.#expired);
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}

const NEWLINE = 0x0a;

/** Splits at line feeds; a line may arrive in many pieces, and UTF-8 is decoded only when it is whole. */
export async function* readLines(
  body: AsyncIterable<Uint8Array>,
  touch: () => void = () => {},
): AsyncGenerator<string> {
  let pieces: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    touch();
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      pieces.push(chunk.subarray(start, end));
      const line = Buffer.concat(pieces).toString('utf8').trim();
      pieces = [];
      size = 0;
      start = end + 1;
      if (line !== '') yield line;
    }
    const rest = chunk.subarray(start);
    size += rest.byteLength;
    if (size > MAX_LINE_BYTES)
      throw new PcgError('KUBE_UNREACHABLE', 'a watch event is too large', {
        details: { reason: 'protocol' },
      });
    if (rest.byteLength > 0) pieces.push(rest);
  }
  // A last line without its line feed is half an event: the connection was cut, the next watch repeats it.
}

function parseEvent(line: string, what: string): WatchEvent | undefined {
  let value: Record<string, unknown>;
  try {
    value = asRecord(parseJson(line));
  } catch (cause) {
    throw new PcgError('KUBE_UNREACHABLE', `${what}: an event is not JSON`, {
      cause,
      details: { reason: 'protocol' },
    });
  }
  const object = asRecord(value['object']);
  switch (value['type']) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      return { type: value['type'], object: object as unknown as KubeObject };
    case 'BOOKMARK':
      return {
        type: 'BOOKMARK',
        resourceVersion: asText(asRecord(object['metadata'])['resourceVersion']),
      };
    case 'ERROR':
      throw statusError(typeof object['code'] === 'number' ? object['code'] : 500, object, what);
    default:
      return undefined; // a type newer than we are changes nothing that we know of
  }
}
