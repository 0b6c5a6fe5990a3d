/**
 * Starts the portal: one listener for the API, the page, the gateways' tunnels and the proxied programs.
 * The only file of the portal that builds the parts; all of them share one `Portal` record.
 */
import http, { type RequestListener, type Server } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { listenError } from '../base/listen-error.ts';
import type { Log, Secret } from '../base/log.ts';
import { createProxies, isProxied } from './api/proxies.ts';
import { createApp } from './api/routes.ts';
import { Auth } from './auth.ts';
import { Changes } from './changes.ts';
import { loadIdentity } from './identity.ts';
import { type KubeListener, openKubeListener } from './kube-listener.ts';
import { DEFAULT_LIMITS, type PortalLimits } from './limits.ts';
import { createMetrics } from './metrics.ts';
import type { Portal } from './portal.ts';
import { seedProfiles } from './profiles.ts';
import { openStore, type StoreOptions } from './store/open.ts';
import { sweepForever } from './sweep.ts';
import { TUNNEL_PATH } from '../tunnel/accept.ts';
import { isCarriedUpgrade } from '../tunnel/upgrade-exchange.ts';
import { acquireProcessLock } from '../store/sqlite.ts';
import { readTlsFiles, type TlsFiles, watchTlsFiles } from './tls-files.ts';
import { openTunnels } from './tunnels.ts';
import { findPage } from './web-files.ts';

export interface PortalOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** With a pair the portal speaks HTTPS itself. The CA is of its https address, when that is a private one: kubeconfigs carry it. */
  readonly tls?: TlsFiles;
  /** Of the TLS listener for kubectl that a portal on plain HTTP has; 0 = any free port; default: `port` + 1. */
  readonly kubePort?: number;
  readonly store: StoreOptions;
  /** As users and gateways reach it; default: host and port of the listener. */
  readonly publicUrl?: string;
  /** Without a password one is made at the first start and returned as `generatedPassword`. */
  readonly admin: { readonly email: string; readonly password?: Secret };
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<PortalLimits>;
  readonly trustProxy?: boolean;
  /** false: API only. */
  readonly page?: boolean;
}

export interface RunningPortal extends AsyncDisposable {
  readonly url: string;
  readonly tunnelUrl: string;
  /** Base of the addresses in kubeconfigs. */
  readonly kubeUrl: string;
  readonly generatedPassword: Secret | undefined;
  /** Looks at the files of `tls` at once instead of within ten seconds. Never rejects. */
  reloadTls(): Promise<void>;
}

/** A request's head must be there within this time; bodies and answers may take as long as they move. */
const HEADERS_TIMEOUT_MS = 30_000;
const TCP_KEEP_ALIVE_MS = 30_000;
const KEEP_ALIVE_MS = 72_000;
/** Longer than the usual 16 KiB: kubectl may send long tokens and many SPDY headers. */
const MAX_HEADER_BYTES = 32 * 1024;
const SERVER_SETTINGS = {
  keepAliveTimeout: KEEP_ALIVE_MS,
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: 0,
  // Upgraded connections may be silent for hours; a vanished peer is noticed all the same.
  keepAlive: true,
  keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
  maxHeaderSize: MAX_HEADER_BYTES,
  shouldUpgradeCallback: isCarriedUpgrade,
} as const;

