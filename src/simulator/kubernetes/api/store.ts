/**
 * What etcd holds for one cluster: objects by resource, one revision counter, a bounded history per resource
 * that watches resume from. Invariants: a stored object is never changed in place; every change has its own
 * revision; subscribers see changes in revision order, synchronously.
 */
import { randomUUID } from 'node:crypto';
import type { KubeObject } from './json.ts';

/** `group/plural`, e.g. `apps/deployments` and `/pods`. */
export type ResourceKey = string;

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: KubeObject;
  /** The object before, for selectors that it may have left. */
  readonly previous: KubeObject | undefined;
  readonly revision: number;
}

/** Changes kept per resource; older revisions answer 410 Gone, like a compacted etcd. */
const HISTORY_CHANGES = 1000;

interface Table {
  readonly objects: Map<string, KubeObject>;
  readonly history: Change[];
  readonly subscribers: Set<(change: Change) => void>;
  /** Revision up to which the history has been dropped. */
  compacted: number;
}

export const objectKey = (namespace: string | undefined, name: string) => `${namespace ?? ''}/${name}`;

export class ObjectStore {
  readonly #tables = new Map<ResourceKey, Table>();
  readonly #now: () => number;
  #revision = 1;

  constructor(now: () => number) {
    this.#now = now;
  }

  get revision(): number {
    return this.#revision;
  }

  #table(resource: ResourceKey): Table {
    let table = this.#tables.get(resource);
    if (!table) {
      table = { objects: new Map(), history: [], subscribers: new Set(), compacted: 0 };
      this.#tables.set(resource, table);
    }
    return table;
  }

  get(resource: ResourceKey, namespace: string | undefined, name: string): KubeObject | undefined {
    return this.#table(resource).objects.get(objectKey(namespace, name));
  }

  /** In key order, as etcd returns ranges. */
  list(resource: ResourceKey, namespace?: string): KubeObject[] {
    const { objects } = this.#table(resource);
    const keys = [...objects.keys()].sort();
    const wanted = namespace === undefined ? keys : keys.filter((key) => key.startsWith(`${namespace}/`));
    return wanted.map((key) => objects.get(key)).filter((object) => object !== undefined);
  }

  /** All objects of a resource, in no particular order; for controllers that look at everything. */
  values(resource: ResourceKey): IterableIterator<KubeObject> {
    return this.#table(resource).objects.values();
  }

  /** The same as an array, for those who change objects while they look at them. */
  all(resource: ResourceKey): KubeObject[] {
    return [...this.#table(resource).objects.values()];
  }

  count(resource: ResourceKey): number {
    return this.#table(resource).objects.size;
  }

  resources(): ResourceKey[] {
    return [...this.#tables.keys()];
  }

  /** Stores a new object (takes ownership of it). The caller has checked that the name is free. */
  create(resource: ResourceKey, object: KubeObject): KubeObject {
    const metadata = object.metadata;
    metadata.uid ??= randomUUID();
    metadata.creationTimestamp ??= new Date(this.#now()).toISOString().replace(/\.\d+Z$/, 'Z');
    return this.#put(resource, object, undefined);
  }

  /** Stores the next state of an existing object (takes ownership of it). */
  update(resource: ResourceKey, object: KubeObject): KubeObject {
    const { namespace, name } = object.metadata;
    return this.#put(resource, object, this.get(resource, namespace, name));
  }

  delete(resource: ResourceKey, namespace: string | undefined, name: string): KubeObject | undefined {
    const table = this.#table(resource);
    const key = objectKey(namespace, name);
    const previous = table.objects.get(key);
    if (!previous) return undefined;
    table.objects.delete(key);
    this.#revision += 1;
    const object = {
      ...previous,
      metadata: { ...previous.metadata, resourceVersion: String(this.#revision) },
    };
    this.#publish(table, { type: 'DELETED', object, previous, revision: this.#revision });
    return object;
  }

  #put(resource: ResourceKey, object: KubeObject, previous: KubeObject | undefined): KubeObject {
    const table = this.#table(resource);
    this.#revision += 1;
    object.metadata.resourceVersion = String(this.#revision);
    table.objects.set(objectKey(object.metadata.namespace, object.metadata.name), object);
    const type = previous ? 'MODIFIED' : 'ADDED';
    this.#publish(table, { type, object, previous, revision: this.#revision });
    return object;
  }

  #publish(table: Table, change: Change): void {
    table.history.push(change);
    if (table.history.length > HISTORY_CHANGES * 2) {
      const dropped = table.history.splice(0, table.history.length - HISTORY_CHANGES);
      table.compacted = dropped.at(-1)?.revision ?? table.compacted;
    }
    for (const subscriber of table.subscribers) subscriber(change);
  }

  /** Changes after `revision`, or undefined when they are no longer known (410 Gone). */
  since(resource: ResourceKey, revision: number): Change[] | undefined {
    const table = this.#table(resource);
    if (revision < table.compacted) return undefined;
    return table.history.filter((change) => change.revision > revision);
  }

  subscribe(resource: ResourceKey, subscriber: (change: Change) => void): Disposable {
    const { subscribers } = this.#table(resource);
    subscribers.add(subscriber);
    return { [Symbol.dispose]: () => void subscribers.delete(subscriber) };
  }

  /** Forgets all history, like an etcd compaction: every older resourceVersion is Gone. */
  compact(): void {
    for (const table of this.#tables.values()) {
      table.history.length = 0;
      table.compacted = this.#revision;
    }
  }
}
