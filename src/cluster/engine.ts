/**
 * The cluster engine: one run per cluster document, one observer and one allocation queue per MAAS account,
 * and the questions that agent and portal ask. Composition only; the life of a cluster is in reconcile.ts.
 */
import type { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Wake } from '../base/wake.ts';
import type { ExplainRequestSchema } from '../contract/api.ts';
import type { ClusterStatus } from '../contract/cluster.ts';
import type { KubeClient, KubeTarget } from '../kube/client.ts';
import { createEtcdClient } from '../kube/etcd.ts';
import { renderKubeconfig } from '../kube/kubeconfig.ts';
import { issueClientCertificate, type KeyAlgorithm } from '../kube/pki.ts';
import { isAddressTaken } from '../kube/probe.ts';
import { serverCertificateExpiry } from '../kube/server-certificate.ts';
import type { MaasClient } from '../maas/client.ts';
import type { MaasObserver } from '../maas/observer.ts';
import type { Outbox } from '../store/outbox.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';
import type { MakeEtcdClient } from './access.ts';
import { CandidateList } from './candidates.ts';
import type { AccountServices, EngineSite, SnapshotDoor } from './context.ts';
import type { PlacementReport } from './explain.ts';
import { createHistories } from './history.ts';
import { type ClusterRecord, endpointAddress } from './model.ts';
import type { Random } from './names.ts';
import { findOrphans, type Hunt, type Orphan, releaseOrphan } from './orphans.ts';
import { createAskOwned } from './owned.ts';
import { clearSpool } from './policies/snapshot.ts';
import { createQuarantine, type Quarantine, type QuarantineEntry } from './quarantine.ts';
import { ClusterRun, type RunDependencies } from './reconcile.ts';
import { checkSite } from './site-check.ts';
import type { Timings } from './timings.ts';

export interface EngineOptions {
  readonly records: Records;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly log: Log;
  readonly gatewayId: string;
  readonly accounts: {
    /** The running observer and client of a cloud account, or why there is none. */
    client(accountId: string): { readonly maas: MaasClient; readonly observer: MaasObserver } | PcgError;
  };
  readonly kube: (target: KubeTarget) => KubeClient;
  /** Doors to etcd; default: the JSON gateway over mTLS. */
  readonly etcd?: MakeEtcdClient;
  /** Looks at the machine network; default: TCP and TLS, through the machine proxy where there is one. */
  readonly isTaken?: RunDependencies['isTaken'];
  readonly certificateExpiry?: RunDependencies['certificateExpiry'];
  /** Of the keys that new clusters get; default: RSA-2048, as kubeadm. */
  readonly keyAlgorithm?: KeyAlgorithm;
  readonly site: EngineSite;
  /** Where snapshots of etcd stay when a cluster names no target; without it there are none. */
  readonly snapshots?: SnapshotDoor;
  readonly timings: Timings;
  readonly random?: Random;
  /** Position and reason while new clusters must wait (the gateway updates or resizes). */
  readonly queue?: (clusterId: string) => ClusterStatus['queue'];
}

export interface ClusterEngine {
  /** Runs every cluster until aborted; resolves after all runs have stopped. Never rejects. */
  run(signal: AbortSignal): Promise<void>;
  /** A document was written: looked at at once. */
  documentChanged(clusterId: string): void;
  explain(
    accountId: string,
    request: z.infer<typeof ExplainRequestSchema>,
    signal: AbortSignal,
  ): Promise<PlacementReport>;
  status(clusterId: string): ClusterStatus | undefined;
  clusters(): { id: string; name: string; phase: string; done: number; total: number; message: string }[];
  /** Admin credentials for the kube proxy; never to leave the gateway. */
  kubeTarget(clusterId: string): Promise<KubeTarget | undefined>;
  /** A kubeconfig that works directly in the site, without portal and gateway. */
  breakGlassKubeconfig(clusterId: string): Promise<string | undefined>;
  readonly quarantine: {
    list(accountId?: string): Promise<QuarantineEntry[]>;
    add(entry: { account: string; systemId: string; hostname: string; reason: string }): Promise<void>;
    remove(accountId: string, systemId: string): Promise<boolean>;
  };
  /** Machines in MAAS that carry this gateway's stamp and belong to no cluster it knows. */
  orphans(accountId: string, signal: AbortSignal): Promise<Orphan[]>;
  releaseOrphan(accountId: string, systemId: string, signal: AbortSignal): Promise<'released' | 'not-ours'>;
}

