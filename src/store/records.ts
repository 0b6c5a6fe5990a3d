/**
 * The port to durable records: small JSON values under (collection, key), each with a revision that grows
 * with every write. Implemented by `store/sqlite.ts` (one host) and `store/kubernetes.ts` (Secrets).
 * Invariant: when a call returns, the write is on disk.
 */

export interface StoredRecord<T = unknown> {
  readonly key: string;
  readonly value: T;
  readonly revision: number;
}

export interface Records {
  get<T>(collection: string, key: string): Promise<StoredRecord<T> | undefined>;
  /**
   * Writes the value. With `ifRevision` (0 = must not exist yet) only when the stored revision is that one,
   * else throws PcgError CONFLICT. Returns the new revision.
   */
  put<T>(collection: string, key: string, value: T, options?: { ifRevision?: number }): Promise<number>;
  /** true when something was deleted. */
  delete(collection: string, key: string): Promise<boolean>;
  /** Ordered by key. */
  list<T>(collection: string): Promise<StoredRecord<T>[]>;
  /** Called after each committed write in the collection (in this process). Dispose to stop. */
  watch(collection: string, listener: (key: string) => void): Disposable;
}

/** Names of the collections, so that a typing error does not compile. */
export const COLLECTIONS = {
  identity: 'identity', // key pair, gateway id, portal key
  documents: 'documents', // newest desired documents, key `<kind>/<id>`
  clusters: 'clusters', // working state of each cluster: nodes, PKI, endpoint, tasks
  accounts: 'accounts', // MAAS credentials per cloud account
  quarantine: 'quarantine', // machines not to be picked again for a time
  history: 'history', // durations of earlier tasks, for ETA
  settings: 'settings',
} as const;
