/** How a joining machine reaches the endpoint: names resolved, each address tried, one connection kept per target. */
import type { Json } from '../api/json.ts';
import type { NodeContext } from './context.ts';
import { SiteClient, type SiteReply } from './site-http.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface Call {
  readonly path: string;
  /** undefined: without verification. */
  readonly caPem?: string;
  readonly token?: string;
  readonly method?: string;
  readonly body?: Json;
}

/** Pause between tries of a call that the network or the server broke, milliseconds of hardware time. */
const RETRY_MS = 2000;

export class Dialer implements Disposable {
  readonly #context: NodeContext;
  readonly #clients = new Map<string, SiteClient>();

  constructor(context: NodeContext) {
    this.#context = context;
  }

  /** One try. Rejects with the error of the last address that was tried. */
  async call(endpoint: Endpoint, request: Call): Promise<SiteReply> {
    const { site, machine, signal } = this.#context;
    const addresses = await site.resolve(endpoint.host);
    if (addresses.length === 0) throw new Error(`dial tcp: lookup ${endpoint.host}: no such host`);
    let failure: unknown;
    for (const ip of addresses) {
      const key = `${ip}:${endpoint.port} ${request.caPem === undefined ? 'insecure' : 'verified'}`;
      let client = this.#clients.get(key);
      if (!client) {
        const { caPem } = request;
        const target = { ip, port: endpoint.port, from: machine.ip, serverName: endpoint.host, caPem };
        client = new SiteClient(site.network, target);
        this.#clients.set(key, client);
      }
      try {
        return await client.request(request, signal);
      } catch (error) {
        signal.throwIfAborted();
        failure = error;
      }
    }
    throw failure;
  }

  /** Tries again while the server cannot be reached or fails, up to `limitMs` of hardware time. */
  async persist(endpoint: Endpoint, request: Call, limitMs: number): Promise<SiteReply> {
    const { site, signal } = this.#context;
    for (let waited = 0; ; waited += RETRY_MS) {
      try {
        const reply = await this.call(endpoint, request);
        if (reply.status < 500 || waited >= limitMs) return reply;
      } catch (error) {
        signal.throwIfAborted();
        if (waited >= limitMs) throw error;
      }
      await site.pace.sleep(RETRY_MS, signal);
    }
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) client[Symbol.dispose]();
    this.#clients.clear();
  }
}
