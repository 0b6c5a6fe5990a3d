/**
 * A reverse proxy for targets behind the gateway: MAAS and Kubernetes API servers. Requests and answers pass as they
 * come, with trailers, 100-continue, aborts and back-pressure; an upgrade (WebSocket, SPDY) becomes two pipes of
 * opaque bytes. What only the gateway may say to the target (credentials, impersonation) is dropped from the client's
 * head and set anew, and so is what says where a request ends: connections to a target are shared, and whatever the
 * target took for a second request would run with the gateway's own rights.
 * Nothing is repeated, except a body-less read whose kept-alive connection had died meanwhile.
 */
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { describeError, PcgError, toProblem } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { ERROR_CODES } from '../contract/errors.ts';
import {
  bodyOf,
  endToEnd,
  flatten,
  formatHead,
  isAnswer,
  notAnAnswer,
  type RawHeaders,
  reasonOf,
} from './headers.ts';

export interface Upstream {
  /** Connections to the target; see `upstreamAgent`. */
  readonly agent: http.Agent;
  /** `Host` header. */
  readonly host: string;
  /** Path and query at the target. */
  readonly path: string;
  /** Set after the client's own were dropped. */
  readonly setHeaders: Readonly<Record<string, string | readonly string[]>>;
  /** Lower-case names of client headers that do not pass, besides hop-by-hop ones and `Host`. */
  readonly drops: (name: string) => boolean;
}

export interface ReverseProxyOptions {
  /** Where this request goes. Throw PcgError to refuse it. */
  readonly route: (request: http.IncomingMessage) => Upstream | Promise<Upstream>;
  /** What to make of a target that cannot be reached. */
  readonly unreachable: (cause: Error) => PcgError;
  /** The answer of the proxy itself; default: a ProblemDetails document. */
  readonly refusal?: (error: PcgError) => { readonly status: number; readonly body: unknown };
  readonly log: Log;
}

