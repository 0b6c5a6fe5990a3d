/**
 * Watches: newline-delimited events from a revision on, with bookmarks, until timeoutSeconds, a slow reader
 * or the end of the server. A revision that has been compacted answers 410 Gone.
 */
import type { ServerResponse } from 'node:http';
import type { Clock } from '../../../base/clock.ts';
import type { Json, KubeObject } from './json.ts';
import type { ListQuery, Objects } from './objects.ts';
import type { ResourceType } from './resources.ts';
import { gone } from './status.ts';
import type { Change } from './store.ts';

/** A reader that leaves this much unread is cut off, as the real server cuts slow watchers. */
const MAX_UNREAD_BYTES = 8 * 1024 * 1024;
/** The real server sends a bookmark about once a minute. */
const BOOKMARK_MS = 60_000;
/** Without timeoutSeconds the real server ends a watch after 30 to 60 minutes. */
const DEFAULT_TIMEOUT_MS = 1_800_000;

export interface WatchOptions extends ListQuery {
  readonly resourceVersion: string | null;
  readonly timeoutSeconds: number | undefined;
  readonly bookmarks: boolean;
  readonly sendInitialEvents: boolean;
  /** Turns an object into what the client asked for (a table row, metadata only, or itself). */
  readonly render: (object: KubeObject) => Json;
}

/** Takes over the response. Throws a 410 Status before anything was sent when the revision is too old. */
export function serveWatch(
  objects: Objects,
  type: ResourceType,
  response: ServerResponse,
  clock: Clock,
  options: WatchOptions,
): void {
  const { store } = objects;
  const test = objects.selection(type, options);
  const version = options.resourceVersion;
  const fromNow = version === null || version === '' || version === '0';
  const initial = fromNow || options.sendInitialEvents;
  let backlog: Change[] = [];
  if (!initial) {
    const since = store.since(type.storage, Number(version));
    if (since === undefined) throw gone(`too old resource version: ${version} (${store.revision})`);
    backlog = since;
  }
  response.writeHead(200, {
    'content-type': 'application/json;stream=watch',
    'cache-control': 'no-cache, private',
  });
  response.flushHeaders();

  const resources = new DisposableStack();
  const end = () => {
    resources.dispose();
    response.end();
  };
  response.on('close', () => resources.dispose());
  const send = (kind: string, object: Json) => {
    response.write(`${JSON.stringify({ type: kind, object })}\n`);
    if (response.writableLength > MAX_UNREAD_BYTES) end();
  };
  const apiVersion = type.group ? `${type.group}/${type.version}` : type.version;
  const bookmark = (annotations?: Record<string, string>) =>
    send('BOOKMARK', {
      kind: type.kind,
      apiVersion,
      metadata: {
        resourceVersion: String(store.revision),
        creationTimestamp: null,
        ...(annotations ? { annotations } : {}),
      },
      ...(type.group === '' && (type.kind === 'Pod' || type.kind === 'Node') ? { spec: {}, status: {} } : {}),
    });
  const forward = (change: Change) => {
    const now = test(change.object);
    const before = change.previous !== undefined && test(change.previous);
    if (change.type === 'DELETED') {
      if (before) send('DELETED', options.render(change.object));
    } else if (now) send(before ? 'MODIFIED' : 'ADDED', options.render(change.object));
    else if (before)
      send(
        'DELETED',
        options.render({
          ...(change.previous as KubeObject),
          metadata: { ...(change.previous as KubeObject).metadata, resourceVersion: String(change.revision) },
        }),
      );
  };

  resources.use(store.subscribe(type.storage, forward));
  if (initial) {
    for (const object of store.list(type.storage, options.namespace))
      if (test(object)) send('ADDED', options.render(object));
    if (options.sendInitialEvents) bookmark({ 'k8s.io/initial-events-end': 'true' });
  } else for (const change of backlog) forward(change);

  resources.use(
    clock.timer(options.timeoutSeconds ? options.timeoutSeconds * 1000 : DEFAULT_TIMEOUT_MS, end),
  );
  if (options.bookmarks) {
    let timer: Disposable;
    const again = () => {
      timer = clock.timer(BOOKMARK_MS, () => {
        bookmark();
        if (!resources.disposed) again();
      });
    };
    again();
    resources.defer(() => timer[Symbol.dispose]());
  }
}
