/**
 * "Something changed", within this process: level-triggered notices without content, so that losing or
 * merging some is harmless. Writers notify after their transaction has committed.
 * Documents have a bell per gateway: thousands of tunnels listen, each for its own.
 */

export type Change =
  | { readonly kind: 'documents'; readonly gateway: string }
  | { readonly kind: 'events' }
  | { readonly kind: 'cluster'; readonly id: string; readonly gateway: string }
  | { readonly kind: 'gateway'; readonly id: string }
  | { readonly kind: 'account'; readonly id: string }
  | { readonly kind: 'pairing-code'; readonly id: string };

export type ShownChange = Exclude<Change, { kind: 'documents' }>;
export type ObjectChange = Exclude<ShownChange, { kind: 'events' }>;

export class Changes {
  readonly #shown = new Set<(change: ShownChange) => void>();
  readonly #documents = new Map<string, Set<() => void>>();

  notify(...changes: Change[]): void {
    for (const change of changes) {
      if (change.kind === 'documents')
        for (const listener of this.#documents.get(change.gateway) ?? []) listener();
      else for (const listener of this.#shown) listener(change);
    }
  }

  /** Everything that a person may be looking at. */
  subscribe(listener: (change: ShownChange) => void): Disposable {
    this.#shown.add(listener);
    return { [Symbol.dispose]: () => void this.#shown.delete(listener) };
  }

  /** New documents for one gateway. */
  onDocuments(gateway: string, listener: () => void): Disposable {
    const listeners = this.#documents.get(gateway) ?? new Set();
    this.#documents.set(gateway, listeners);
    listeners.add(listener);
    return {
      [Symbol.dispose]: () => {
        listeners.delete(listener);
        if (listeners.size === 0 && this.#documents.get(gateway) === listeners)
          this.#documents.delete(gateway);
      },
    };
  }
}
