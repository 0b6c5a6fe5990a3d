/** Requests by undici through a tunnel, with a stream where it would open a socket: a client that reuses its streams. */
import { type Dispatcher, Pool } from 'undici';
import { socketLike } from '../../src/tunnel/http.ts';
import type { OpenOptions, Tunnel } from '../../src/tunnel/ports.ts';

/** Streams to one target that requests may use side by side; further requests queue. */
const CONNECTIONS = 64;
const KEEP_ALIVE_MS = 30_000;

/**
 * Requests through `tunnel` to one target. Give any origin; only path and headers travel. Failing opens reject the
 * request with what the tunnel threw (PcgError GATEWAY_OFFLINE, StreamError). There is no timeout for headers and
 * body: long polls and watches are normal, callers bring a signal. Close it when done.
 */
export function tunnelDispatcher(
  tunnel: Tunnel,
  open: OpenOptions,
  options: { readonly connections?: number } = {},
): Dispatcher {
  return new Pool('http://tunnel', {
    connections: options.connections ?? CONNECTIONS,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
    connect: (_target, callback) => {
      const done = callback as (error: Error | null, socket: unknown) => void;
      void openSocket(tunnel, open, done);
    },
  });
}

async function openSocket(
  tunnel: Tunnel,
  open: OpenOptions,
  callback: (error: Error | null, socket: unknown) => void,
): Promise<void> {
  try {
    callback(null, socketLike(await tunnel.open(open)));
  } catch (error) {
    callback(error as Error, null);
  }
}
