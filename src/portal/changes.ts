/**
 * "Something changed", within this process: level-triggered notices without content, so that losing or
 * merging some is harmless. Writers notify after their transaction has committed.
 */

export type Change =
  | { readonly kind: 'documents'; readonly gateway: string }
  | { readonly kind: 'events' }
  | { readonly kind: 'cluster'; readonly id: string; readonly gateway: string }
  | { readonly kind: 'gateway'; readonly id: string }
  | { readonly kind: 'account'; readonly id: string }
  | { readonly kind: 'pairing-code'; readonly id: string };

export class Changes {
  readonly #listeners = new Set<(change: Change) => void>();

  notify(...changes: Change[]): void {
    for (const change of changes) for (const listener of this.#listeners) listener(change);
  }

  subscribe(listener: (change: Change) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
}
