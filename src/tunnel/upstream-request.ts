/**
 * A request as it goes to a target: the client's own end-to-end headers, what only the gateway may say set anew, and
 * framing as our own parser saw it.
 */
import http from 'node:http';
import { endToEnd, flatten } from './headers.ts';

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

/** Beside what the target must not hear from clients at all: what is made anew for each request. */
export function keepsBack({ drops }: Upstream): (name: string) => boolean {
  return (name) => name === 'host' || name === 'expect' || name === 'content-length' || drops(name);
}

/** `extra`: a list of names and values behind all others. Throws for what cannot be written as a head. */
export function beginRequest(
  request: http.IncomingMessage,
  upstream: Upstream,
  extra: readonly string[],
): http.ClientRequest {
  const kept = keepsBack(upstream);
  // Node throws at a head that announces trailers which cannot follow
  const chunked = request.headers['transfer-encoding'] !== undefined;
  const drops = (name: string): boolean => kept(name) || (name === 'trailer' && !chunked);
  const headers = [
    'Host',
    upstream.host,
    ...endToEnd(request.rawHeaders, drops),
    ...flatten(upstream.setHeaders),
    ...extra,
  ];
  const outgoing = http.request({
    agent: upstream.agent,
    method: request.method ?? 'GET',
    path: upstream.path,
    headers: headers as unknown as http.OutgoingHttpHeaders, // Node takes flat lists, its types do not say so
    setHost: false,
  });
  // a head that expects 100-continue is written without an encoding, and would not keep the bytes of its values
  return outgoing.once('socket', (socket) => void socket.setDefaultEncoding('latin1'));
}
