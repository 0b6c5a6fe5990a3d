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
import { bodyOf, endToEnd, isAnswer, notAnAnswer, type RawHeaders, reasonOf } from './headers.ts';
import { refuseUpgrade, upgradeExchange } from './upgrade-exchange.ts';
import { beginRequest, keepsBack, type Upstream } from './upstream-request.ts';

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
const NO_BYTES = Buffer.alloc(0);

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
      checkRequest(request);
      exchange(request, response, await route(request), expectsContinue, (error) => answer(response, error));
    })().catch((error: unknown) => answer(response, error));
  };

  const proxy: ReverseProxy = {
    request: (request, response) => forward(request, response, false),
    checkContinue: (request, response) => forward(request, response, true),
    upgrade: (request, socket, head) => {
      socket.on('error', () => socket.destroy());
      void (async () => {
        checkRequest(request);
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
function checkRequest(request: http.IncomingMessage): void {
  const url = request.url ?? '';
  // its answer repeats the head that the target got
  if (request.method === 'TRACE')
    throw new PcgError('INVALID_INPUT', 'TRACE does not pass', { field: 'method' });
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
  const outgoing = beginRequest(request, upstream, [
    ...framing,
    ...(expectsContinue ? ['Expect', '100-continue'] : []),
  ]);
  let answered = false;
  // the client may leave at any time; the target must learn of it, or a watch runs for ever
  const onLeave = (): void => void outgoing.destroy();
  response.once('close', onLeave);
  // a target may say it without end, and nobody waits for it who did not ask
  if (expectsContinue) outgoing.once('continue', () => response.writeContinue());
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
    if (isAnswer(incoming)) return sendAnswer(request, incoming, response);
    outgoing.destroy();
    fail(notAnAnswer(incoming));
  });
  // a target may answer with an upgrade that nobody asked for; there is nothing to do with it
  outgoing.on('upgrade', (_incoming, socket) => {
    socket.destroy();
    fail(new PcgError('TEMPORARY', 'the target switched protocols unasked'));
  });
  if (hasBody) sendBody(request, outgoing, keepsBack(upstream));
  else outgoing.end();
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

function sendAnswer(
  request: http.IncomingMessage,
  incoming: http.IncomingMessage,
  response: http.ServerResponse,
): void {
  response.sendDate = false;
  const trailers = mayHaveTrailers(request, incoming);
  const headers = endToEnd(incoming.rawHeaders, (name) => name === 'trailer' && !trailers);
  response.writeHead(incoming.statusCode as number, reasonOf(incoming), headers);
  // a watch may have nothing to say for minutes; `flushHeaders` would write values as UTF-8, and not as they came
  response.write(NO_BYTES);
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

function problemAnswer(error: PcgError): { status: number; body: unknown } {
  return { status: ERROR_CODES[error.code].http, body: toProblem(error) };
}

/** Node throws at a head that announces trailers which cannot follow. */
function mayHaveTrailers(request: http.IncomingMessage, answer: http.IncomingMessage): boolean {
  const bodiless = request.method === 'HEAD' || answer.statusCode === 204 || answer.statusCode === 304;
  return !bodiless && request.httpVersion === '1.1' && answer.headers['content-length'] === undefined;
}

/** Trailers as Node wants them. */
function listed(raw: RawHeaders): [string, string][] {
  const list: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) list.push([raw[at] as string, raw[at + 1] as string]);
  return list;
}
