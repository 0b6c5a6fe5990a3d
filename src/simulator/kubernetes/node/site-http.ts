/**
 * HTTPS from one simulated machine to another: real TLS over the site network, so nothing can be skipped.
 * One client keeps one connection, as kubeadm and kubelets do: a hundred joining machines must not shake hands
 * a thousand times.
 */
import { once } from 'node:events';
import http from 'node:http';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { SiteNetwork } from '../../ports.ts';
import type { Json } from '../api/json.ts';

export interface SiteTarget {
  readonly ip: string;
  readonly port: number;
  /** Address of the machine that asks. */
  readonly from: string;
  /** undefined: the certificate is not verified (kubeadm's first look at cluster-info). */
  readonly caPem?: string | undefined;
  readonly serverName?: string;
  readonly certPem?: string;
  readonly keyPem?: string;
}

export interface SiteRequest {
  readonly method?: string;
  readonly path: string;
  readonly token?: string;
  readonly body?: Json;
  readonly contentType?: string;
}

export interface SiteReply {
  readonly status: number;
  readonly body: Json;
}

export class SiteClient implements Disposable {
  readonly #network: SiteNetwork;
  readonly #target: SiteTarget;
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

  constructor(network: SiteNetwork, target: SiteTarget) {
    this.#network = network;
    this.#target = target;
    this.#agent.createConnection = (_options, done) => {
      void this.#connectFor(done ?? (() => {}));
      return undefined;
    };
  }

  async #connectFor(done: (error: Error | null, socket: Duplex) => void): Promise<void> {
    let socket: Duplex | undefined;
    let failure: Error | null = null;
    try {
      socket = await this.#connect();
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
    }
    done(failure, socket as Duplex);
  }

  async #connect(): Promise<Duplex> {
    const { ip, port, from, caPem, serverName, certPem, keyPem } = this.#target;
    const wire = await this.#network.connect(ip, port, from);
    const socket = tls.connect({
      socket: wire,
      servername: '',
      rejectUnauthorized: caPem !== undefined,
      ...(caPem === undefined ? {} : { ca: caPem }),
      ...(certPem === undefined ? {} : { cert: certPem }),
      ...(keyPem === undefined ? {} : { key: keyPem }),
      ALPNProtocols: ['http/1.1'],
      checkServerIdentity: (_host, certificate) => tls.checkServerIdentity(serverName ?? ip, certificate),
    });
    socket.once('close', () => wire.destroy());
    try {
      await once(socket, 'secureConnect');
    } catch (error) {
      wire.destroy();
      throw error;
    }
    return socket;
  }

  /** Rejects with the error of the network or of TLS. */
  async request(request: SiteRequest, signal: AbortSignal): Promise<SiteReply> {
    const payload = request.body === undefined ? undefined : JSON.stringify(request.body);
    const outgoing = http.request({
      agent: this.#agent,
      signal,
      method: request.method ?? 'GET',
      path: request.path,
      headers: {
        host: `${this.#target.ip}:${this.#target.port}`,
        'user-agent': 'kubeadm/v1 (linux/amd64) kubernetes',
        accept: 'application/json',
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
    return { status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text };
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** One request on a connection of its own. */
export async function siteRequest(
  network: SiteNetwork,
  request: SiteTarget & SiteRequest,
  signal: AbortSignal,
): Promise<SiteReply> {
  using client = new SiteClient(network, request);
  return await client.request(request, signal);
}
