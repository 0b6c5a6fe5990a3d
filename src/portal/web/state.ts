/**
 * What the page knows: signals filled by the API and kept fresh by the event stream. The page redraws from
 * this state and infers nothing.
 */
import { computed, effect, signal } from '@preact/signals';
import type { Role } from '../../contract/api.ts';
import type { CloudAccount } from '../../contract/cloud-account.ts';
import type { Cluster } from '../../contract/cluster.ts';
import type { Event } from '../../contract/events.ts';
import type { Gateway } from '../../contract/gateway.ts';
import type { Profile } from '../../contract/profile.ts';
import { api, whenSignedOut } from './api.ts';

export interface PairingCode {
  readonly id: string;
  readonly gatewayId: string;
  readonly gatewayName: string;
  readonly state: 'open' | 'paired' | 'expired' | 'revoked' | 'locked';
  readonly expiresAt: string;
}
export type FeedEvent = Event & { id: number; gateway: string };
export type Me = { email: string; role: Role };

/** undefined: not known yet. null: signed out. */
export const me = signal<Me | null | undefined>(undefined);
/** The session has ended under a page that is open: what is typed there stays until somebody signs in again. */
export const sessionEnded = signal(false);
export const clusters = signal<Cluster[] | undefined>(undefined);
export const deletedClusters = signal<Cluster[] | undefined>(undefined);
export const gateways = signal<Gateway[] | undefined>(undefined);
export const accounts = signal<CloudAccount[] | undefined>(undefined);
export const profiles = signal<Profile[] | undefined>(undefined);
export const codes = signal<ReadonlyMap<string, PairingCode>>(new Map());
/** Events of the cluster that is open, oldest first. */
export const clusterEvents = signal<FeedEvent[]>([]);
export const openCluster = signal<Cluster | undefined>(undefined);
/** The stream: what is shown may be old while it is away. */
export const live = signal<'connecting' | 'live' | 'away'>('connecting');
/** Portal time minus browser time, milliseconds: countdowns follow the portal's clock. */
export const clockOffset = signal(0);

const tick = signal(Date.now());
setInterval(() => {
  tick.value = Date.now();
}, 1000);
/** Portal time, redrawn every second. */
export const now = computed(() => tick.value + clockOffset.value);

export const canWrite = computed(() => me.value?.role !== 'viewer');
export const isTenantAdmin = computed(() => me.value?.role === 'tenant-admin');

export const theme = signal<'system' | 'light' | 'dark'>(readTheme());
effect(() => {
  document.documentElement.dataset['theme'] = theme.value;
  localStorage.setItem('pcg-theme', theme.value);
});
function readTheme(): 'system' | 'light' | 'dark' {
  const stored = localStorage.getItem('pcg-theme');
  return stored === 'light' || stored === 'dark' ? stored : 'system';
}

type List<T> = { items: T[] };

/** After a refused stream or an unanswered question. */
const RETRY_MS = 3000;

/** What the streams have told since lists were asked for, by its id: newer than the answer. */
interface Told {
  /** Also those that were deleted. */
  readonly clusters: Map<string, Cluster>;
  /** undefined: gone. */
  readonly gateways: Map<string, Gateway | undefined>;
}
/** Of each question for lists that is under way. */
const tellings = new Set<Told>();

async function askLists<T>(ask: () => Promise<T>): Promise<{ answer: T; told: Told }> {
  const told: Told = { clusters: new Map(), gateways: new Map() };
  tellings.add(told);
  try {
    return { answer: await ask(), told };
  } finally {
    tellings.delete(told);
  }
}

/** How often its own stream has told of the cluster that is open; the one of the lists begins and lags by itself. */
let timesTold = 0;

/**
 * Shows the answer to a question about the cluster that is open, unless its stream has told something newer meanwhile or
 * another cluster is open by now.
 */
export async function show(answer: Promise<Cluster>): Promise<Cluster> {
  const before = timesTold;
  const cluster = await answer;
  const shown = openCluster.value;
  if (shown?.id !== cluster.id) return cluster;
  // A newer generation than what was told is the answer's own doing; the stream will tell of it as well.
  if (timesTold === before || cluster.generation > shown.generation) openCluster.value = cluster;
  return cluster;
}

/** Who is signed in: null for nobody, undefined while the portal does not answer. */
async function whoAmI(): Promise<Me | null | undefined> {
  try {
    return (await api<{ user: Me | null }>('GET', '/session')).user;
  } catch {
    return undefined;
  }
}

