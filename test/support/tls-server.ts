/**
 * The other end of the wire for tests of the Kubernetes client: an HTTPS server with certificates of a throw-away
 * cluster PKI, and an HTTP CONNECT proxy that dials the server whatever address was asked for.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { KubeTarget } from '../../src/kube/client.ts';
import {
  type CertificatePair,
  type ClusterPki,
  createClusterPki,
  issueClientCertificate,
  issueServerCertificate,
} from '../../src/kube/pki.ts';

const HOUR_MS = 3_600_000;

let shared: Promise<ClusterPki> | undefined;
/** One PKI for all tests of a file; ECDSA, since nobody tests RSA's slowness here. */
export function testPki(): Promise<ClusterPki> {
  shared ??= createClusterPki({ nowMs: Date.now(), keyAlgorithm: 'ecdsa-p256' });
  return shared;
}

export async function clientPair(ca: CertificatePair, organizations: string[] = ['system:masters']) {
  return await issueClientCertificate(ca, {
    commonName: 'kubernetes-admin',
    organizations,
    nowMs: Date.now(),
    validityMs: HOUR_MS,
  });
}

export interface TlsServer extends AsyncDisposable {
  readonly port: number;
  readonly target: KubeTarget;
  /** TCP connections accepted so far. */
  connections(): number;
  /** Cuts every open connection. */
  cut(): void;
}

export async function startTlsServer(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
  options: { names?: string[]; issuedAtMs?: number } = {},
): Promise<TlsServer> {
  const pki = await testPki();
  const server = await issueServerCertificate(pki.ca, {
    commonName: 'kube-apiserver',
    dnsNames: options.names ?? ['localhost', 'kubernetes'],
    ipAddresses: ['127.0.0.1'],
    nowMs: options.issuedAtMs ?? Date.now(),
    validityMs: HOUR_MS,
  });
  const admin = await clientPair(pki.ca);
  const https = createTlsServer(
    {
      key: server.keyPem,
      cert: server.certPem,
      ca: pki.ca.certPem,
      requestCert: true,
      rejectUnauthorized: false,
    },
    handle,
  );
  const sockets = track(https);
  const port = await listen(https);
  return {
    port,
    target: {
      server: `https://127.0.0.1:${port}`,
      caPem: pki.ca.certPem,
      certPem: admin.certPem,
      keyPem: admin.keyPem,
    },
    connections: () => sockets.total(),
    cut: () => sockets.cut(),
    [Symbol.asyncDispose]: () => sockets.close(),
  };
}

/** CN of the verified client certificate, or undefined. */
export function clientName(request: IncomingMessage): string | undefined {
  const socket = request.socket as TLSSocket;
  return socket.authorized ? String(socket.getPeerCertificate().subject.CN) : undefined;
}

export interface ConnectProxy extends AsyncDisposable {
  readonly url: string;
  /** host:port of every CONNECT so far. */
  readonly asked: string[];
}

export async function startConnectProxy(
  route: (target: string, headers: IncomingMessage['headers']) => number | { status: number },
): Promise<ConnectProxy> {
  const asked: string[] = [];
  const proxy = createServer();
  const sockets = track(proxy);
  proxy.on('connect', (request: IncomingMessage, client: Socket, head: Buffer) => {
    asked.push(String(request.url));
    const to = route(String(request.url), request.headers);
    if (typeof to !== 'number') {
      client.end(`HTTP/1.1 ${to.status} refused\r\n\r\n`);
      return;
    }
    const upstream = connect(to, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 ok\r\n\r\n');
      upstream.write(head);
      client.pipe(upstream).pipe(client);
    });
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
  });
  const port = await listen(proxy);
  return { url: `http://127.0.0.1:${port}`, asked, [Symbol.asyncDispose]: () => sockets.close() };
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function track(server: Server) {
  const open = new Set<Socket>();
  let total = 0;
  server.on('connection', (socket: Socket) => {
    total += 1;
    open.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => open.delete(socket));
  });
  const cut = () => {
    for (const socket of open) socket.destroy();
  };
  return {
    total: () => total,
    cut,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      cut();
      await closed;
    },
  };
}
