/**
 * R85: while the gateway itself is updated or resized, new clusters wait in line, oldest first, visible with
 * position and reason. The hold is a record, so it survives restarts; delete and abort pass it, and clusters
 * that already began go on.
 */
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ClusterStatus } from '../contract/cluster.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';
import type { ClusterRecord } from './model.ts';

const KEY = 'cluster-queue-hold';

export interface Hold {
  readonly reason: string;
  readonly since: string;
}

export interface ClusterQueue {
  /** New clusters wait from now on, for this reason. */
  hold(reason: string): Promise<void>;
  /** The line moves again. */
  resume(): Promise<void>;
  /** Why clusters wait and since when; undefined when they do not. */
  readonly held: Hold | undefined;
  /** Ids of the clusters that have not begun, oldest first. */
  readonly line: readonly string[];
  /** Place in line of a cluster that has not begun; undefined when it may go. */
  place(clusterId: string): ClusterStatus['queue'];
}

/**
 * `now`: wall clock in milliseconds. Re-reads the line whenever a cluster's record changes; when that fails the line
 * stays as it was and the next change reads it again. Throws what the store throws when it cannot be read at first.
 */
export async function openQueue(
  records: Records,
  now: () => number,
  log: Log,
): Promise<ClusterQueue & Disposable> {
  let hold = (await records.get<Hold>(COLLECTIONS.settings, KEY))?.value;
  let line: readonly string[] = [];
  const refresh = async () => {
    const stored = await records.list<ClusterRecord>(COLLECTIONS.clusters);
    line = waitingLine(stored.map(({ value }) => value));
  };
  await refresh();
  /** One after the other: an older reading never replaces a newer one. */
  let reading = Promise.resolve();
  const watch = records.watch(COLLECTIONS.clusters, () => {
    reading = reading.then(refresh).catch((error: unknown) => {
      log.error({ error: describeError(error) }, 'the line of waiting clusters could not be read');
    });
  });
  return {
    async hold(reason) {
      hold = { reason, since: new Date(now()).toISOString() };
      await records.put(COLLECTIONS.settings, KEY, hold);
    },
    async resume() {
      hold = undefined;
      await records.delete(COLLECTIONS.settings, KEY);
    },
    get held() {
      return hold;
    },
    get line() {
      return line;
    },
    place(clusterId) {
      if (!hold) return undefined;
      const index = line.indexOf(clusterId);
      return { position: index === -1 ? line.length + 1 : index + 1, reason: hold.reason };
    },
    [Symbol.dispose]: () => watch[Symbol.dispose](),
  };
}

/** Clusters that have not begun, oldest first. */
function waitingLine(records: readonly ClusterRecord[]): string[] {
  return records
    .filter((record) => record.stage.kind === 'provisioning' && record.pki === undefined)
    .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
    .map((record) => record.id);
}