/** Life of a break-glass certificate: long enough for an outage, short enough to be forgotten safely. */
const BREAK_GLASS_MS = 24 * 60 * 60 * 1000;
/** Documents are looked for this often even when nobody rings. */
const RESCAN_MS = 30_000;

export function createClusterEngine(options: EngineOptions): ClusterEngine {
  return new Engine(options);
}

class Engine implements ClusterEngine {
  readonly #options: EngineOptions;
  readonly #runs = new Map<string, { run: ClusterRun; done: Promise<void> }>();
  readonly #accounts = new Map<string, AccountServices>();
  readonly #quarantine: Quarantine;
  readonly #history: RunDependencies['history'];
  readonly #random: Random;
  readonly #wake = new Wake();
  readonly quarantine: ClusterEngine['quarantine'];

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#quarantine = createQuarantine(options.records);
    this.#history = createHistories(options.records);
    const { clock, timings } = options;
    this.quarantine = {
      list: (accountId) => this.#quarantine.list(clock.now(), accountId),
      add: (entry) => this.#quarantine.add(entry, clock.now(), timings.quarantineMs),
      remove: (accountId, systemId) => this.#quarantine.remove(accountId, systemId),
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, records, snapshots } = this.#options;
    using _watch = records.watch(COLLECTIONS.documents, (key) => {
      const [kind, id] = key.split('/');
      if (kind === 'cluster' && id !== undefined) this.documentChanged(id);
    });
    if (snapshots) await clearSpool(snapshots, log);
    while (!signal.aborted) {
      try {
        await this.#startRuns(signal);
      } catch (error) {
        log.error({ error: describeError(error) }, 'cluster documents could not be read');
      }
      await this.#wake.wait(clock, RESCAN_MS, signal).catch(() => undefined); // rejects only when aborted
    }
    await Promise.allSettled([...this.#runs.values()].map(({ done }) => done));
  }

  documentChanged(clusterId: string): void {
    this.#runs.get(clusterId)?.run.ring();
    this.#wake.ring();
  }

  async #startRuns(signal: AbortSignal): Promise<void> {
    const { records } = this.#options;
    const documents = await records.list(COLLECTIONS.documents);
    const working = await records.list<ClusterRecord>(COLLECTIONS.clusters);
    const ids = new Set([
      ...documents.flatMap(({ key }) => (key.startsWith('cluster/') ? [key.slice('cluster/'.length)] : [])),
      ...working.map(({ key }) => key),
    ]);
    const known = new Set(working.map(({ key }) => key));
    const withdrawn = new Set(
      documents.flatMap(({ key, value }) =>
        (value as { spec: unknown }).spec === null ? [key.slice('cluster/'.length)] : [],
      ),
    );
    for (const id of ids) {
      if (this.#runs.has(id) || (withdrawn.has(id) && !known.has(id))) continue;
      const run = new ClusterRun(id, this.#dependencies());
      const done = run.run(signal).finally(() => this.#runs.delete(id));
      this.#runs.set(id, { run, done });
    }
  }

  #dependencies(): RunDependencies {
    const { records, outbox, clock, log, gatewayId, kube, site, timings, queue } = this.#options;
    return {
      records,
      outbox,
      clock,
      log,
      gatewayId,
      kube,
      etcd: this.#options.etcd ?? ((endpoints, through) => createEtcdClient(endpoints, through, { clock })),
      isTaken:
        this.#options.isTaken ??
        ((ip, port, signal) => isAddressTaken(ip, port, { clock, proxyUrl: site.machineProxyUrl }, signal)),
      certificateExpiry:
        this.#options.certificateExpiry ??
        ((target, signal) => serverCertificateExpiry(target, { clock }, signal)),
      keyAlgorithm: this.#options.keyAlgorithm,
      snapshots: this.#options.snapshots,
      site,
      timings,
      random: this.#random,
      quarantine: this.#quarantine,
      history: this.#history,
      account: (id) => this.#account(id),
      addressesInUse: (id) => this.#addressesInUse(id),
      queue: queue ?? (() => undefined),
    };
  }

  #account(id: string): AccountServices | PcgError {
    const { accounts, clock, timings } = this.#options;
    const connection = accounts.client(id);
    if (connection instanceof PcgError) return connection;
    const { maas, observer } = connection;
    const known = this.#accounts.get(id);
    // A changed API key makes a new client; its queue starts empty.
    if (known?.maas === maas) return known;
    const services: AccountServices = {
      id,
      maas,
      observer,
      candidates: new CandidateList(maas, clock, timings.candidatesMs),
      owned: createAskOwned(maas),
      eventMark: eventMark(maas, clock),
    };
    this.#accounts.set(id, services);
    return services;
  }

  async #addressesInUse(exceptCluster: string): Promise<ReadonlySet<string>> {
    const stored = await this.#options.records.list<ClusterRecord>(COLLECTIONS.clusters);
    return new Set(
      stored.flatMap(({ key, value }) => {
        if (key === exceptCluster) return [];
        const address = endpointAddress(value.endpoint)?.host;
        if (address !== undefined) return [address];
        return value.endpoint.kind === 'reserving' ? [value.endpoint.ip] : [];
      }),
    );
  }

