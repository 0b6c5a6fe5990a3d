/**
 * A portal and a gateway joined by the real tunnel over real sockets in this process, with stores in memory.
 * What lies between them (a proxy, nothing) is the test's choice.
 */
import { createServer, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../src/base/clock.ts';
import { type Log, silentLog } from '../../src/base/log.ts';
import type { Event } from '../../src/contract/events.ts';
import { createTunnelServer, type TunnelServer, type TunnelServerOptions } from '../../src/tunnel/accept.ts';
import {
  createTunnelClient,
  type TunnelClient,
  type TunnelClientOptions,
  type TunnelState,
} from '../../src/tunnel/client.ts';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import { generateIdentity, type Identity } from '../../src/tunnel/identity.ts';
import type {
  GatewaySyncPort,
  PortalSyncPort,
  SyncDocument,
  SyncSnapshot,
  TargetHandler,
} from '../../src/tunnel/ports.ts';
import { ownPort } from './own-port.ts';
import { unhurriedClock } from './unhurried-clock.ts';
import { type Listening, listen } from './wire.ts';

type Outcome = 'applied' | 'stale' | { refused: string };

/** The agent's store, in memory, strict about the promises of the port. */
export class GatewayStore implements GatewaySyncPort {
  readonly documents = new Map<string, SyncDocument>();
  /** Every call of apply, in order. */
  readonly applied: SyncDocument[] = [];
  readonly snapshots = new Map<string, SyncSnapshot>();
  readonly acknowledgedSnapshots: SyncSnapshot[] = [];
  events: Event[] = [];
  acknowledgedSeq = 0;
  /** Called before each apply; may throw. */
  beforeApply: (document: SyncDocument) => void | Promise<void> = () => {};
  judge: (document: SyncDocument) => Outcome = () => 'applied';
  readonly #listeners = new Set<() => void>();

  async known() {
    return [...this.documents.values()].map(({ kind, id, generation }) => ({ kind, id, generation }));
  }

  async apply(document: SyncDocument): Promise<Outcome> {
    this.applied.push(document);
    await this.beforeApply(document);
    const key = `${document.kind}/${document.id}`;
    const current = this.documents.get(key);
    if (current && current.generation >= document.generation) return 'stale';
    const outcome = this.judge(document);
    if (outcome === 'applied') this.documents.set(key, document);
    return outcome;
  }

  /** Generations on disk each time that the portal said: this is all. */
  readonly currents: number[][] = [];

  current() {
    this.currents.push([...this.documents.values()].map(({ generation }) => generation));
  }

  async pendingSnapshots() {
    return [...this.snapshots.values()];
  }

  async pendingEvents(afterSeq: number, limit: number) {
    return this.events.filter((event) => event.seq > afterSeq).slice(0, limit);
  }

  async oldestEventAt() {
    const oldest = this.events.find(({ seq }) => seq > this.acknowledgedSeq);
    return oldest && Date.parse(oldest.time);
  }

  async acknowledgeSnapshot(kind: string, id: string, revision: number) {
    const pending = this.snapshots.get(`${kind}/${id}`);
    if (pending?.revision !== revision) return;
    this.snapshots.delete(`${kind}/${id}`);
    this.acknowledgedSnapshots.push(pending);
  }

  async acknowledgeEvents(seq: number) {
    this.acknowledgedSeq = Math.max(this.acknowledgedSeq, seq);
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  putSnapshot(kind: string, id: string, revision: number, status: unknown): void {
    this.snapshots.set(`${kind}/${id}`, { kind, id, revision, status });
    this.ring();
  }

  addEvents(count: number, extra: Partial<Event> = {}): void {
    for (let n = 0; n < count; n += 1) {
      const seq = (this.events.at(-1)?.seq ?? 0) + 1;
      const time = '2026-11-21T09:00:00.000Z';
      this.events.push({
        seq,
        time,
        severity: 'info',
        reason: 'NodeReady',
        message: `event ${seq}`,
        ...extra,
      });
    }
    this.ring();
  }

  ring(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** The portal's store for one gateway. */
export class PortalStore implements PortalSyncPort {
  readonly wanted = new Map<string, SyncDocument>();
  readonly acknowledged: { kind: string; id: string; generation: number; outcome: Outcome }[] = [];
  readonly snapshots: SyncSnapshot[] = [];
  readonly events: Event[] = [];
  /** Every event offered, duplicates included. */
  readonly offered: number[] = [];
  beforeStore: () => void | Promise<void> = () => {};
  judge: (snapshot: SyncSnapshot) => 'stored' | 'stale' | { refused: string } = () => 'stored';
  readonly #listeners = new Set<() => void>();

  async documents() {
    return [...this.wanted.values()];
  }

  async acknowledgeDocument(kind: string, id: string, generation: number, outcome: Outcome) {
    this.acknowledged.push({ kind, id, generation, outcome });
  }

  async putSnapshot(snapshot: SyncSnapshot) {
    await this.beforeStore();
    const outcome = this.judge(snapshot);
    if (outcome === 'stored') this.snapshots.push(snapshot);
    return outcome;
  }

  async appendEvents(events: readonly Event[]) {
    await this.beforeStore();
    for (const event of events) {
      this.offered.push(event.seq);
      if (event.seq === (this.events.at(-1)?.seq ?? 0) + 1) this.events.push(event);
    }
    return this.events.at(-1)?.seq ?? 0;
  }

  async lastEventSeq() {
    return this.events.at(-1)?.seq ?? 0;
  }

  onDocumentChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  want(kind: string, id: string, generation: number, spec: unknown): void {
    this.wanted.set(`${kind}/${id}`, { kind, id, generation, spec });
    for (const listener of this.#listeners) listener();
  }
}

export interface TestPortal extends AsyncDisposable {
  readonly identity: Identity;
  readonly server: TunnelServer;
  readonly listening: Listening<Server>;
  readonly url: string;
  readonly port: number;
  readonly gateways: Map<string, Identity>;
  readonly revoked: Set<string>;
  readonly stores: Map<string, PortalStore>;
  storeOf(gatewayId: string): PortalStore;
}

export interface PortalOptions {
  readonly clock?: Clock;
  readonly log?: Log;
  readonly identity?: Identity;
  readonly server?: Partial<TunnelServerOptions>;
  /** Continue with these stores, as a restarted portal does. */
  readonly before?: TestPortal;
  readonly http?: Server;
  readonly listenOn?: number;
}

export async function startPortal(options: PortalOptions = {}): Promise<TestPortal> {
  const identity = options.identity ?? options.before?.identity ?? generateIdentity();
  const gateways = options.before?.gateways ?? new Map<string, Identity>();
  const revoked = options.before?.revoked ?? new Set<string>();
  const stores = options.before?.stores ?? new Map<string, PortalStore>();
  const storeOf = (gatewayId: string): PortalStore => {
    let store = stores.get(gatewayId);
    if (!store) stores.set(gatewayId, (store = new PortalStore()));
    return store;
  };
  const server = createTunnelServer({
    identity,
    lookupGateway: async (id) => {
      if (revoked.has(id)) return 'revoked';
      const gateway = gateways.get(id);
      return gateway ? { publicKey: gateway.publicKey } : 'unknown';
    },
    syncFor: storeOf,
    targetsFor: () => echoTargets,
    clock: options.clock ?? unhurriedClock,
    log: options.log ?? silentLog,
    ...options.server,
  });
  const http = options.http ?? createServer((_request, response) => void response.writeHead(404).end());
  http.on('upgrade', (request, socket, head) => {
    if (!server.handleUpgrade(request, socket, head)) socket.destroy();
  });
  // Its own: a test may end this portal and start the next one on the same port.
  const listening = await listen(http, '127.0.0.1', options.listenOn ?? (await ownPort()));
  return {
    identity,
    server,
    listening,
    port: listening.port,
    url: `ws://127.0.0.1:${listening.port}/tunnel/v1`,
    gateways,
    revoked,
    stores,
    storeOf,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await listening[Symbol.asyncDispose]();
    },
  };
}

export interface TestGateway extends AsyncDisposable {
  readonly id: string;
  readonly identity: Identity;
  readonly client: TunnelClient;
  readonly store: GatewayStore;
  readonly states: TunnelState[];
  connected(): Promise<void>;
  stateIs(wanted: TunnelState['state']): Promise<TunnelState>;
  stop(): Promise<void>;
}

export interface GatewayOptions extends Partial<Omit<TunnelClientOptions, 'sync'>> {
  readonly id?: string;
  readonly store?: GatewayStore;
  /** Known to the portal; default true. */
  readonly registered?: boolean;
  /** The second stop signal; default: none. */
  readonly force?: AbortSignal;
}

export function startGateway(portal: TestPortal, options: GatewayOptions = {}): TestGateway {
  const { id = 'gw-1', store = new GatewayStore(), registered = true, force, ...rest } = options;
  const identity = rest.identity ?? portal.gateways.get(id) ?? generateIdentity();
  if (registered) portal.gateways.set(id, identity);
  const states: TunnelState[] = [];
  const watchers = new Set<(state: TunnelState) => void>();
  const client = createTunnelClient({
    url: portal.url,
    gatewayId: id,
    instanceId: 'node-1',
    portalKey: portal.identity.publicKey,
    sync: store,
    targets: echoTargets,
    clock: unhurriedClock,
    log: silentLog,
    drainMs: 1000,
    ...rest,
    identity,
    onState: (state) => {
      states.push(state);
      for (const watch of watchers) watch(state);
    },
  });
  const stopping = new AbortController();
  const running = client.run(stopping.signal, force);
  const stop = async (): Promise<void> => {
    stopping.abort(new Error('test over'));
    await running;
  };
  const stateIs = (wanted: TunnelState['state']): Promise<TunnelState> =>
    new Promise((resolve) => {
      const look = (state: TunnelState): void => {
        if (state.state !== wanted) return;
        watchers.delete(look);
        resolve(state);
      };
      watchers.add(look);
      look(client.state());
    });
  return {
    id,
    identity,
    client,
    store,
    states,
    stateIs,
    connected: async () => void (await stateIs('connected')),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Target `agent` and `portal` echo; everything else is denied. */
export const echoTargets: TargetHandler = async ({ target }) => {
  if (target !== 'agent' && target !== 'portal') throw new StreamError(STREAM.DENIED);
  const { PassThrough } = await import('node:stream');
  return new PassThrough();
};

/** Only ends a hang, before the test's own timeout does, which does not say what it waited for. */
const HANGS_MS = 600_000;

/** Polls a condition that other code brings about; `eventually` for those that answer later. */
export async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + HANGS_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never became true: ${condition.toString()}`);
    await new Promise<void>((resolve) => void setTimeout(resolve, 5));
  }
}

export async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
