/**
 * HTTP on streams (layer 4): a stream stands where a socket would. A client is given `socketLike(stream)`, Node's own
 * HTTP server the other end. Keep-alive, Upgrade, trailers and half-close are those of Node.
 */
import http from 'node:http';
import { type Duplex, duplexPair } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { STREAM, StreamError } from './codes.ts';
import type { OpenOptions } from './ports.ts';
import { isCarriedUpgrade } from './upgrade-exchange.ts';

/** Longer than any client of ours keeps a connection for later. */
const IDLE_MS = 5 * 60_000;
/** A client behind the tunnel has this long to send its request head. */
const HEAD_TIMEOUT_MS = 60_000;

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

/**
 * For a TargetHandler: the stream of a target that is an HTTP server in this process. Without a request under way for
 * `idleMs` it ends with IDLE_TIMEOUT: each takes one of the session's streams. What was upgraded may be silent for ever.
 */
export function httpTarget(server: http.Server, open: OpenOptions, clock: Clock, idleMs = IDLE_MS): Duplex {
  const [near, far] = duplexPair();
  near.on('error', () => {});
  watchRequests(server);
  const idle = (): Disposable =>
    clock.timer(idleMs, () => near.destroy(new StreamError(STREAM.IDLE_TIMEOUT, 'nothing was asked')));
  let timer = idle();
  near.once('close', () => timer[Symbol.dispose]());
  let underWay = 0; // a client may send the next request before it has its answer
  uses.set(far, {
    begun: () => {
      underWay += 1;
      timer[Symbol.dispose]();
    },
    over: () => {
      underWay -= 1;
      if (underWay === 0 && !near.destroyed) timer = idle();
    },
  });
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

/** What connections of `httpTarget` hear of their requests. */
const uses = new WeakMap<object, { begun(): void; over(): void }>();
const watched = new WeakSet<http.Server>();

function watchRequests(server: http.Server): void {
  if (watched.has(server)) return;
  watched.add(server);
  const begun = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    const use = uses.get(request.socket);
    use?.begun();
    response.once('close', () => use?.over());
  };
  server.on('request', begun);
  // somebody who listens to these takes them from `request`, so nobody else may begin to
  if (server.listenerCount('checkContinue') > 0) server.on('checkContinue', begun);
  if (server.listenerCount('upgrade') > 0)
    server.on('upgrade', (request: http.IncomingMessage) => uses.get(request.socket)?.begun());
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
      shouldUpgradeCallback: isCarriedUpgrade,
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
