/**
 * The gateway's end of durable sync: documents go to disk and wake whoever they concern, facts leave from
 * the outbox. It never waits for hardware, and a document that cannot be understood is refused with a
 * reason that the portal shows, never retried in a loop.
 */
import type { z } from 'zod';
import type { Log } from '../base/log.ts';
import { CloudAccountDocumentSchema } from '../contract/cloud-account.ts';
import { ClusterDocumentSchema } from '../contract/cluster.ts';
import type { Outbox } from '../store/outbox.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';
import type { GatewaySyncPort, SyncDocument } from '../tunnel/ports.ts';

/** Desired state as it lies in collection `documents`, key `<kind>/<id>`. */
export interface StoredDocument {
  readonly generation: number;
  /** null: deleted; kept as a tombstone so that an older generation cannot come back. */
  readonly spec: unknown;
}

const SCHEMAS: Record<string, z.ZodType> = {
  cluster: ClusterDocumentSchema,
  'cloud-account': CloudAccountDocumentSchema,
};

export interface SyncDependencies {
  readonly records: Records;
  readonly outbox: Outbox;
  readonly log: Log;
  /** Called after the document is on disk. */
  readonly documentChanged: (kind: string, id: string) => void;
  /** Called when all that the portal wants is on disk, once a session. */
  readonly current: () => void;
}

export function createSyncPort({
  records,
  outbox,
  log,
  documentChanged,
  current,
}: SyncDependencies): GatewaySyncPort {
  return {
    async known() {
      const stored = await records.list<StoredDocument>(COLLECTIONS.documents);
      return stored.flatMap(({ key, value }) => {
        const slash = key.indexOf('/');
        return slash < 0
          ? []
          : [{ kind: key.slice(0, slash), id: key.slice(slash + 1), generation: value.generation }];
      });
    },

    async apply(document: SyncDocument) {
      const schema = SCHEMAS[document.kind];
      if (!schema) return { refused: `this gateway does not know documents of kind "${document.kind}"` };
      const key = `${document.kind}/${document.id}`;
      const current = await records.get<StoredDocument>(COLLECTIONS.documents, key);
      if (current && current.value.generation >= document.generation) return 'stale';
      let spec: unknown = null;
      if (document.spec !== null) {
        const parsed = schema.safeParse(document.spec);
        if (!parsed.success) {
          const [issue] = parsed.error.issues;
          const reason = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not understood'}`;
          log.warn(
            { kind: document.kind, id: document.id, generation: document.generation, reason },
            'document refused',
          );
          return { refused: reason };
        }
        spec = parsed.data;
      }
      await records.put<StoredDocument>(
        COLLECTIONS.documents,
        key,
        { generation: document.generation, spec },
        { ifRevision: current?.revision ?? 0 },
      );
      documentChanged(document.kind, document.id);
      return 'applied';
    },

    current,
    pendingSnapshots: () => outbox.pendingSnapshots(),
    pendingEvents: (afterSeq, limit) => outbox.pendingEvents(afterSeq, limit),
    oldestEventAt: () => outbox.oldestUnacknowledgedAt(),
    acknowledgeSnapshot: (kind, id, revision) => outbox.acknowledgeSnapshot(kind, id, revision),
    acknowledgeEvents: (seq) => outbox.acknowledgeEvents(seq),
    onChange: (listener) => outbox.onChange(listener),
  };
}
