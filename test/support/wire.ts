/**
 * Ends of the wire for tunnel tests: TCP, HTTP and HTTPS servers on ephemeral ports that die with their scope,
 * a throw-away CA, and scripted CONNECT proxies that misbehave on purpose.
 */
import { createServer as createHttp, type RequestListener, type Server as HttpServer } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, createServer as createTcp, type Server, type Socket } from 'node:net';
import { type CertificatePair, createClusterPki, issueServerCertificate } from '../../src/kube/pki.ts';
import { ownPort } from './own-port.ts';

const HOUR_MS = 3_600_000;

export interface Listening<S extends Server = Server> extends AsyncDisposable {
  readonly server: S;
  readonly port: number;
  /** Sockets open now. */
  readonly sockets: ReadonlySet<Socket>;
  cut(): void;
}

export async function listen<S extends Server>(
  server: S,
  host = '127.0.0.1',
  port = 0,
): Promise<Listening<S>> {
  // an idle connection stays until somebody ends it: else a slow machine writes to one that just went
  if ('keepAliveTimeout' in server) server.keepAliveTimeout = 0;
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    server,
    port: (server.address() as AddressInfo).port,
    sockets,
    cut,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      cut();
      await closed;
    },
  };
}

export const tcpServer = (onSocket: (socket: Socket) => void): Promise<Listening> =>
  listen(createTcp(onSocket));

export const httpServer = (handle: RequestListener): Promise<Listening<HttpServer>> =>
  listen(createHttp(handle));

export interface TestCa {
  readonly pem: string;
  readonly keyPem: string;
  issue(names: {
    dns?: string[];
    ip?: string[];
    validityMs?: number;
    nowMs?: number;
  }): Promise<CertificatePair>;
}

export async function testCa(): Promise<TestCa> {
  const { ca } = await createClusterPki({ nowMs: Date.now(), keyAlgorithm: 'ecdsa-p256' });
  return {
    pem: ca.certPem,
    keyPem: ca.keyPem,
    issue: ({ dns = [], ip = ['127.0.0.1'], validityMs = HOUR_MS, nowMs = Date.now() }) =>
      issueServerCertificate(ca, { commonName: 'test', dnsNames: dns, ipAddresses: ip, nowMs, validityMs }),
  };
}

export const httpsServer = (pair: CertificatePair, handle: RequestListener): Promise<Listening<HttpServer>> =>
  listen(createHttps({ key: pair.keyPem, cert: pair.certPem }, handle) as unknown as HttpServer);

/** What a scripted proxy saw. */
export interface SeenConnect {
  readonly target: string;
  readonly authorization: string | undefined;
}

export interface ScriptedProxy extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly seen: SeenConnect[];
  readonly sockets: ReadonlySet<Socket>;
  cut(): void;
}

/** Handles each CONNECT by `script`; `pipe` opens the way to the target (`early` is sent with the 200). */
export async function connectProxy(
  script: (asked: SeenConnect, client: Socket, pipe: (early?: string) => void) => void = (
    _asked,
    _client,
    pipe,
  ) => pipe(),
  pair?: CertificatePair,
): Promise<ScriptedProxy> {
  const seen: SeenConnect[] = [];
  const server = pair ? createHttps({ key: pair.keyPem, cert: pair.certPem }) : createHttp();
  server.on('connect', (request, client: Socket, head: Buffer) => {
    client.on('error', () => {});
    const target = request.url ?? '';
    const asked = { target, authorization: request.headers['proxy-authorization'] };
    seen.push(asked);
    script(asked, client, (early = '') => {
      const at = target.lastIndexOf(':');
      const upstream = connect(
        Number(target.slice(at + 1)),
        target.slice(0, at).replace(/^\[|\]$/g, ''),
        () => {
          client.write(`HTTP/1.1 200 Connection established\r\n\r\n${early}`);
          if (head.length > 0) upstream.write(head);
          client.pipe(upstream).pipe(client);
        },
      );
      upstream.on('error', () => client.destroy());
      client.on('close', () => upstream.destroy());
    });
  });
  const listening = await listen(server as HttpServer);
  return {
    port: listening.port,
    url: `${pair ? 'https' : 'http'}://127.0.0.1:${listening.port}`,
    seen,
    sockets: listening.sockets,
    cut: listening.cut,
    [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose](),
  };
}

/** A port on which nothing listens. */
export const closedPort = ownPort;
