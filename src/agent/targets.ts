/**
 * What the portal may open through the tunnel: this agent's own API, a cloud account's MAAS (the gateway
 * signs), a cluster's API server (the gateway authenticates and impersonates), and TCP targets from the
 * site's allow-list. Proxies are made on first use and thrown away when what they were made from changes.
 */
import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import type { Clock } from '../base/clock.ts';
import { PcgError, toProblem } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ClusterEngine } from '../cluster/engine.ts';
import { ERROR_CODES } from '../contract/errors.ts';
import { STREAM, StreamError } from '../tunnel/codes.ts';
import { createTargetServer, httpTarget } from '../tunnel/http.ts';
import type { OpenOptions, TargetHandler } from '../tunnel/ports.ts';
import { createKubeProxy, createMaasProxy, type TargetProxy } from '../tunnel/target-proxies.ts';
import { createTcpTarget } from '../tunnel/tcp-target.ts';
import type { Accounts } from './accounts.ts';

export interface TargetsOptions {
  /** Answers target `agent`. */
  readonly api: FastifyInstance;
  readonly accounts: Accounts;
  readonly engine: ClusterEngine;
  readonly tcpAllow: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

export class Targets implements Disposable {
  readonly #options: TargetsOptions;
  readonly #proxies = new Map<string, { readonly basis: unknown; readonly proxy: TargetProxy }>();
  readonly #tcp: (target: string, signal: AbortSignal) => Promise<Duplex>;

  constructor(options: TargetsOptions) {
    this.#options = options;
    this.#tcp = createTcpTarget({ allow: options.tcpAllow, clock: options.clock });
  }

  /** Answers one OPEN; throws StreamError, or PcgError that the tunnel turns into a code. */
  readonly open: TargetHandler = async (open, signal) => {
    const [kind, rest] = splitTarget(open.target);
    switch (kind) {
      case 'agent':
        return httpTarget(this.#options.api.server, open, this.#options.clock);
      case 'maas':
      case 'kube': {
        // A refusal must reach the program that asks, so it is an HTTP answer and not a stream code.
        const server = await this.#proxy(kind, rest).then(({ server }) => server, refusing);
        return httpTarget(server, open, this.#options.clock);
      }
      case 'tcp':
        return this.#tcp(open.target, signal);
      default:
        throw new StreamError(STREAM.DENIED, `this gateway has no target "${kind}"`);
    }
  };

  [Symbol.dispose](): void {
    for (const { proxy } of this.#proxies.values()) proxy[Symbol.dispose]();
    this.#proxies.clear();
  }

  async #proxy(kind: 'maas' | 'kube', name: string): Promise<TargetProxy> {
    return kind === 'maas' ? this.#maas(name) : this.#kube(name);
  }

  #maas(accountId: string): TargetProxy {
    const { accounts, clock, log } = this.#options;
    const account = accounts.client(accountId);
    if (account instanceof PcgError) throw account;
    return this.#cached(`maas:${accountId}`, account, () =>
      createMaasProxy({
        endpoint: new URL(account.maas.apiUrl.replace(/api\/2\.0\/$/, '')),
        authorization: () => account.maas.signHeaders()['authorization'] ?? '',
        caPem: account.caPem,
        clock,
        log,
      }),
    );
  }

  async #kube(clusterId: string): Promise<TargetProxy> {
    const { engine, clock, log } = this.#options;
    const target = await engine.kubeTarget(clusterId);
    if (!target) {
      throw new PcgError('KUBE_UNREACHABLE', `cluster "${clusterId}" has no API server yet`, {
        fix: 'Wait until its control plane is initialised.',
      });
    }
    return this.#cached(`kube:${clusterId}`, `${target.server} ${target.certPem ?? ''}`, () =>
      createKubeProxy({ target, clock, log }),
    );
  }

  #cached(key: string, basis: unknown, make: () => TargetProxy): TargetProxy {
    const known = this.#proxies.get(key);
    if (known && known.basis === basis) return known.proxy;
    known?.proxy[Symbol.dispose]();
    const proxy = make();
    this.#proxies.set(key, { basis, proxy });
    return proxy;
  }
}

/** A server that answers every request with why there is no target. */
function refusing(error: unknown): Server {
  const problem = toProblem(error);
  return createTargetServer((_request, response) => {
    response.writeHead(ERROR_CODES[problem.code].http, {
      'content-type': 'application/json',
      connection: 'close',
    });
    response.end(JSON.stringify(problem));
  });
}

function splitTarget(target: OpenOptions['target']): [string, string] {
  const colon = target.indexOf(':');
  return colon < 0 ? [target, ''] : [target.slice(0, colon), target.slice(colon + 1)];
}
