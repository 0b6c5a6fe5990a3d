/**
 * The other end of the wire for the MAAS client: msw handlers behind a real socket, a plain node:http server
 * and a raw TCP server, each on an ephemeral port. Nothing of the client is replaced.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { getResponse, type RequestHandler } from 'msw';
import { systemClock } from '../../src/base/clock.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import { createMaasClient, type MaasClientOptions, type MaasRestClient } from '../../src/maas/rest-client.ts';

export const CONSUMER = 'cccccccccccccccccc';
export const TOKEN = 'tttttttttttttttttt';
export const SECRET = 'ssssssssssssssssssssssssssssssss';
export const KEY = `${CONSUMER}:${TOKEN}:${SECRET}`;

export interface Wire extends AsyncDisposable {
  readonly origin: string;
  readonly port: number;
}

async function listening(server: Server): Promise<Wire> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

export const serveHttp = (handle: RequestListener): Promise<Wire> => listening(createServer(handle));
export const serveTcp = (handle: (socket: Socket) => void): Promise<Wire> =>
  listening(createTcpServer(handle));

/** Serves msw handlers; requests that no handler takes get 599. */
export function serveHandlers(handlers: readonly RequestHandler[]): Promise<Wire> {
  return serveHttp(async (incoming, outgoing) => {
    const request = await toRequest(incoming);
    const response = await getResponse([...handlers], request);
    if (response === undefined) {
      outgoing.writeHead(599).end('no handler');
      return;
    }
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    outgoing.end(Buffer.from(await response.arrayBuffer()));
  });
}

async function toRequest(incoming: IncomingMessage): Promise<Request> {
  const body = await readAll(incoming);
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (typeof value === 'string') headers.set(name, value);
  }
  return new Request(`http://${incoming.headers.host}${incoming.url}`, {
    method: incoming.method ?? 'GET',
    headers,
    ...(body.byteLength > 0 ? { body: new Uint8Array(body) } : {}),
  });
}

export async function readAll(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** One request as a double sees it. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly form: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
}

export interface Script extends Wire {
  readonly seen: Seen[];
}

/** A double whose every answer is decided by `answer(seen, number of this request)`. */
export async function serveScript(
  answer: (seen: Seen, outgoing: ServerResponse, index: number) => void | Promise<void>,
): Promise<Script> {
  const seen: Seen[] = [];
  const wire = await serveHttp(async (incoming, outgoing) => {
    const url = new URL(incoming.url ?? '/', 'http://maas');
    const one: Seen = {
      method: incoming.method ?? '',
      path: url.pathname.replace('/MAAS/api/2.0/', ''),
      query: url.searchParams,
      form: new URLSearchParams((await readAll(incoming)).toString()),
      headers: incoming.headers,
    };
    seen.push(one);
    await answer(one, outgoing, seen.length - 1);
  });
  return Object.assign(wire, { seen });
}

export function json(
  outgoing: ServerResponse,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
): void {
  outgoing.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers });
  outgoing.end(JSON.stringify(value));
}

/** As the region's own errors look, with the header that tells them from a proxy's. */
export function text(
  outgoing: ServerResponse,
  status: number,
  body: string,
  headers: Record<string, string> = {},
): void {
  outgoing.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'x-frame-options': 'DENY',
    ...headers,
  });
  outgoing.end(body);
}

export function html(
  outgoing: ServerResponse,
  status: number,
  title: string,
  headers: Record<string, string> = {},
): void {
  outgoing.writeHead(status, { 'content-type': 'text/html', ...headers });
  outgoing.end(`<html><head><title>${title}</title></head><body></body></html>`);
}

/** A client of the wire whose back-off does not wait. */
export function clientOf(wire: { origin: string }, options: Partial<MaasClientOptions> = {}): MaasRestClient {
  return createMaasClient({
    endpoint: `${wire.origin}/MAAS`,
    apiKey: new Secret(KEY),
    clock: { ...systemClock, sleep: (_ms, signal) => systemClock.sleep(0, signal) },
    log: silentLog,
    ...options,
  });
}

/** The smallest machine that MAAS could send. */
export function wireMachine(
  systemId: string,
  status: number,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  return { system_id: systemId, status, hostname: `node-${systemId}`, owner: 'pcg', ...more };
}

export const never = (): AbortSignal => new AbortController().signal;
