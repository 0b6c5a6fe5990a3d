/**
 * One end of one subject, as a process: the portal's end has a port at which the load knocks, the gateway's end
 * dials the target. Between them is the subject's own connection, which the gateway dials (of the plain relay:
 * the portal, once for each connection, because it has nothing else).
 */
import { createServer as createHttp } from 'node:http';
import * as h2 from 'node:http2';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import WebSocket, { createWebSocketStream, WebSocketServer } from 'ws';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLog } from '../../../src/base/log.ts';
import { createTunnelServer } from '../../../src/tunnel/accept.ts';
import { createTunnelClient } from '../../../src/tunnel/client.ts';
import { parseIdentity } from '../../../src/tunnel/identity.ts';
import { join } from '../../../src/tunnel/join.ts';
import type { SessionStream } from '../../../src/tunnel/stream.ts';
import { GatewayStore, PortalStore } from '../../support/tunnel-pair.ts';
import { serve } from './rpc.ts';
import { joinYamux, muxer } from './yamux.ts';

export interface EndSettings {
  readonly subject: 'pcg' | 'relay' | 'http2' | 'yamux';
  /** Where to listen; 0 = any port. */
  readonly host: string;
  readonly port: number;
  /** Where to dial. */
  readonly toHost: string;
  readonly toPort: number;
  readonly targetPort: number;
  readonly identity: string;
  readonly gatewayKey: string;
  readonly portalKey: string;
  /** PEM; the portal then listens with TLS. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
}

const H2_WINDOW_BYTES = 4 * 1024 * 1024;
const H2_SETTINGS = { initialWindowSize: H2_WINDOW_BYTES, maxConcurrentStreams: 5000 };
/** Of those that do not say themselves when to dial again. */
const RETRY_MS = 1000;
const GATEWAY = 'gw-bench';

const toTarget = (port: number): Socket =>
  connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });

function pair(a: Duplex, b: Duplex): void {
  a.pipe(b).pipe(a);
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on('error', () => {});
    one.on('close', () => other.destroy());
  }
}

async function listen(server: Server, host: string, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  return (server.address() as AddressInfo).port;
}

type OnFront = (socket: Socket) => void;

/** The port at which the load knocks. */
const front = (onSocket: OnFront): Promise<number> =>
  listen(
    createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
      socket.on('error', () => {});
      onSocket(socket);
    }),
    '127.0.0.1',
    0,
  );

/** Keeps one WebSocket alive, plainly. */
function redial(url: string, use: (socket: WebSocket) => void): void {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  socket.on('open', () => use(socket));
  socket.on('error', () => {});
  socket.on('close', () => setTimeout(() => redial(url, use), RETRY_MS));
}

async function portal(settings: EndSettings): Promise<{ carrierPort: number; frontPort: number }> {
  const { subject, host, port } = settings;
  if (subject === 'relay') {
    const frontPort = await front((socket) => {
      const far = connect({
        host: settings.toHost,
        port: settings.toPort,
        allowHalfOpen: true,
        noDelay: true,
      });
      pair(socket, far);
    });
    return { carrierPort: 0, frontPort };
  }
  const http = settings.tls ? createHttps(settings.tls) : createHttp();
  let onFront: OnFront = (socket) => void socket.destroy();
  if (subject === 'pcg') {
    const server = createTunnelServer({
      identity: parseIdentity(settings.identity),
      lookupGateway: async () => ({ publicKey: settings.gatewayKey }),
      syncFor: () => new PortalStore(),
      targetsFor: () => () => Promise.reject(new Error('nothing here')),
      clock: systemClock,
      log: silentLog,
    });
    http.on('upgrade', (request, socket, head) => void server.handleUpgrade(request, socket, head));
    onFront = (socket) => {
      server.roster
        .tunnel(GATEWAY)
        .open({ target: 'load' })
        .then(
          (stream) => join(stream as SessionStream, socket),
          () => socket.destroy(),
        );
    };
  } else {
    const webSockets = new WebSocketServer({ server: http, perMessageDeflate: false });
    webSockets.on('connection', (webSocket) => {
      webSocket.on('error', () => {});
      if (subject === 'http2') {
        const session = h2.connect('http://gateway', {
          createConnection: () => createWebSocketStream(webSocket) as Socket,
          settings: H2_SETTINGS,
        });
        session.on('error', () => {});
        session.on('connect', () => session.setLocalWindowSize(4 * H2_WINDOW_BYTES));
        onFront = (socket) => {
          if (session.destroyed || session.closed) return void socket.destroy();
          const stream = session.request({ ':method': 'POST', ':path': '/' }, { endStream: false });
          pair(stream, socket);
        };
      } else {
        const mux = muxer(webSocket, 'inbound');
        onFront = (socket) => {
          if (mux.status !== 'open') return void socket.destroy();
          Promise.resolve(mux.createStream()).then(
            (stream) => joinYamux(stream, socket),
            () => socket.destroy(),
          );
        };
      }
    });
  }
  const frontPort = await front((socket) => onFront(socket));
  return { carrierPort: await listen(http, host, port), frontPort };
}

async function gateway(settings: EndSettings): Promise<number> {
  const { subject, targetPort } = settings;
  const url = `${settings.tls ? 'wss' : 'ws'}://${settings.toHost}:${settings.toPort}`;
  if (subject === 'relay') {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      pair(socket, toTarget(targetPort)),
    );
    return listen(server, settings.host, settings.port);
  }
  if (subject === 'pcg') {
    const client = createTunnelClient({
      url: `${url}/tunnel/v1`,
      gatewayId: GATEWAY,
      instanceId: 'node-1',
      identity: parseIdentity(settings.identity),
      portalKey: settings.portalKey,
      caPem: settings.tls?.ca,
      sync: new GatewayStore(),
      targets: () =>
        new Promise((resolve, reject) => {
          const socket = toTarget(targetPort);
          socket.once('connect', () => resolve(socket.pause())).once('error', reject);
        }),
      clock: systemClock,
      log: silentLog,
    });
    void client.run(new AbortController().signal);
  } else if (subject === 'http2') {
    const server = h2.createServer({ settings: H2_SETTINGS });
    server.on('session', (session) => session.setLocalWindowSize(4 * H2_WINDOW_BYTES));
    server.on('sessionError', () => {});
    server.on('stream', (stream: h2.ServerHttp2Stream) => {
      stream.respond({ ':status': 200 });
      pair(stream, toTarget(targetPort));
    });
    redial(url, (webSocket) => void server.emit('connection', createWebSocketStream(webSocket)));
  } else {
    redial(url, (webSocket) => {
      const mux = muxer(webSocket, 'outbound');
      mux.addEventListener('stream', (event) => joinYamux(event.detail, toTarget(targetPort)));
    });
  }
  return 0;
}

process.on('uncaughtException', () => {});
process.on('unhandledRejection', () => {});
/** Only where it is asked for: the means to it is a flag of the engine. */
async function collect(): Promise<void> {
  const { liveMemory } = await import('../../support/live-memory.ts');
  await liveMemory();
}

serve({ portal, gateway, collect });
