/**
 * The TLS door for kubectl of a portal that speaks plain HTTP: kubectl sends no credentials without TLS. The
 * certificate comes from the portal's own CA, made once and kept in the store (portals with one store share it);
 * kubeconfigs carry that CA. Only proxied paths are served here. A portal on https needs none of this.
 */
import type { ServerResponse } from 'node:http';
import https from 'node:https';
import { listenError } from '../base/listen-error.ts';
import { type AddressInfo, isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { describeError, PcgError } from '../base/errors.ts';
import { runForever } from '../base/loop.ts';
import { CA_VALIDITY_MS, type CertificatePair, createCa, issueServerCertificate } from '../kube/pki.ts';
import { isProxied, type Proxies } from './api/proxies.ts';
import type { Portal } from './portal.ts';
import { isUniqueViolation } from './store/open.ts';

export interface KubeAccess {
  /** `https://host:port` */
  readonly url: string;
  /** The CA to trust; without it the system's. */
  readonly caPem?: string;
  /** The name to verify, when it is not the URL's. */
  readonly serverName?: string;
}

export interface KubeListener extends AsyncDisposable {
  access(host: string): KubeAccess;
}

export interface KubeListenerOptions {
  readonly portal: Portal;
  readonly proxies: Proxies;
  readonly host: string;
  /** `near`: the next one if it is free, else any. */
  readonly port: number | { readonly near: number };
  readonly settings: https.ServerOptions;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** Renewed daily while the portal runs, so a month covers any outage of the loop. */
const CERTIFICATE_MS = 30 * DAY_MS;
/** In every certificate, for clients that come by an address which is not. */
const SERVER_NAME = 'pcg-portal';
const KEY = 'kube-ca';

export async function openKubeListener(options: KubeListenerOptions): Promise<KubeListener> {
  const { portal, proxies, host } = options;
  const ca = await loadCa(portal);
  const known = portal.knowsItsUrl ? bare(new URL(portal.publicUrl).hostname) : undefined;
  const names = ownNames(host, known);
  const certificate = async (): Promise<{ cert: string; key: string }> => {
    const { certPem, keyPem } = await issueServerCertificate(ca, {
      commonName: SERVER_NAME,
      dnsNames: names.filter((name) => !isIP(name)),
      ipAddresses: names.filter((name) => isIP(name)),
      nowMs: portal.clock.now(),
      validityMs: CERTIFICATE_MS,
    });
    return { cert: certPem, key: keyPem };
  };
  const absent = (response: ServerResponse): void =>
    void response
      .writeHead(404, { 'content-type': 'text/plain' })
      .end(`The portal is at ${portal.publicUrl}\n`);
  const server = https.createServer({ ...options.settings, ...(await certificate()) }, (request, response) =>
    isProxied(request.url) ? proxies.request(request, response) : absent(response),
  );
  server.on('checkContinue', (request, response) =>
    isProxied(request.url) ? proxies.checkContinue(request, response) : absent(response),
  );
  const raw = new Set<Duplex>();
  server.on('upgrade', (request, socket, head) => {
    raw.add(socket);
    // Node gives the socket away without a listener: a reset would end the process.
    socket.on('error', () => socket.destroy());
    socket.once('close', () => raw.delete(socket));
    if (isProxied(request.url)) return proxies.upgrade(request, socket, head);
    socket.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
  });
  await bind(server, options);
  const { port } = server.address() as AddressInfo;
  const stop = new AbortController();
  const renewing = runForever({
    clock: portal.clock,
    signal: stop.signal,
    attempt: async () => server.setSecureContext(await certificate()),
    onError: (error) =>
      portal.log.error({ error: describeError(error) }, "renewing kubectl's certificate failed"),
    delayMs: () => DAY_MS,
  });
  portal.log.info({ port }, 'TLS for kubectl ready');
  return {
    access(asked) {
      // A listener on all addresses does not know its name: its caller just used one that works.
      const name = known ?? (isWildcard(host) ? nameOf(asked) : host);
      return {
        url: `https://${name.includes(':') ? `[${name}]` : name}:${port}`,
        caPem: ca.certPem,
        ...(names.includes(name) ? {} : { serverName: SERVER_NAME }),
      };
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new PcgError('CANCELLED', 'the portal stops'));
      await renewing;
      for (const socket of raw) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

async function bind(server: https.Server, { host, port }: KubeListenerOptions): Promise<void> {
  const wanted =
    typeof port === 'number' ? port : port.near === 0 || port.near === 65_535 ? 0 : port.near + 1;
  try {
    await listen(server, host, wanted);
  } catch (cause) {
    if (typeof port === 'number' || wanted === 0)
      throw listenError(`${host}:${wanted} for kubectl`, 'kube-port', cause);
    await listen(server, host, 0);
  }
}

function listen(server: https.Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function loadCa({ db, clock }: Portal): Promise<CertificatePair> {
  const stored = async (): Promise<CertificatePair | undefined> => {
    const row = await db.selectFrom('settings').select('value').where('key', '=', KEY).executeTakeFirst();
    return row && (JSON.parse(row.value) as CertificatePair);
  };
  const existing = await stored();
  if (existing) return existing;
  const made = await createCa({
    commonName: 'PCG portal CA',
    algorithm: 'ecdsa-p256',
    nowMs: clock.now(),
    validityMs: CA_VALIDITY_MS,
  });
  try {
    await db
      .insertInto('settings')
      .values({ key: KEY, value: JSON.stringify(made) })
      .execute();
    return made;
  } catch (error) {
    // Another portal process on the same store was first.
    const theirs = isUniqueViolation(error) ? await stored() : undefined;
    if (!theirs) throw error;
    return theirs;
  }
}

function ownNames(host: string, publicName: string | undefined): string[] {
  const names = new Set(['localhost', '127.0.0.1', '::1', SERVER_NAME, hostname().toLowerCase()]);
  if (publicName !== undefined) names.add(publicName);
  if (!isWildcard(host)) names.add(host);
  else
    for (const { address, scopeid } of Object.values(networkInterfaces()).flatMap((list) => list ?? []))
      if (!scopeid) names.add(address);
  return [...names];
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** Of a Host header, without port. */
function nameOf(host: string): string {
  return URL.canParse(`http://${host}`) ? bare(new URL(`http://${host}`).hostname) : 'localhost';
}

function bare(name: string): string {
  return name.replace(/^\[|\]$/g, '');
}
