/**
 * Whole-product scenarios on living clusters: calls that outlive a portal that is away, one disturbance at a
 * time at a random moment, and a verdict on what was done to the nodes by the simulator's own books.
 */
import { randomUUID } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { request } from 'undici';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import type { Cluster, ClusterDocument, ClusterSpec } from '../../src/contract/cluster.ts';
import { DEFAULT_PROFILE } from '../../src/contract/default-profile.ts';
import { type Profile, ProfileSchema } from '../../src/contract/profile.ts';
import type { Moment } from '../../src/simulator/kubernetes/chronicle.ts';
import type { Departure } from '../../src/simulator/kubernetes/departures.ts';
import type { ClusterView } from '../../src/simulator/kubernetes/runtime.ts';
import { GIVE_UP_MS } from './eventually.ts';
import { type Allowed, breaches } from './invariants.ts';
import type { Site } from './site.ts';

const never = new AbortController().signal;
const SAMPLE_MS = 150;
const MOMENT_MAX_MS = 1_500;
const TROUBLE_MS = 1_500;
const MAAS_TROUBLE = ['http-502:0.15', 'http-503:0.1', 'lost-reply:0.1', 'http-409-retry-after:0.05'];

export type Action = ClusterDocument['actions'][number] extends infer One
  ? One extends { id: string }
    ? Omit<One, 'id'>
    : never
  : never;

/** Four pods that an eviction can move, and a budget that allows one at a time. */
const WORKLOAD = `apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 4
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers: [{ name: web, image: registry.example/web:1 }]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web, namespace: shop }
spec:
  maxUnavailable: 1
  selector: { matchLabels: { app: web } }
`;

export class DayTwo {
  readonly site: Site;
  /** When each cluster was complete for the first time, wall clock. */
  readonly #since = new Map<string, number>();
  disturbances = 0;
  /** Faults that belong to a scenario and outlive a disturbance. */
  readonly #standing = new Set<string>();
  #trouble: readonly string[] = [];
  #telling: Promise<unknown> = Promise.resolve();
  #turn: Promise<unknown> = Promise.resolve();
  /** The disturbance that has not begun yet. */
  #awaited: Promise<void> | undefined;

  constructor(site: Site) {
    this.site = site;
  }

