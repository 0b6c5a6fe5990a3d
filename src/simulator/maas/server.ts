/**
 * The HTTP face: nginx's limits and habits in front of the API, the region's request slots, and the faults
 * that strike a request on its way. A client that goes away does not stop the work.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { listenError } from '../../base/listen-error.ts';
import type { Log } from '../../base/log.ts';
import { allowedAt, MaasApi, routeOf } from './api.ts';
import type { Faults } from './faults.ts';
import type { Region } from './region.ts';
import { nginxPage, raisedText, type Reply, SERVER_HEADER, transactionConflict } from './reply.ts';
import type { Site } from './site.ts';
import { Slots } from './slots.ts';

/** nginx: client_max_body_size. */
const BODY_LIMIT = 10 * 1024 * 1024;
/** nginx: one buffer of large_client_header_buffers, for the request line and for each header. */
const HEADER_LIMIT = 8 * 1024;
/** Node's own limit must be beyond nginx's, so that ours decides. */
const NODE_HEADER_LIMIT = 64 * 1024;
/** nginx: keepalive_timeout. */
const KEEP_ALIVE_MS = 65_000;
const API_HASH = 'b3df632ef50b244fd156bbb5193cf597eb55fded';

export interface RequestStats {
  readonly requests: number;
  /** By `METHOD route`. */
  readonly byRoute: Readonly<Record<string, number>>;
  readonly byStatus: Readonly<Record<string, number>>;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Most requests that ever were inside MAAS at once. */
  readonly peakInFlight: number;
  /** Requests that MAAS has read and not yet answered, also those in line. */
  readonly inFlight: number;
}

export interface MaasServerOptions {
  readonly host: string;
  readonly port: number;
  readonly region: Region;
  readonly site: Site;
  readonly faults: Faults;
  readonly clock: Clock;
  readonly log: Log;
  /** Requests that the region works on at once; 16 on a real one. */
  readonly slots: number;
  /** Idle connections live this long; nginx has 65 s. */
  readonly keepAliveMs?: number;
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Answers everything below /simulator/. */
  readonly control: (request: ControlRequest) => Promise<Reply>;
}

export interface ControlRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
}

export class MaasServer {
  readonly #options: MaasServerOptions;
  readonly #api: MaasApi;
  readonly #server: Server;
  readonly #slots: Slots;
  readonly #stopped = new AbortController();
  readonly #byRoute = new Map<string, number>();
  readonly #byStatus = new Map<string, number>();
  #bytesSent = 0;
  #bytesReceived = 0;
  #requests = 0;

