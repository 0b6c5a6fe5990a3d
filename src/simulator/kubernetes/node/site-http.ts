/** HTTPS from one simulated machine to another: real TLS over the site network, so nothing can be skipped. */
import http from 'node:http';
import tls from 'node:tls';
import { once } from 'node:events';
import type { Json } from '../api/json.ts';
import type { SiteNetwork } from '../../ports.ts';

export interface SiteRequest {
  readonly ip: string;
  readonly port: number;
  /** Address of the machine that asks. */
  readonly from: string;
  /** undefined: the certificate is not verified (kubeadm's first look at cluster-info). */
  readonly caPem?: string | undefined;
  readonly serverName?: string;
  readonly certPem?: string;
  readonly keyPem?: string;
  readonly token?: string;
  readonly method?: string;
  readonly path: string;
  readonly body?: Json;
  readonly contentType?: string;
}

export interface SiteReply {
  readonly status: number;
  readonly body: Json;
  /** PEM of the server's certificate. */
  readonly serverCertPem: string;
}

/** Rejects with the error of the network or of TLS, as a Go client prints it where it matters. */
export async function siteRequest(
  network: SiteNetwork,
  request: SiteRequest,
  signal: AbortSignal,
): Promise<SiteReply> {
  const wire = await network.connect(request.ip, request.port, request.from);
  const abort = () => wire.destroy(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal.addEventListener('abort', abort, { once: true });
  const socket = tls.connect({
    socket: wire,
    servername: '',
    host: request.serverName ?? request.ip,
    rejectUnauthorized: request.caPem !== undefined,
    ...(request.caPem === undefined ? {} : { ca: request.caPem }),
    ...(request.certPem === undefined ? {} : { cert: request.certPem }),
    ...(request.keyPem === undefined ? {} : { key: request.keyPem }),
    ALPNProtocols: ['http/1.1'],
    checkServerIdentity: (_host, certificate) =>
      tls.checkServerIdentity(request.serverName ?? request.ip, certificate),
  });
  try {
    await once(socket, 'secureConnect');
    const raw = socket.getPeerCertificate().raw;
    const serverCertPem = `-----BEGIN CERTIFICATE-----\n${raw.toString('base64').replaceAll(/(.{64})/g, '$1\n')}\n-----END CERTIFICATE-----\n`;
    const payload = request.body === undefined ? undefined : JSON.stringify(request.body);
    const outgoing = http.request({
      method: request.method ?? 'GET',
      path: request.path,
      createConnection: () => socket,
      headers: {
        host: `${request.ip}:${request.port}`,
        'user-agent': 'kubeadm/v1 (linux/amd64) kubernetes',
        accept: 'application/json',
        connection: 'close',
        ...(request.token ? { authorization: `Bearer ${request.token}` } : {}),
        ...(payload === undefined
          ? {}
          : {
              'content-type': request.contentType ?? 'application/json',
              'content-length': Buffer.byteLength(payload),
            }),
      },
    });
    outgoing.end(payload);
    const [response] = (await once(outgoing, 'response')) as [http.IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('utf8');
    const isJson = (response.headers['content-type'] ?? '').includes('json');
    return { status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text, serverCertPem };
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
    wire.destroy();
  }
}