export interface ReverseProxy {
  readonly request: http.RequestListener;
  /** A request with `Expect: 100-continue`: the target says whether it wants the body. */
  readonly checkContinue: http.RequestListener;
  readonly upgrade: (request: http.IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Listens to `request`, `checkContinue` and `upgrade` of a server. */
  attach(server: http.Server): void;
}

const RETRIABLE = new Set(['GET', 'HEAD', 'OPTIONS']);
const MAX_PATH_CHARS = 16 * 1024;

export function createReverseProxy(options: ReverseProxyOptions): ReverseProxy {
  const { route, log } = options;
  const refuse = (error: unknown): { status: number; body: string } => {
    const known = error instanceof PcgError ? error : options.unreachable(error as Error);
    const made = options.refusal?.(known) ?? problemAnswer(known);
    return { status: made.status, body: JSON.stringify(made.body) };
  };

  const answer = (response: http.ServerResponse, error: unknown): void => {
    log.debug({ error: describeError(error) }, 'proxied request failed');
    // an answer that breaks off must break off for the client too: an end would look complete
    if (response.headersSent) return void response.destroy();
    const { status, body } = refuse(error);
    // the rest of the request is not read, so the connection cannot be used again
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(body);
  };

  const forward = (
    request: http.IncomingMessage,
    response: http.ServerResponse,
    expectsContinue: boolean,
  ): void => {
    request.on('error', () => {}); // a client that leaves is heard by `close`
    void (async () => {
      checkTarget(request);
      exchange(request, response, await route(request), expectsContinue, (error) => answer(response, error));
    })().catch((error: unknown) => answer(response, error));
  };

  const proxy: ReverseProxy = {
    request: (request, response) => forward(request, response, false),
    checkContinue: (request, response) => forward(request, response, true),
    upgrade: (request, socket, head) => {
      socket.on('error', () => socket.destroy());
      void (async () => {
        checkTarget(request);
        upgradeExchange(request, socket, head, await route(request), (error) =>
          refuseUpgrade(socket, refuse(error)),
        );
      })().catch((error: unknown) => refuseUpgrade(socket, refuse(error)));
    },
    attach: (server) => {
      server.on('request', proxy.request);
      server.on('checkContinue', proxy.checkContinue);
      server.on('upgrade', proxy.upgrade);
    },
  };
  return proxy;
}

/** Only origin-form: an absolute URL or `*` would choose another target than the stream's. */
function checkTarget(request: http.IncomingMessage): void {
  const url = request.url ?? '';
  if (!url.startsWith('/') || url.length > MAX_PATH_CHARS) {
    throw new PcgError('INVALID_INPUT', 'the request target is not a path', { field: 'path' });
  }
}

function exchange(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  upstream: Upstream,
  expectsContinue: boolean,
  fail: (error: unknown) => void,
): void {
  const { hasBody, framing } = bodyOf(request);
  const outgoing = begin(request, upstream, [
    ...framing,
    ...(expectsContinue ? ['Expect', '100-continue'] : []),
  ]);
  let answered = false;
  // the client may leave at any time; the target must learn of it, or a watch runs for ever
  const onLeave = (): void => void outgoing.destroy();
  response.once('close', onLeave);
  outgoing.on('continue', () => response.writeContinue());
  outgoing.on('error', (error: NodeJS.ErrnoException) => {
    if (response.destroyed) return;
    const stale = outgoing.reusedSocket && !answered && !hasBody && RETRIABLE.has(request.method ?? '');
    if (!stale || error.code !== 'ECONNRESET') return fail(error);
    // the target closed a kept-alive connection while we wrote to it: the one safe repetition
    response.off('close', onLeave);
    exchange(request, response, upstream, expectsContinue, fail);
  });
  outgoing.on('response', (incoming) => {
    answered = true;
    if (isAnswer(incoming)) return sendAnswer(incoming, response);
    outgoing.destroy();
    fail(notAnAnswer(incoming));
  });
  // a target may answer with an upgrade that nobody asked for; there is nothing to do with it
  outgoing.on('upgrade', (_incoming, socket) => {
    socket.destroy();
    fail(new PcgError('TEMPORARY', 'the target switched protocols unasked'));
  });
  if (hasBody) sendBody(request, outgoing, upstream.drops);
  else outgoing.end();
}

function begin(
  request: http.IncomingMessage,
  upstream: Upstream,
  extra: readonly string[],
): http.ClientRequest {
  const drops = (name: string): boolean =>
    name === 'host' || name === 'expect' || name === 'content-length' || upstream.drops(name);
  const headers = [
    'Host',
    upstream.host,
    ...endToEnd(request.rawHeaders, drops),
    ...flatten(upstream.setHeaders),
    ...extra,
  ];
  return http.request({
    agent: upstream.agent,
    method: request.method ?? 'GET',
    path: upstream.path,
    headers: headers as unknown as http.OutgoingHttpHeaders, // Node takes flat lists, its types do not say so
    setHost: false,
  });
}

function sendBody(
  request: http.IncomingMessage,
  outgoing: http.ClientRequest,
  drops: Upstream['drops'],
): void {
  request.pipe(outgoing, { end: false });
  request.once('end', () => {
    // a target may read trailers as headers: what must not be said there must not be said here
    const trailers = endToEnd(request.rawTrailers, drops);
    if (trailers.length > 0) outgoing.addTrailers(listed(trailers));
    outgoing.end();
  });
  // an upload that was aborted must not look complete to the target
  request.once('close', () => {
    if (!request.complete) outgoing.destroy();
  });
}

function sendAnswer(incoming: http.IncomingMessage, response: http.ServerResponse): void {
  response.sendDate = false;
  response.writeHead(incoming.statusCode as number, reasonOf(incoming), endToEnd(incoming.rawHeaders));
  response.flushHeaders(); // a watch may have nothing to say for minutes
  incoming.pipe(response, { end: false });
  incoming.once('end', () => {
    if (incoming.rawTrailers.length > 0) response.addTrailers(listed(incoming.rawTrailers));
    response.end();
  });
  incoming.on('error', () => response.destroy());
  incoming.once('close', () => {
    if (!incoming.complete) response.destroy();
  });
}

function upgradeExchange(
  request: http.IncomingMessage,
  socket: Duplex,
  head: Buffer,
  upstream: Upstream,
  fail: (error: unknown) => void,
): void {
  const { hasBody, framing } = bodyOf(request);
  // it would be sent behind the answer, where nobody waits for it, or never
  if (hasBody) throw new PcgError('INVALID_INPUT', 'a request for an upgrade has no body', { field: 'body' });
  const outgoing = begin(request, upstream, [
    ...framing,
    'Connection',
    'Upgrade',
    'Upgrade',
    request.headers.upgrade ?? '',
  ]);
  const onLeave = (): void => void outgoing.destroy();
  socket.once('close', onLeave);
  outgoing.on('error', (error) => {
    if (!socket.destroyed) fail(error);
  });
  outgoing.on('upgrade', (incoming: http.IncomingMessage, target: Duplex, early: Buffer) => {
    socket.off('close', onLeave);
    socket.write(formatHead(`HTTP/1.1 101 ${reasonOf(incoming)}`, incoming.rawHeaders));
    // bytes that came in one segment with either head belong to the new protocol
    if (early.length > 0) socket.write(early);
    if (head.length > 0) target.write(head);
    pipeBoth(socket, target);
  });
  outgoing.on('response', (incoming) => {
    if (!isAnswer(incoming)) {
      outgoing.destroy();
      return fail(notAnAnswer(incoming));
    }
    // the target refuses: its answer passes, and ends the connection
    const headers = [...endToEnd(incoming.rawHeaders), 'Connection', 'close'];
    socket.write(formatHead(`HTTP/1.1 ${incoming.statusCode} ${reasonOf(incoming)}`, headers));
    incoming.pipe(socket);
    incoming.on('error', () => socket.destroy());
  });
  outgoing.end();
}

/** Half-closes pass as half-closes, breaks as breaks. */
function pipeBoth(left: Duplex, right: Duplex): void {
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.once('close', () => {
      // nobody takes any more what `to` says; what it was told in full it may still deliver
      if (from.readableEnded && !to.writableFinished) to.once('finish', () => to.destroy());
      else to.destroy();
    });
  }
}

function refuseUpgrade(socket: Duplex, { status, body }: { status: number; body: string }): void {
  if (socket.destroyed) return;
  const headers: RawHeaders = [
    'Content-Type',
    'application/json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Connection',
    'close',
  ];
  socket.end(formatHead(`HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? 'Error'}`, headers) + body);
}

function problemAnswer(error: PcgError): { status: number; body: unknown } {
  return { status: ERROR_CODES[error.code].http, body: toProblem(error) };
}

/** Trailers as Node wants them. */
function listed(raw: RawHeaders): [string, string][] {
  const list: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) list.push([raw[at] as string, raw[at + 1] as string]);
  return list;
}
