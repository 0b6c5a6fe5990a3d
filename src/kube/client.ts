/**
 * What the product asks of one Kubernetes API server. Raw JSON in and out: typed clients drop fields they
 * do not know. Implemented by `kube/http.ts` over undici with mTLS. Throws PcgError KUBE_*.
 */

/** Any Kubernetes object. Nothing of it is dropped. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    [key: string]: unknown;
  };
  [key: string]: unknown;
}

export interface KubeTarget {
  /** `https://10.20.0.10:6443` */
  readonly server: string;
  readonly caPem: string;
  readonly certPem?: string;
  readonly keyPem?: string;
  readonly token?: string;
  /** Name to verify instead of the host (e.g. when dialling a node address). */
  readonly serverName?: string;
  /** HTTP CONNECT proxy to the machine network, when the gateway has no route of its own. */
  readonly proxyUrl?: string;
}

export interface KubeRequest {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Absolute path with query, e.g. `/api/v1/nodes?limit=100`. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly timeoutMs?: number;
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: KubeObject }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface KubeClient {
  readonly target: KubeTarget;
  /** Status and parsed body; does not throw on HTTP status. */
  request(
    request: KubeRequest,
    signal: AbortSignal,
  ): Promise<{ status: number; body: unknown; headers: Record<string, string> }>;
  /** undefined on 404; other failures throw. */
  get(path: string, signal: AbortSignal): Promise<KubeObject | undefined>;
  /** All pages. */
  list(path: string, signal: AbortSignal): Promise<{ items: KubeObject[]; resourceVersion: string }>;
  /** Ends when the server closes; 410 throws KUBE_CONFLICT with details.status 410. */
  watch(path: string, resourceVersion: string, signal: AbortSignal): AsyncIterable<WatchEvent>;
  /** Server-side apply of one object. */
  apply(
    object: KubeObject,
    options: { fieldManager: string; force?: boolean; dryRun?: boolean },
    signal: AbortSignal,
  ): Promise<KubeObject>;
  create(object: KubeObject, signal: AbortSignal): Promise<KubeObject | 'exists'>;
  patch(
    path: string,
    patch: unknown,
    type: 'merge' | 'strategic' | 'json',
    signal: AbortSignal,
  ): Promise<KubeObject>;
  /** 404 counts as deleted. */
  delete(
    path: string,
    signal: AbortSignal,
    options?: { propagation?: 'Foreground' | 'Background' | 'Orphan' },
  ): Promise<void>;
  /** true when /readyz answers 200. */
  ready(signal: AbortSignal): Promise<boolean>;
  [Symbol.asyncDispose](): Promise<void>;
}