export async function startPortal(options: PortalOptions): Promise<RunningPortal> {
  await using stack = new AsyncDisposableStack();
  const { clock, log } = options;
  const limits: PortalLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const stop = new AbortController();
  const tlsFiles = options.tls ?? {};
  const tlsAtStart = await readTlsFiles(tlsFiles);

  if (options.store.kind === 'sqlite' && options.store.path !== ':memory:')
    stack.use(
      acquireProcessLock(
        `${options.store.path}.lock`,
        'Stop the other portal, or give this one a store of its own (--store). Several portals share one PostgreSQL.',
      ),
    );
  const db = await openStore(options.store);
  stack.defer(() => db.destroy());
  const auth = new Auth(db, clock, limits);
  const generatedPassword = await auth.ensureAdmin(options.admin);
  const changes = new Changes();
  const metrics = createMetrics();
  const identity = await loadIdentity(db);
  const secured: { server?: https.Server } = {};
  const tls = stack.use(
    watchTlsFiles({
      files: tlsFiles,
      material: tlsAtStart,
      clock,
      log,
      metrics,
      // New handshakes; connections that are there stay.
      use: (pair) => secured.server?.setSecureContext(pair),
    }),
  );
  const address = { url: options.publicUrl?.replace(/\/+$/, '') ?? '' };
  const tunnels = await openTunnels({
    db,
    clock,
    log,
    limits,
    changes,
    identity,
    metrics,
    trustProxy: options.trustProxy ?? false,
  });
  let kube: KubeListener | undefined;
  const portal: Portal = {
    db,
    clock,
    log,
    limits,
    changes,
    auth,
    identity,
    metrics,
    links: tunnels.links,
    knowsItsUrl: options.publicUrl !== undefined,
    get publicUrl() {
      return address.url;
    },
    kubeAccess: (host) =>
      kube?.access(host) ?? {
        url: address.url,
        ...(tls.material.ca === undefined ? {} : { caPem: tls.material.ca }),
      },
    get tunnelUrl() {
      return `${address.url.replace(/^http/, 'ws')}${TUNNEL_PATH}`;
    },
  };
  await seedProfiles(portal);

  const proxies = createProxies(portal);
  const page = options.page === false ? undefined : await findPage(log);
  const raw = new Set<Duplex>();
  const serverFactory = (listener: RequestListener): Server => {
    const handle: RequestListener = (request, response) =>
      isProxied(request.url) ? proxies.request(request, response) : listener(request, response);
    const { pair } = tls.material;
    if (pair) secured.server = https.createServer({ ...SERVER_SETTINGS, ...pair }, handle);
    const server =
      (secured.server as unknown as Server | undefined) ?? http.createServer(SERVER_SETTINGS, handle);
    server.on('checkContinue', (request, response) => {
      if (isProxied(request.url)) return proxies.checkContinue(request, response);
      response.writeContinue();
      listener(request, response);
    });
    server.on('upgrade', (request, socket, head) => {
      raw.add(socket);
      // Node gives the socket away without a listener: a reset would end the process.
      socket.on('error', () => socket.destroy());
      socket.once('close', () => raw.delete(socket));
      if (tunnels.handleUpgrade(request, socket, head)) return;
      if (isProxied(request.url)) return proxies.upgrade(request, socket, head);
      socket.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    });
    return server;
  };
  const app = await createApp(portal, {
    serverFactory,
    stopped: stop.signal,
    page,
    trustProxy: options.trustProxy ?? false,
    version: '0.1.0',
  });
  stack.defer(async () => {
    for (const socket of raw) socket.destroy();
    await close(app.server);
    await app.close();
  });
  // Tunnels end before the listener: gateways are told when to come back.
  stack.use(tunnels);
  await listen(app.server, options);
  const { port } = app.server.address() as AddressInfo;
  const scheme = secured.server ? 'https' : 'http';
  const shownHost = options.host.includes(':') ? `[${options.host}]` : options.host;
  if (address.url === '') address.url = `${scheme}://${shownHost}:${port}`;

  if (!address.url.startsWith('https:')) {
    kube = stack.use(
      await openKubeListener({
        portal,
        proxies,
        host: options.host,
        port: options.kubePort ?? { near: options.port },
        settings: SERVER_SETTINGS,
      }),
    );
  }

  const sweeping = sweepForever(portal, stop.signal);
  stack.defer(async () => {
    stop.abort(new PcgError('CANCELLED', 'the portal stops'));
    await sweeping;
  });
  log.info({ url: portal.publicUrl, store: options.store.kind }, 'portal ready');
  const running = stack.move();
  return {
    url: portal.publicUrl,
    tunnelUrl: portal.tunnelUrl,
    kubeUrl: portal.kubeAccess(new URL(portal.publicUrl).host).url,
    generatedPassword,
    reloadTls: () => tls.look(),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function listen(server: Server, options: PortalOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(listenError(`${options.host}:${options.port}`, 'port', cause)));
    server.listen(options.port, options.host, () => resolve());
  });
}

/** Watches and event streams never end by themselves: they are cut. */
function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
