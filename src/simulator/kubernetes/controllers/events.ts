/**
 * Events as components of a cluster write them for `kubectl describe` and `kubectl get events`: one per object, reason
 * and text, counted when it happens again, gone an hour after the last time.
 */
import { createHash } from 'node:crypto';
import type { ApiCore } from '../api/core.ts';
import type { KubeObject } from '../api/json.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';

/** On real hardware, milliseconds; the API server's --event-ttl. */
const TTL_MS = 3_600_000;

export interface Note {
  readonly type?: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
  readonly component: string;
  /** The node on which the component runs. */
  readonly host?: string;
}

/** Says that something happened to `about`. Never fails: events are not worth a retry. */
export function note(core: ApiCore, about: KubeObject, event: Note): void {
  const { type = 'Normal', reason, message, component, host } = event;
  const namespace = about.metadata.namespace ?? 'default';
  const uid = about.metadata.uid ?? '';
  const digest = createHash('sha256').update(`${uid}/${reason}/${message}`).digest('hex').slice(0, 16);
  const name = `${about.metadata.name}.${digest}`;
  const now = new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
  const before = core.store.get(R.events, namespace, name);
  if (before) {
    core.store.update(R.events, { ...before, count: before.count + 1, lastTimestamp: now });
    return;
  }
  core.store.create(R.events, {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace },
    involvedObject: {
      apiVersion: about.apiVersion,
      kind: about.kind,
      name: about.metadata.name,
      ...(about.metadata.namespace === undefined ? {} : { namespace }),
      uid,
      resourceVersion: about.metadata.resourceVersion,
    },
    type,
    reason,
    message,
    count: 1,
    firstTimestamp: now,
    lastTimestamp: now,
    eventTime: null,
    source: { component, ...(host === undefined ? {} : { host }) },
    reportingComponent: component,
    reportingInstance: host ?? '',
  });
}

export function expireEvents({ core, site }: SimCluster): void {
  const oldest = core.clock.now() - TTL_MS / site.pace.speed;
  for (const { metadata, lastTimestamp } of core.store.all(R.events))
    if (Date.parse(lastTimestamp) < oldest) core.store.delete(R.events, metadata.namespace, metadata.name);
}
