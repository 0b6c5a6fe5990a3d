/**
 * The other end of the wire: a gateway made of the real tunnel client, an HTTP server as its agent and a
 * sync port in memory. Tests script what its agent answers and what it reports.
 */
import type http from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../src/base/clock.ts';
import { steadyClock } from './steady-clock.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Event, EventDraft } from '../../src/contract/events.ts';
import { createTunnelClient } from '../../src/tunnel/client.ts';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import { createTargetServer, httpTarget, openOf } from '../../src/tunnel/http.ts';
import type { Identity } from '../../src/tunnel/identity.ts';
import type { Paired } from '../../src/tunnel/pair-client.ts';
import type { GatewaySyncPort, OpenOptions, SyncDocument, SyncSnapshot } from '../../src/tunnel/ports.ts';
import { gatewayStatus } from './portal.ts';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
  readonly open: OpenOptions | undefined;
}

export interface AgentAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface FakeGateway extends AsyncDisposable {
  readonly documents: Map<string, SyncDocument>;
  readonly asked: Asked[];
  /** `POST /v1/x` -> status and body; unknown questions answer 404. */
  answer(question: string, status: number, body: unknown): void;
  /** The same, decided anew each time it is asked. */
  answerBy(question: string, decide: () => Promise<AgentAnswer>): void;
  report(kind: string, id: string, status: unknown): void;
  emit(draft: Omit<EventDraft, 'severity' | 'reason' | 'message'> & Partial<EventDraft>): Event;
  /** Serves `kube:<id>` or `maas:<id>` by this listener (with upgrades on the server itself). */
  target(name: string, listener: http.RequestListener): http.Server;
  /** Any bytes instead of HTTP. */
  raw(name: string, connect: (open: OpenOptions) => Duplex): void;
  document(kind: string, id: string, atLeast?: number): Promise<SyncDocument>;
  disconnect(): Promise<void>;
}

export async function connectGateway(
  identity: Identity,
  paired: Paired,
  options: { clock?: Clock; account?: string; caPem?: string } = {},
): Promise<FakeGateway> {
  const clock = options.clock ?? steadyClock;
  const documents = new Map<string, SyncDocument>();
  const snapshots = new Map<string, SyncSnapshot>();
  const revisions = new Map<string, number>();
  let events: Event[] = [];
  let seq = 0;
  const listeners = new Set<() => void>();
  const waiters = new Set<() => void>();
  const changed = () => {
    for (const listener of listeners) listener();
  };
  const sync: GatewaySyncPort = {
    known: async () => [...documents.values()].map(({ kind, id, generation }) => ({ kind, id, generation })),
    async apply(document) {
      const key = `${document.kind}/${document.id}`;
      if ((documents.get(key)?.generation ?? 0) >= document.generation) return 'stale';
      documents.set(key, document);
      for (const wake of waiters) wake();
      return 'applied';
    },
    current: () => {},
    pendingSnapshots: async () => [...snapshots.values()],
    pendingEvents: async (after, limit) => events.filter((event) => event.seq > after).slice(0, limit),
    oldestEventAt: async () => events[0] && Date.parse(events[0].time),
    async acknowledgeSnapshot(kind, id, revision) {
      if (snapshots.get(`${kind}/${id}`)?.revision === revision) snapshots.delete(`${kind}/${id}`);
    },
    async acknowledgeEvents(upTo) {
      events = events.filter((event) => event.seq > upTo);
    },
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  };

  const answers = new Map<string, () => Promise<AgentAnswer>>([
    ['GET /v1/quarantine', async () => ({ status: 200, body: [] })],
  ]);
  const unknownQuestion = async (): Promise<AgentAnswer> => ({ status: 404, body: {} });
  const asked: Asked[] = [];
  const agent = createTargetServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', async () => {
      const text = Buffer.concat(chunks).toString();
      const path = request.url ?? '';
      asked.push({
        method: request.method ?? '',
        path,
        body: text === '' ? undefined : JSON.parse(text),
        open: openOf(request),
      });
      const answer = await (answers.get(`${request.method} ${path}`) ?? unknownQuestion)();
      response.writeHead(answer.status, { 'content-type': 'application/json' });
      response.end(answer.body === undefined ? '' : JSON.stringify(answer.body));
    });
  });
  const targets = new Map<string, (open: OpenOptions) => Duplex>([
    ['agent', (open) => httpTarget(agent, open, steadyClock)],
  ]);
  const client = createTunnelClient({
    url: paired.tunnelUrl,
    gatewayId: paired.gatewayId,
    instanceId: 'one',
    identity,
    portalKey: paired.portalKey,
    caPem: options.caPem,
    sync,
    targets: async (open) => {
      const target = targets.get(open.target);
      if (!target) throw new StreamError(STREAM.DENIED);
      return target(open);
    },
    clock,
    log: silentLog,
    drainMs: 0,
  });
  const stop = new AbortController();
  const running = client.run(stop.signal, stop.signal);
  const gateway: FakeGateway = {
    documents,
    asked,
    answer: (question, status, body) => void answers.set(question, async () => ({ status, body })),
    answerBy: (question, decide) => void answers.set(question, decide),
    report(kind, id, status) {
      const key = `${kind}/${id}`;
      const revision = (revisions.get(key) ?? 0) + 1;
      revisions.set(key, revision);
      snapshots.set(key, { kind, id, revision, status });
      changed();
    },
    emit(draft) {
      seq += 1;
      const event: Event = {
        severity: 'info',
        reason: 'Happened',
        message: `event ${seq}`,
        ...draft,
        seq,
        time: new Date(clock.now()).toISOString(),
      };
      events.push(event);
      changed();
      return event;
    },
    target(name, listener) {
      const server = createTargetServer(listener);
      targets.set(name, (open) => httpTarget(server, open, steadyClock));
      return server;
    },
    raw: (name, connect) => void targets.set(name, connect),
    async document(kind, id, atLeast = 1) {
      for (;;) {
        const document = documents.get(`${kind}/${id}`);
        if (document && document.generation >= atLeast) return document;
        await new Promise<void>((resolve) => {
          const wake = () => {
            waiters.delete(wake);
            resolve();
          };
          waiters.add(wake);
        });
      }
    },
    async disconnect() {
      stop.abort(new Error('test'));
      await running;
    },
    async [Symbol.asyncDispose]() {
      await gateway.disconnect();
    },
  };
  gateway.report('gateway', paired.gatewayId, gatewayStatus(options.account ?? 'ca-site1'));
  return gateway;
}
