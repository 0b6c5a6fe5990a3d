/**
 * HTTP on streams (layer 4): a stream stands where a socket would. Undici asks for a connection and gets a stream;
 * Node's own HTTP server is given the other end. Keep-alive therefore reuses streams, and Upgrade, trailers and
 * half-close are those of Node.
 */
import http from 'node:http';
import { type Duplex, duplexPair } from 'node:stream';
import { type Dispatcher, Pool } from 'undici';
import type { OpenOptions, Tunnel } from './ports.ts';

/** Streams to one target that requests may use side by side; further requests queue. */
const CONNECTIONS = 64;
/** An unused stream is given back after this; streams are cheap to open, and they count against the peer's limit. */
const KEEP_ALIVE_MS = 30_000;
/** A client behind the tunnel has this long to send its request head. */
const HEAD_TIMEOUT_MS = 60_000;

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

/** What was asked for when the connection of a request was opened: target, principal. */
const opens = new WeakMap<object, OpenOptions>();

/**
 * Gives `stream` to `server` as a new connection. With `open`, handlers learn by `openOf(request)` who asks.
 */
export function serveHttp(server: http.Server, stream: Duplex, open?: OpenOptions): void {
  if (open) opens.set(stream, open);
  // an error of a connection is its end; without a listener it would be the end of the process
  stream.on('error', () => stream.destroy());
  server.emit('connection', socketLike(stream));
}

/** For a TargetHandler: the stream of a target that is an HTTP server in this process. */
export function httpTarget(server: http.Server, open: OpenOptions): Duplex {
  const [near, far] = duplexPair();
  near.on('error', () => {});
  // newer Nodes let an error destroy both sides at once, and with it what was written before
  const destroy = far.destroy.bind(far);
  far.destroy = () => destroy();
  // an abort must cross the pair: destroying one side only looks like silence to the other
  near.once('close', () => far.destroy());
  far.once('close', () => {
    // a socket that is closed delivers what was written before (the answer 400, say): so does this
    if (near.readableEnded || near.destroyed) return void near.destroy();
    near.once('end', () => near.destroy());
    if (!far.writableFinished) near.push(null);
  });
  serveHttp(server, far, open);
  return near;
}

/** The OPEN that brought this request, or undefined for one that came by a real socket. */
export function openOf(request: http.IncomingMessage): OpenOptions | undefined {
  return opens.get(request.socket);
}

/**
 * An HTTP server that never listens, for targets: no limit on how long a request or an answer takes (uploads and
 * watches last hours), but a bound on its head.
 */
export function createTargetServer(
  listener?: http.RequestListener,
  headTimeoutMs = HEAD_TIMEOUT_MS,
): http.Server {
  const server = http.createServer(
    {
      requestTimeout: 0,
      headersTimeout: headTimeoutMs,
      keepAliveTimeout: 0,
      connectionsCheckingInterval: headTimeoutMs / 2,
    },
    listener,
  );
  server.maxRequestsPerSocket = 0;
  // Node knows the connections of servers that listen: from that event to `close`, a timer holds the server
  let connections = 0;
  server.prependListener('connection', (stream: Duplex) => {
    connections += 1;
    if (connections === 1) server.emit('listening');
    stream.once('close', () => {
      connections -= 1;
      if (connections === 0) server.close();
    });
  });
  return server;
}

/** `stream` with the methods of a socket that HTTP code calls without asking whether they are there. */
export function socketLike(stream: Duplex): Duplex {
  const methods = {
    setKeepAlive: self,
    setNoDelay: self,
    setTimeout: self,
    ref: self,
    unref: self,
    destroySoon,
  };
  for (const [name, method] of Object.entries(methods)) {
    if (!(name in stream)) Object.defineProperty(stream, name, { value: method, configurable: true });
  }
  return stream;
}

function self<T>(this: T): T {
  return this;
}

/** The server closes a connection with it after the last answer; a mere `end()` would wait for the client's end. */
function destroySoon(this: Duplex): void {
  if (this.writable) this.end();
  if (this.writableFinished) this.destroy();
  else this.once('finish', () => this.destroy());
}