/** Asks until the portal answers. */
export async function loadMe(): Promise<void> {
  for (;;) {
    const who = await whoAmI();
    if (who !== undefined) {
      me.value = who;
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}
whenSignedOut(() => {
  if (me.value) sessionEnded.value = true;
});

export async function loadLists(): Promise<void> {
  const { answer, told } = await askLists(() =>
    Promise.all([
      api<List<Cluster>>('GET', '/clusters'),
      api<List<Gateway>>('GET', '/gateways'),
      api<List<CloudAccount>>('GET', '/cloud-accounts'),
      api<List<Profile>>('GET', '/profiles'),
    ]),
  );
  const [clusterList, gatewayList, accountList, profileList] = answer;
  clusters.value = newest(clusterList.items, told.clusters).filter((cluster) => !isDeleted(cluster));
  gateways.value = newest(gatewayList.items, told.gateways);
  accounts.value = accountList.items;
  profiles.value = profileList.items;
}

export async function loadDeleted(): Promise<void> {
  const { answer, told } = await askLists(() => api<List<Cluster>>('GET', '/clusters?deleted=72h'));
  deletedClusters.value = newest(answer.items, told.clusters).filter(isDeleted);
}

/** Follows everything, or one cluster in detail. Call the result to stop. */
export function follow(clusterId: string | undefined): () => void {
  let source: EventSource | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let last = 0;
  let stopped = false;
  const connect = () => {
    // Events of one cluster are replayed from the first; the portal remembers the place by their ids.
    const query = clusterId === undefined ? '' : `?cluster=${clusterId}&after=${last}`;
    source = new EventSource(`/api/v1/feed${query}`);
    const on = <T>(type: string, handle: (data: T, id: string) => void) =>
      source?.addEventListener(type, (message) => handle(JSON.parse(message.data) as T, message.lastEventId));
    on<{ now: number }>('hello', (hello) => {
      clockOffset.value = hello.now - Date.now();
      live.value = 'live';
      void refresh(clusterId);
    });
    on<FeedEvent>('event', (event) => {
      if (event.id <= last) return;
      last = event.id;
      if (clusterId !== undefined) clusterEvents.value = [...clusterEvents.value, event];
    });
    on<Cluster>('cluster', (cluster) => {
      if (clusterId === undefined) return applyCluster(cluster);
      timesTold += 1;
      openCluster.value = cluster;
    });
    on<Gateway>('gateway', (gateway) => {
      for (const told of tellings) told.gateways.set(gateway.id, gateway);
      gateways.value = replace(gateways.value, gateway);
    });
    on<PairingCode>('pairing-code', (code) => {
      codes.value = new Map(codes.value).set(code.id, code);
    });
    on('account', () => void loadAccounts());
    on<{ kind: string; id: string }>('gone', ({ kind, id }) => {
      if (kind !== 'gateway') return;
      for (const told of tellings) told.gateways.set(id, undefined);
      gateways.value = gateways.value?.filter((gateway) => gateway.id !== id);
    });
    on('reset', () => void refresh(clusterId));
    source.addEventListener('error', () => {
      live.value = 'away';
      // The browser resumes by itself unless the answer was an error.
      if (source?.readyState === EventSource.CLOSED && !stopped) retry = setTimeout(resume, RETRY_MS);
    });
  };
  /** A stream that was refused: the portal is restarting, or the session has ended. */
  const resume = async () => {
    const who = await whoAmI();
    if (stopped) return;
    if (who === null) sessionEnded.value = true;
    if (who) connect();
    else retry = setTimeout(resume, RETRY_MS);
  };
  connect();
  return () => {
    stopped = true;
    clearTimeout(retry);
    source?.close();
  };
}

async function refresh(clusterId: string | undefined): Promise<void> {
  try {
    if (clusterId === undefined) await loadLists();
    else await show(api<Cluster>('GET', `/clusters/${clusterId}`));
  } catch {
    // The stream says when the portal is back; then it is read again.
  }
}

async function loadAccounts(): Promise<void> {
  accounts.value = (await api<List<CloudAccount>>('GET', '/cloud-accounts')).items;
}

const isDeleted = (cluster: Cluster): boolean => cluster.deletedAt !== undefined;

function applyCluster(cluster: Cluster): void {
  for (const told of tellings) told.clusters.set(cluster.id, cluster);
  if (!isDeleted(cluster)) {
    clusters.value = replace(clusters.value, cluster);
    return;
  }
  clusters.value = clusters.value?.filter(({ id }) => id !== cluster.id);
  if (deletedClusters.value) deletedClusters.value = replace(deletedClusters.value, cluster);
}

/** The items of an answer; of those that were told of since the question what was told, and those that came since. */
function newest<T extends { id: string }>(
  answer: readonly T[],
  told: ReadonlyMap<string, T | undefined>,
): T[] {
  const items = new Map<string, T | undefined>([...answer.map((item) => [item.id, item] as const), ...told]);
  return [...items.values()].filter((item) => item !== undefined);
}

function replace<T extends { id: string }>(list: T[] | undefined, item: T): T[] | undefined {
  if (!list) return list;
  const at = list.findIndex(({ id }) => id === item.id);
  return at < 0 ? [...list, item] : list.with(at, item);
}
