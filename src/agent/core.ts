/**
 * The working half of the agent: waits for pairing, then runs cloud accounts, cluster engine, tunnel and the
 * gateway's own status, until the signal. One part's failure is logged and shown, and never ends the others.
 */
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Registry } from 'prom-client';
import { describeError, PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';
import { runForever } from '../base/loop.ts';
import { Wake } from '../base/wake.ts';
import { type ClusterEngine, createClusterEngine } from '../cluster/engine.ts';
import { type ClusterQueue, openQueue } from '../cluster/queue.ts';
import { DEFAULT_TIMINGS, scaleTimings } from '../cluster/timings.ts';
import type { AgentStatus } from '../contract/api.ts';
import type { GatewayStatus } from '../contract/gateway.ts';
import { createKubeClient } from '../kube/http.ts';
import type { Outbox } from '../store/outbox.ts';
import type { Records } from '../store/records.ts';
import { createTunnelClient, type TunnelClient } from '../tunnel/client.ts';
import type { Identity } from '../tunnel/identity.ts';
import { Accounts } from './accounts.ts';
import type { AgentOptions } from './agent.ts';
import { readPem } from './files.ts';
import { FirstSync } from './first-sync.ts';
import { loadOrCreateKeys, loadPairing, type Pairing } from './identity-store.ts';
import { siteSettings } from './site.ts';
import { createSyncPort } from './sync.ts';
import { createSystemdNotifier } from './systemd.ts';
import { Targets } from './targets.ts';

/** An unpaired agent looks this often whether `pcg pair` has been run, ms. */
const PAIRING_POLL_MS = 500;
/** The gateway's own snapshot goes up this often, ms: the portal's "last heartbeat". */
const STATUS_INTERVAL_MS = 30_000;
/** Changes of several accounts in a row make one snapshot. */
const STATUS_SPACING_MS = 50;
/** A full disk is not emptied by asking; nor shall the log of it fill another one. */
const STATUS_RETRY_MS = 5_000;

/** What exists once the gateway is paired. */
export interface CoreParts {
  readonly pairing: Pairing;
  readonly accounts: Accounts;
  readonly engine: ClusterEngine;
  readonly queue: ClusterQueue & Disposable;
  readonly tunnel: TunnelClient;
  readonly targets: Targets;
  readonly firstSync: FirstSync;
}

type State = { readonly kind: 'unpaired' } | { readonly kind: 'running'; readonly parts: CoreParts };

export class Core implements AsyncDisposable {
  readonly #options: AgentOptions;
  readonly #records: Records;
  readonly #outbox: Outbox;
  readonly #registry: Registry;
  readonly #startedAt: string;
  readonly #statusWake = new Wake();
  #state: State = { kind: 'unpaired' };
  #identity: Identity | undefined;
  #api: FastifyInstance | undefined;

  constructor(options: AgentOptions, records: Records, outbox: Outbox, registry: Registry) {
    this.#options = options;
    this.#records = records;
    this.#outbox = outbox;
    this.#registry = registry;
    this.#startedAt = new Date(options.clock.now()).toISOString();
  }

  /** The router that answers tunnel target `agent`. */
  serveThroughTunnel(api: FastifyInstance): void {
    this.#api = api;
  }

  /** Throws TEMPORARY while unpaired. */
  parts(): CoreParts {
    if (this.#state.kind === 'running') return this.#state.parts;
    throw new PcgError('TEMPORARY', 'this gateway is not paired yet', {
      fix: 'Run `pcg pair` with a code from the portal.',
    });
  }

  openSealed(sealed: string, context: string): Secret {
    if (!this.#identity) throw new PcgError('TEMPORARY', 'the gateway is still starting');
    return new Secret(this.#identity.open(sealed, context).toString('utf8'));
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, environment } = this.#options;
    using systemd = createSystemdNotifier({ environment, clock, log });
    this.#identity = await loadOrCreateKeys(this.#records);
    systemd.ready();
    systemd.status('waiting to be paired');
    if (!(await loadPairing(this.#records)))
      log.info({ stateDir: this.#options.settings.stateDir }, 'waiting to be paired: run pcg pair');
    const pairing = await this.#waitForPairing(signal);
    if (!pairing) return systemd.stopping();
    const parts = await this.#build(pairing, this.#identity, (text) => systemd.status(text));
    await using _accounts = parts.accounts;
    using _queue = parts.queue;
    using _targets = parts.targets;
    this.#state = { kind: 'running', parts };
    log.info({ gateway: pairing.gatewayId, portal: pairing.portalUrl }, 'agent running');
    await Promise.all([
      this.#lookAfterClusters(parts, signal),
      parts.tunnel.run(signal),
      this.#publishStatus(parts, signal),
    ]);
    systemd.stopping();
  }

  async #lookAfterClusters({ engine, firstSync }: CoreParts, signal: AbortSignal): Promise<void> {
    if (!(await firstSync.ready(signal))) return;
    await Promise.all([engine.run(signal), firstSync.keepMark(signal)]);
  }

  async status(): Promise<AgentStatus> {
    const { version } = this.#options;
    const outbox = {
      events: await this.#outbox.unacknowledgedEvents(),
      snapshots: (await this.#outbox.pendingSnapshots()).length,
      dropped: await this.#outbox.droppedEvents(),
    };
    const base = { version, startedAt: this.#startedAt, outbox };
    if (this.#state.kind === 'unpaired')
      return { ...base, tunnel: { state: 'unpaired' }, accounts: [], clusters: [] };
    const { pairing, accounts, engine, queue, tunnel, firstSync } = this.#state.parts;
    const { held } = firstSync;
    return {
      ...base,
      ...(held && { held: { since: iso(held.sinceMs), until: iso(held.untilMs) } }),
      ...(queue.held && { queue: queue.held }),
      gateway: { id: pairing.gatewayId, name: pairing.gatewayName, words: pairing.words },
      portalUrl: pairing.portalUrl,
      tunnel: tunnel.state(),
      accounts: accounts.list().map(({ id, endpoint, state }) => ({
        id,
        endpoint,
        state: state.kind,
        ...(state.kind === 'ready' ? { maasVersion: state.maasVersion } : {}),
        ...(state.kind === 'failed' ? { problem: state.problem } : {}),
      })),
      clusters: engine.clusters(),
    };
  }

  /** Clusters by phase, for metrics. */
  phases(): Record<string, number> {
    const counts: Record<string, number> = {};
    if (this.#state.kind === 'unpaired') return counts;
    for (const { phase } of this.#state.parts.engine.clusters()) {
      counts[phase] = (counts[phase] ?? 0) + 1;
    }
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#state = { kind: 'unpaired' };
  }

  async #waitForPairing(signal: AbortSignal): Promise<Pairing | undefined> {
    for (;;) {
      const pairing = await loadPairing(this.#records);
      if (pairing) return pairing;
      try {
        await this.#options.clock.sleep(PAIRING_POLL_MS, signal);
      } catch {
        return undefined; // only the signal ends a sleep early
      }
    }
  }

  async #build(pairing: Pairing, identity: Identity, showStatus: (text: string) => void): Promise<CoreParts> {
    const { settings, clock, log } = this.#options;
    const caPem = settings.caFile === undefined ? undefined : readPem(settings.caFile, 'caFile');
    let engine: ClusterEngine | undefined;
    const accounts = new Accounts({
      records: this.#records,
      clock,
      log,
      local: localAccount(this.#options, pairing.gatewayId),
      openSealed: (sealed, context) => this.openSealed(sealed, context),
      pollActiveMs: settings.pollActiveMs,
      pollIdleMs: settings.pollIdleMs,
      onChange: (accountId) => {
        log.debug({ account: accountId }, 'clusters of the account look again');
        for (const { id } of engine?.clusters() ?? []) engine?.documentChanged(id);
        this.#statusWake.ring();
      },
    });
    await accounts.start();
    const queue = await openQueue(this.#records, () => clock.now(), log);
    engine = createClusterEngine({
      records: this.#records,
      outbox: this.#outbox,
      clock,
      log,
      gatewayId: pairing.gatewayId,
      accounts,
      kube: (target) => createKubeClient(target, { clock, log }),
      site: siteSettings(settings, caPem),
      snapshots: {
        directory: join(settings.stateDir, 'snapshots'),
        open: (sealed, context) => this.openSealed(sealed, context).reveal(),
      },
      timings: scaleTimings(DEFAULT_TIMINGS, settings.simulatedSpeed),
      queue: (id) => queue.place(id),
    });
    const ready = engine;
    const firstSync = new FirstSync({ records: this.#records, outbox: this.#outbox, clock, log });
    const sync = createSyncPort({
      records: this.#records,
      outbox: this.#outbox,
      log,
      documentChanged: (kind, id) => {
        if (kind === 'cluster') ready.documentChanged(id);
        else if (kind === 'cloud-account') void accounts.documentChanged(id);
      },
      current: () => firstSync.current(),
    });
    if (!this.#api) throw new Error('serveThroughTunnel comes before run');
    const targets = new Targets({
      api: this.#api,
      accounts,
      engine: ready,
      tcpAllow: settings.tcpTargets,
      clock,
      log,
    });
    const tunnel = createTunnelClient({
      url: pairing.tunnelUrl,
      gatewayId: pairing.gatewayId,
      instanceId: this.#options.hostname,
      identity,
      portalKey: pairing.portalKey,
      proxy: { httpProxy: settings.httpProxy, httpsProxy: settings.httpsProxy, noProxy: settings.noProxy },
      caPem,
      sync,
      targets: targets.open,
      clock,
      log,
      registry: this.#registry,
      onState: (state) =>
        showStatus(
          state.state === 'connected'
            ? `connected since ${state.since}`
            : state.state === 'waiting'
              ? `reconnecting: ${state.cause.code}`
              : state.state,
        ),
    });
    return { pairing, accounts, engine: ready, queue, tunnel, targets, firstSync };
  }

  /** The gateway's own snapshot: at every change of an account and at least every half minute. */
  async #publishStatus(parts: CoreParts, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    await runForever({
      clock,
      signal,
      attempt: async () => {
        await this.#outbox.putSnapshot('gateway', parts.pairing.gatewayId, this.#gatewayStatus(parts));
        await this.#statusWake.wait(clock, STATUS_INTERVAL_MS, signal);
        return 'stored';
      },
      onError: (error) => {
        log.error({ error: describeError(error) }, 'gateway status not stored');
        return 'failed';
      },
      delayMs: (outcome) => (outcome === 'stored' ? STATUS_SPACING_MS : STATUS_RETRY_MS),
    });
  }

  #gatewayStatus({ accounts, engine }: CoreParts): GatewayStatus {
    const { version, hostname, clock } = this.#options;
    return {
      version,
      hostname,
      startedAt: this.#startedAt,
      observedAt: new Date(clock.now()).toISOString(),
      nodeVersion: process.version,
      accounts: accounts.list().flatMap(({ id, endpoint, state }) => {
        if (endpoint === '') return [];
        return [
          {
            id,
            endpoint,
            state: state.kind,
            message: state.kind === 'failed' ? state.problem.message : '',
            ...(state.kind === 'ready' ? { maasVersion: state.maasVersion } : {}),
            ...(state.kind === 'failed' ? { problem: state.problem } : {}),
          },
        ];
      }),
      nodes: [],
      clusters: engine.clusters().length,
      rssBytes: process.memoryUsage.rss(),
    };
  }
}

const iso = (ms: number): string => new Date(ms).toISOString();

/** The account of the settings, under an id that portal and gateway derive alike from the gateway's. */
function localAccount({ settings }: AgentOptions, gatewayId: string) {
  const { maasUrl, maasApiKey, maasCaFile } = settings;
  if (maasUrl === undefined || maasApiKey === undefined) return undefined;
  return {
    id: `ca-${gatewayId.replace(/^gw-/, '')}`,
    endpoint: maasUrl,
    apiKey: new Secret(maasApiKey),
    ...(maasCaFile === undefined ? {} : { caPem: readPem(maasCaFile, 'maasCaFile') }),
  };
}