  #mustAccount(id: string): AccountServices {
    const account = this.#account(id);
    if (account instanceof PcgError) throw account;
    return account;
  }

  async explain(
    accountId: string,
    request: z.infer<typeof ExplainRequestSchema>,
    signal: AbortSignal,
  ): Promise<PlacementReport> {
    const account = this.#mustAccount(accountId);
    const entries = await this.quarantine.list(accountId);
    const { report } = await checkSite(
      account.maas,
      account.candidates,
      {
        pools: request.pools,
        network: request.network,
        image: request.image,
        domain: request.domain,
        placed: new Map(),
      },
      new Map(entries.map((entry) => [entry.systemId, entry.reason])),
      request.hurried ? 'hurried' : 'thorough',
      signal,
    );
    return report;
  }

  status(clusterId: string): ClusterStatus | undefined {
    return this.#runs.get(clusterId)?.run.status;
  }

  clusters(): ReturnType<ClusterEngine['clusters']> {
    return [...this.#runs.values()].flatMap(({ run }) => {
      const { status, record } = run;
      if (!status) return [];
      const waiting = status.conditions.find(
        (condition) =>
          condition.status !== 'True' && condition.type !== 'Deleting' && condition.message !== '',
      );
      return [
        {
          id: run.id,
          name: record?.name ?? run.id,
          phase: status.phase,
          done: status.progress.done,
          total: status.progress.total,
          message: status.error?.message ?? (status.phase === 'Running' ? '' : (waiting?.message ?? '')),
        },
      ];
    });
  }

  async kubeTarget(clusterId: string): Promise<KubeTarget | undefined> {
    return await this.#runs.get(clusterId)?.run.kubeTarget();
  }

  async breakGlassKubeconfig(clusterId: string): Promise<string | undefined> {
    const record = this.#runs.get(clusterId)?.run.record;
    const endpoint = record && endpointAddress(record.endpoint);
    if (!record?.pki || !endpoint) return undefined;
    const credential = await issueClientCertificate(record.pki.ca, {
      commonName: 'break-glass',
      organizations: ['system:masters'],
      nowMs: this.#options.clock.now(),
      validityMs: BREAK_GLASS_MS,
    });
    const { machineProxyUrl } = this.#options.site;
    return renderKubeconfig({
      clusterName: record.name,
      user: 'break-glass',
      server: `https://${endpoint.host}:${endpoint.port}`,
      caPem: record.pki.ca.certPem,
      credential,
      ...(machineProxyUrl === undefined ? {} : { proxyUrl: machineProxyUrl }),
    });
  }

  #hunt(accountId: string): Hunt {
    const { records, gatewayId } = this.#options;
    return { gateway: gatewayId, records, account: this.#mustAccount(accountId) };
  }

  async orphans(accountId: string, signal: AbortSignal): Promise<Orphan[]> {
    return await findOrphans(this.#hunt(accountId), signal);
  }

  async releaseOrphan(
    accountId: string,
    systemId: string,
    signal: AbortSignal,
  ): Promise<'released' | 'not-ours'> {
    return await releaseOrphan(this.#hunt(accountId), systemId, signal);
  }
}

/** An event mark older than this may lie before a machine's earlier failure. */
const MARK_AGE_MS = 60_000;

function eventMark(maas: MaasClient, clock: Clock): (signal: AbortSignal) => Promise<number> {
  let mark: { id: number; at: number } | undefined;
  return async (signal) => {
    if (mark && clock.monotonic() - mark.at < MARK_AGE_MS) return mark.id;
    const events = await maas.events({ level: 'DEBUG', limit: 1 }, signal);
    mark = { id: events.at(-1)?.id ?? 0, at: clock.monotonic() };
    return mark.id;
  };
}
