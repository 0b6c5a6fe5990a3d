/**
 * A request of a program (kubectl, the MAAS CLI) carried to a target behind a gateway and its answer back,
 * byte for byte and as it comes: one tunnel stream a request. Upgrades (WebSocket, SPDY) become a raw pipe.
 * Credentials for the portal end here; hop-by-hop headers belong to each hop.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream';
import { describeError, PcgError } from '../base/errors.ts';
import type { OpenOptions, TunnelStream } from '../tunnel/ports.ts';
import { withDeadline } from '../base/clock.ts';
import type { Portal } from './portal.ts';
import { beginRequest } from './stream-http.ts';

export interface ProxyRoute {
  readonly gateway: string;
  readonly open: OpenOptions;
  /** Path and query at the target. */
  readonly path: string;
  readonly host: string;
  /** For metrics. */
  readonly label: string;
}

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** What the caller says to the portal, or what only the gateway may say to the target. */
const ENDS_HERE =
  /^(authorization|cookie|host|expect|origin|forwarded|x-forwarded-.*|impersonate-.*|x-remote-.*)$/;

export async function proxyRequest(
  portal: Portal,
  route: ProxyRoute,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const stream = await openStream(portal, route);
  const outgoing = beginRequest(stream, {
    method: request.method ?? 'GET',
    path: route.path,
    headers: forwardHeaders(request, route.host),
  });
  await new Promise<void>((resolve, reject) => {
    // The caller may leave at any time; the target must learn of it, or a watch runs for ever.
    response.once('close', () => {
      stream.destroy();
      resolve();
    });
    outgoing.once('error', (cause) => {
      if (response.headersSent) response.destroy();
      else reject(broken(cause));
      stream.destroy();
    });
    outgoing.once('response', (answer) => {
      response.sendDate = false;
      response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', endToEnd(answer.rawHeaders));
      response.flushHeaders();
      // An answer that breaks off must break off for the caller too: an end would look complete.
      pipeline(answer, response, (error) => {
        if (error) portal.log.debug({ error: describeError(error) }, 'proxied answer ended early');
      });
    });
    request.pipe(outgoing);
  });
}

/** The caller's socket after the target agreed to the upgrade; refusals go back as plain answers. */
export async function proxyUpgrade(
  portal: Portal,
  route: ProxyRoute,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const stream = await openStream(portal, route);
  socket.once('close', () => stream.destroy());
  const outgoing = beginRequest(stream, {
    method: request.method ?? 'GET',
    path: route.path,
    headers: [
      ...forwardHeaders(request, route.host),
      'connection',
      'Upgrade',
      'upgrade',
      request.headers.upgrade ?? '',
    ],
  });
  await new Promise<void>((resolve, reject) => {
    outgoing.once('error', (cause) => {
      reject(broken(cause));
      stream.destroy();
    });
    outgoing.once('upgrade', (answer, upstream, early) => {
      socket.write(head101(answer));
      if (early.length > 0) socket.write(early);
      if (head.length > 0) upstream.write(head);
      // Half-close passes: the end of one direction is not the end of the other.
      pipeline(socket, upstream, () => {});
      pipeline(upstream, socket, () => resolve());
    });
    outgoing.once('response', (answer) => {
      socket.write(
        `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${lines(endToEnd(answer.rawHeaders).filter(notLength))}connection: close\r\n\r\n`,
      );
      pipeline(answer, socket, () => resolve());
    });
    outgoing.end();
  });
}

async function openStream(portal: Portal, route: ProxyRoute): Promise<TunnelStream> {
  return await withDeadline(portal.clock, portal.limits.proxyOpenMs, 'the gateway', undefined, (signal) =>
    portal.links.tunnel(route.gateway).open(route.open, signal),
  );
}

function forwardHeaders(request: IncomingMessage, host: string): string[] {
  const named = connectionNames(request.headers.connection);
  const kept: string[] = ['host', host];
  const raw = request.rawHeaders;
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] as string).toLowerCase();
    if (HOP_BY_HOP.has(name) || named.has(name) || ENDS_HERE.test(name)) continue;
    kept.push(raw[at] as string, raw[at + 1] as string);
  }
  // Of unknown length stays of unknown length; otherwise Node would take a body for none.
  if (request.headers['transfer-encoding'] !== undefined) kept.push('transfer-encoding', 'chunked');
  return kept;
}

function endToEnd(raw: readonly string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2)
    if (!HOP_BY_HOP.has((raw[at] as string).toLowerCase()))
      kept.push(raw[at] as string, raw[at + 1] as string);
  return kept;
}

/** Headers that `Connection` names are hop-by-hop as well. */
function connectionNames(connection: string | undefined): Set<string> {
  return new Set((connection ?? '').split(',').map((name) => name.trim().toLowerCase()));
}

function head101(answer: IncomingMessage): string {
  return `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${lines(answer.rawHeaders)}\r\n`;
}

function lines(raw: readonly string[]): string {
  let text = '';
  for (let at = 0; at + 1 < raw.length; at += 2) text += `${raw[at]}: ${raw[at + 1]}\r\n`;
  return text;
}

function notLength(_value: string, index: number, all: readonly string[]): boolean {
  return (all[index - (index % 2)] as string).toLowerCase() !== 'content-length';
}

function broken(cause: Error): PcgError {
  return cause instanceof PcgError
    ? cause
    : new PcgError('TEMPORARY', 'the connection to the target broke', { cause });
}