  /** Asks again while the portal is away; its own answers, also refusals, end it. */
  async call<T>(
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<T> {
    for (;;) {
      try {
        return (await this.site.client.call(method, `/api/v1${path}`, body, never, headers)) as T;
      } catch (error) {
        if (error instanceof PcgError && !AWAY.has(error.code)) throw error;
        await systemClock.sleep(SAMPLE_MS);
      }
    }
  }

  cluster = (id: string): Promise<Cluster> => this.call('GET', `/clusters/${id}`);

  async addProfile(name: string): Promise<Profile> {
    const { id: _id, revision: _revision, ...rest } = DEFAULT_PROFILE;
    const workload = { layer: 'addon', name: 'shop', version: '1', manifests: WORKLOAD };
    return ProfileSchema.parse(
      await this.call('POST', '/profiles', { ...rest, name, packs: [...rest.packs, workload] }),
    );
  }

  async upgradeProfile(profile: Profile, kubernetesVersion: string): Promise<void> {
    const { id, ...rest } = profile;
    const packs = rest.packs.map((pack) =>
      pack.layer === 'kubernetes'
        ? { ...pack, version: kubernetesVersion.slice(1), kubernetesVersion }
        : pack,
    );
    await this.call('PUT', `/profiles/${id}`, { ...rest, packs });
  }

  /** Creates a cluster and does not wait. */
  async begin(spec: Parameters<Site['createCluster']>[0]): Promise<Cluster> {
    // The answer may be lost with the portal: the second request asks for the cluster of the first.
    return await this.call('POST', '/clusters', { spec }, { 'idempotency-key': randomUUID() });
  }

  async running(spec: Parameters<Site['createCluster']>[0]): Promise<Cluster> {
    const { id } = await this.begin(spec);
    const cluster = await this.until(id, 'Running', ({ status }) => status?.phase === 'Running');
    this.#since.set(cluster.spec.name, Date.now());
    return cluster;
  }

  async change(id: string, edit: (spec: ClusterSpec) => ClusterSpec): Promise<void> {
    for (;;) {
      const { generation, spec } = await this.cluster(id);
      try {
        await this.call('PUT', `/clusters/${id}/spec`, { generation, spec: edit(spec) });
        return;
      } catch (error) {
        // The answer to the first attempt was lost with the portal, and it had been taken.
        if (!(error instanceof PcgError && error.code === 'CONFLICT')) throw error;
      }
    }
  }

  resize(id: string, pool: string, size: number): Promise<void> {
    return this.change(id, (spec) => ({
      ...spec,
      pools: spec.pools.map((one) => (one.name === pool ? { ...one, size: size as 1 } : one)),
    }));
  }

  act(id: string, action: Action): Promise<unknown> {
    return this.call('POST', `/clusters/${id}/actions`, action);
  }

  /** Until the newest generation is answered and `reached`; a cluster that fails ends the wait at once. */
  async until(
    id: string,
    what: string,
    reached: (cluster: Cluster) => boolean | undefined,
    timeoutMs = 8 * GIVE_UP_MS,
  ): Promise<Cluster> {
    let last: Cluster | undefined;
    try {
      return await this.site.until(
        what,
        async () => {
          const cluster = await this.cluster(id);
          last = cluster;
          return (cluster.status?.observedGeneration ?? 0) >= cluster.generation && reached(cluster)
            ? cluster
            : undefined;
        },
        timeoutMs,
      );
    } catch (error) {
      const { phase, nodes, error: cause, rollout, conditions } = last?.status ?? {};
      throw new Error(
        `${last?.spec.name}: ${JSON.stringify({ phase, cause, rollout, conditions: conditions?.map((one) => `${one.type}=${one.status} ${one.message}`), nodes: nodes?.map((node) => `${node.name} ${node.systemId} ${node.phase} ${node.kubernetesVersion}`) })}; disturbed ${this.disturbances} times`,
        { cause: error },
      );
    }
  }

  settled(id: string, sizes: Record<string, number>): Promise<Cluster> {
    return this.until(
      id,
      `${JSON.stringify(sizes)} Running`,
      ({ status }) =>
        status?.phase === 'Running' &&
        status.nodes.every(({ phase }) => phase === 'Ready') &&
        Object.entries(sizes).every(
          ([pool, size]) => status.nodes.filter((node) => node.pool === pool).length === size,
        ),
    );
  }

  /** Deletes (or aborts, unless it is complete by now) and proves that MAAS has everything back. */
  async gone(cluster: Cluster, how: 'delete' | 'abort' = 'delete'): Promise<void> {
    const end = (way: 'delete' | 'abort') =>
      this.call(
        'POST',
        `/clusters/${cluster.id}/${way}`,
        way === 'delete' ? { confirm: cluster.spec.name } : {},
      );
    // The portal decides: a look before might be too old by the time that it is asked.
    await end(how).catch(async (error: unknown) => {
      if (how === 'delete' || !(error instanceof PcgError && error.code === 'CONFLICT')) throw error;
      if (!(await this.cluster(cluster.id)).provisioned) throw error;
      await end('delete');
    });
    await this.until(
      cluster.id,
      'Deleted',
      ({ deletedAt, status }) => deletedAt !== undefined || status?.phase === 'Deleted',
    );
    // Agent names are `<gateway>.<cluster>.<node>.<operation>`.
    const { leaked, doublyAllocated } = await this.site.ledger();
    const held = (leaked as { agentName: string }[]).filter(({ agentName }) =>
      agentName.split('.').includes(cluster.id),
    );
    if (held.length > 0 || doublyAllocated.length > 0)
      throw new Error(`${cluster.spec.name} left ${JSON.stringify({ held, doublyAllocated })}`);
  }

  /**
   * Everything at once at a random moment from now: MAAS fails, the portal is away, and the agent is killed and starts
   * again without it. It strikes all clusters, so whoever asks before it begins shares it. Resolves when it is over.
   */
  disturb(): Promise<void> {
    this.#awaited ??= this.#next(async () => {
      await systemClock.sleep(Math.random() * MOMENT_MAX_MS);
      this.#awaited = undefined;
      this.disturbances += 1;
      await this.#faults(() => (this.#trouble = MAAS_TROUBLE));
      await this.site.stopPortal();
      await this.site.killAgent();
      await this.site.startAgent();
      await systemClock.sleep(TROUBLE_MS);
      await this.site.startPortal();
      await this.#faults(() => (this.#trouble = []));
    });
    return this.#awaited;
  }

  /** One after the other. */
  #next(work: () => Promise<void>): Promise<void> {
    const next = this.#turn.then(work);
    this.#turn = next.catch(() => undefined);
    return next;
  }

  /** The portal is stopped, its books are turned back, and it starts again. */
  passTime(clusterId: string, ms: number): Promise<void> {
    return this.#next(async () => {
      await this.site.stopPortal();
      {
        using db = new DatabaseSync(join(this.site.directory, 'portal.db'));
        const row = db.prepare('select intent from clusters where id = ?').get(clusterId);
        const intent = JSON.parse(String(row?.['intent'])) as { requestedAt: string };
        const requestedAt = new Date(Date.parse(intent.requestedAt) - ms).toISOString();
        db.prepare('update clusters set intent = ? where id = ?').run(
          JSON.stringify({ ...intent, requestedAt }),
          clusterId,
        );
      }
      await this.site.startPortal();
    });
  }

  async fault(text: string): Promise<void> {
    await this.#faults(() => this.#standing.add(text));
  }

  async mend(text: string): Promise<void> {
    await this.#faults(() => this.#standing.delete(text));
  }

  /** One after the other: the simulator takes whole lists, and a list from before a change must not arrive after it. */
  async #faults(change: () => unknown): Promise<void> {
    const told = this.#telling.then(async () => {
      change();
      await this.simulator('PUT', 'faults', JSON.stringify([...this.#standing, ...this.#trouble]));
    });
    this.#telling = told.catch(() => undefined);
    await told;
  }

  async simulator<T>(method: 'GET' | 'POST' | 'PUT', what: string, body?: string): Promise<T> {
    const answer = await request(new URL(`/simulator/${what}`, this.site.maasUrl), {
      method,
      ...(body === undefined ? {} : { body }),
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 400) throw new Error(`simulator: ${answer.statusCode} ${text}`);
    return JSON.parse(text) as T;
  }

  books(): Promise<{ clusters: ClusterView[]; departures: Departure[] }> {
    return this.simulator('GET', 'clusters');
  }

  /** Nodes that Kubernetes still shows although the gateway holds no machine for them any more. */
  async leftNodes({ id, spec }: Cluster): Promise<string[]> {
    const [{ clusters }, { status }] = await Promise.all([this.books(), this.cluster(id)]);
    const held = new Set(status?.nodes.map(({ hostname }) => hostname));
    const shown = clusters.find(({ name }) => name === spec.name)?.nodes ?? [];
    return shown.flatMap(({ name }) => (held.has(name) ? [] : name));
  }

  /** Nodes of the cluster that stopped, without those that the test itself took the power from. */
  async departures(cluster: string, except: readonly string[] = []): Promise<Departure[]> {
    const { departures } = await this.books();
    return departures.filter((one) => one.cluster === cluster && !except.includes(one.systemId));
  }

  /** What went wrong with the cluster since it was complete, by the simulator's own chronicle. */
  async breaches(
    cluster: string,
    allowed: Omit<Allowed, 'cluster' | 'since' | 'broken'>,
    broken: readonly string[] = [],
  ): Promise<string[]> {
    const [{ departures }, moments] = await Promise.all([
      this.books(),
      this.simulator<Moment[]>('GET', 'moments'),
    ]);
    const hosts = departures
      .filter(({ systemId }) => broken.includes(systemId))
      .map(({ hostname }) => hostname);
    const since = this.#since.get(cluster) ?? 0;
    return breaches({ moments, departures }, { cluster, since, broken: hosts, ...allowed });
  }
}

/** The portal stops, is back and this client has not signed in yet, or the gateway has not come back to it. */
const AWAY: ReadonlySet<string> = new Set(['PORTAL_UNREACHABLE', 'UNAUTHENTICATED', 'GATEWAY_OFFLINE']);