  private constructor(options: MaasServerOptions) {
    this.#options = options;
    this.#api = new MaasApi(options.region, options.site);
    this.#slots = new Slots(options.slots);
    const settings = {
      maxHeaderSize: NODE_HEADER_LIMIT,
      requireHostHeader: false,
      keepAliveTimeout: options.keepAliveMs ?? KEEP_ALIVE_MS,
    };
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    this.#server = options.tls
      ? createTlsServer({ ...settings, ...options.tls, minVersion: 'TLSv1.2' }, serve)
      : createServer(settings, serve);
    // The default adds a second of grace that clients would see.
    this.#server.keepAliveTimeoutBuffer = 0;
    this.#server.requestTimeout = 0;
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuseGarbage(error, socket));
  }

  static async start(options: MaasServerOptions): Promise<MaasServer> {
    const server = new MaasServer(options);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', (cause) =>
        reject(listenError(`${options.host}:${options.port}`, 'port', cause)),
      );
      server.#server.listen(options.port, options.host, resolve);
    });
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  stats(): RequestStats {
    return {
      requests: this.#requests,
      byRoute: Object.fromEntries(this.#byRoute),
      byStatus: Object.fromEntries(this.#byStatus),
      bytesSent: this.#bytesSent,
      bytesReceived: this.#bytesReceived,
      peakInFlight: this.#slots.peak,
      inFlight: this.#slots.inside,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error('the simulator stops'));
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const early = nginxChecks(request);
      if (early) return this.#send(request, response, early);
      const path = new URL(request.url ?? '/', 'http://maas').pathname;
      if (path.startsWith('/simulator')) {
        const body = await readBody(request);
        return this.#send(request, response, await this.#control(request, body?.toString('utf8') ?? ''));
      }
      await this.#serveMaas(request, response);
    } catch (error) {
      this.#options.log.error({ err: error, url: request.url }, 'request failed inside the simulator');
      if (!response.headersSent && !response.destroyed)
        this.#send(request, response, raisedText(500, String(error)).reply);
    }
  }

  #control(request: IncomingMessage, body: string): Promise<Reply> {
    const url = new URL(request.url ?? '/', 'http://maas');
    const method = request.method ?? 'GET';
    return this.#options.control({ method, path: url.pathname, query: url.searchParams, body });
  }

  async #serveMaas(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? 'GET';
    const route = routeOf({ method, target: request.url ?? '/' });
    const subject = `${method} ${request.url} ${route}`;
    const { faults, clock, site, region } = this.#options;
    this.#count(`${method} ${route}`);
    if (faults.strikes('refused', subject)) return void request.socket.destroy();
    const body = await readBody(request);
    if (body === undefined)
      return this.#send(request, response, nginxPage(413, '413 Request Entity Too Large', { close: true }));
    this.#bytesReceived += body.length;
    if (faults.strikes('down', subject) || faults.strikes('http-502', subject))
      return this.#send(request, response, nginxPage(502, '502 Bad Gateway'));
    if (faults.strikes('hang', subject)) return;
    const late = faults.strikes('lands-late', subject);
    if (late) {
      request.socket.destroy();
      await clock.sleep(late.value ?? 2000, this.#stopped.signal);
    }
    const skew = faults.strikes('clock-skew', subject);
    region.clockSkewS = skew ? (skew.value ?? 600) : 0;

    const reply = await this.#slots.run(async () => {
      const instead = replyInstead(faults, subject, region.rackSystemId);
      if (instead) return instead;
      await site.wait(site.latency.requestMs ?? 0);
      const result = await this.#api.handle({
        method,
        target: request.url ?? '/',
        host: request.headers.host ?? '',
        authorization: request.headers.authorization,
        contentType: request.headers['content-type'],
        cookie: request.headers.cookie,
        body,
      });
      const slow = faults.strikes('slow', subject);
      if (slow) await clock.sleep(slow.value ?? 2000, this.#stopped.signal);
      return result;
    });
    if (faults.strikes('lost-reply', subject)) return void request.socket.destroy();
    if (reply.status < 400 && faults.strikes('http-504-after-success', subject))
      return this.#send(request, response, nginxPage(504, '504 Gateway Time-out'));
    if (faults.strikes('reset-mid-body', subject)) return this.#sendHalf(response, reply);
    this.#send(request, response, reply);
  }

  #count(route: string): void {
    this.#requests += 1;
    this.#byRoute.set(route, (this.#byRoute.get(route) ?? 0) + 1);
  }

  #head(response: ServerResponse, reply: Reply): void {
    response.sendDate = false;
    response.setHeader('Server', SERVER_HEADER);
    response.setHeader('Date', new Date(this.#options.region.now()).toUTCString());
    if (reply.contentType !== null) response.setHeader('Content-Type', reply.contentType);
    if (reply.origin === 'api' || reply.origin === 'public-api') {
      response.setHeader('Vary', reply.origin === 'api' ? 'Authorization, Cookie' : 'Authorization');
      response.setHeader('X-Maas-Api-Hash', API_HASH);
      response.setHeader('X-Frame-Options', 'DENY');
    } else if (reply.origin !== 'bare') {
      if (reply.origin === 'raised') response.setHeader('Vary', 'Cookie');
      response.setHeader('X-Frame-Options', 'DENY');
    }
    for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
    // Said outright, else Node adds a Keep-Alive hint that nginx does not give.
    const stays = response.shouldKeepAlive && !reply.close;
    response.setHeader('Connection', stays ? 'keep-alive' : 'close');
    response.statusCode = reply.status;
  }

  #send(request: IncomingMessage, response: ServerResponse, reply: Reply): void {
    if (response.destroyed) return;
    this.#head(response, reply);
    const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
    this.#byStatus.set(String(reply.status), (this.#byStatus.get(String(reply.status)) ?? 0) + 1);
    this.#bytesSent += body.length;
    if (reply.chunked) response.write(body.length > 0 ? body : Buffer.alloc(0));
    else if (reply.status !== 204) response.setHeader('Content-Length', body.length);
    response.end(reply.chunked || request.method === 'HEAD' ? undefined : body);
  }

  /** Promises the whole body, sends half of it, resets. */
  #sendHalf(response: ServerResponse, reply: Reply): void {
    this.#head(response, reply);
    const body = Buffer.from(reply.body);
    response.setHeader('Content-Length', Math.max(1, body.length));
    response.write(body.subarray(0, Math.floor(body.length / 2)));
    const socket = response.socket as Socket | null;
    response.flushHeaders();
    setImmediate(() => socket?.resetAndDestroy());
  }
}

/** PostgreSQL's client library, as MAAS passes it on. */
const DATABASE_DOWN =
  'server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n';

/** Replies that stand for a MAAS which has done nothing. */
function replyInstead(faults: Faults, subject: string, rack: string): Reply | undefined {
  if (faults.strikes('http-503', subject))
    return raisedText(503, `Unable to connect to any rack controller ${rack}; no connections available.`, {
      'Retry-After': '10',
    }).reply;
  if (faults.strikes('http-409-retry-after', subject)) return transactionConflict();
  if (faults.strikes('http-500', subject))
    return {
      ...raisedText(500, DATABASE_DOWN).reply,
      origin: 'bare',
      chunked: true,
    };
  return undefined;
}

const BAD_REQUEST = nginxPage(400, '400 Bad Request', { close: true });
const HEADER_TOO_LARGE = nginxPage(400, '400 Request Header Or Cookie Too Large', {
  close: true,
  heading: '400 Bad Request',
});

/** What nginx refuses on its own. */
function nginxChecks(request: IncomingMessage): Reply | undefined {
  const { rawHeaders, method = '', url = '' } = request;
  if (method.length + url.length + ' HTTP/1.1\r\n'.length > HEADER_LIMIT)
    return nginxPage(414, '414 Request-URI Too Large', { close: true });
  let authorizations = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (name.length + (rawHeaders[at + 1]?.length ?? 0) > HEADER_LIMIT) return HEADER_TOO_LARGE;
    if (name.toLowerCase() === 'authorization') authorizations += 1;
  }
  if (authorizations > 1) return BAD_REQUEST;
  const { host } = request.headers;
  if (request.httpVersion === '1.1' && (host === undefined || /[^\w.:[\]-]/.test(host))) return BAD_REQUEST;
  if (method === 'TRACE') return nginxPage(405, '405 Not Allowed', { close: true });
  return undefined;
}

/** Undefined when the body is larger than nginx takes. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > BODY_LIMIT) {
    request.resume();
    return undefined;
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_LIMIT) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Node refuses unknown methods before we see them; MAAS answers those with 405. */
function refuseGarbage(error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket: Duplex): void {
  if (!socket.writable) return;
  const lines =
    error.code === 'HPE_INVALID_METHOD'
      ? [
          'HTTP/1.1 405 Method Not Allowed',
          'Content-Type: text/html; charset=utf-8',
          `Allow: ${allowedAt(error.rawPacket?.toString('latin1').split(' ')[1] ?? '/')}`,
          'Vary: Authorization, Cookie',
          `X-Maas-Api-Hash: ${API_HASH}`,
        ]
      : ['HTTP/1.1 400 Bad Request', 'Content-Type: text/html'];
  const head = [...lines, `Server: ${SERVER_HEADER}`, 'Content-Length: 0', 'Connection: close'];
  socket.end(`${head.join('\r\n')}\r\n\r\n`);
}
