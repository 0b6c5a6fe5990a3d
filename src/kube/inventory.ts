/**
 * What a pack has put into a cluster, and how to take away what left it. An object goes only when its managed
 * fields still carry our field manager: what somebody else has taken over is theirs. Kinds that hold people's data
 * are never pruned.
 */
import type { KubeClient, KubeObject } from './client.ts';
import { asRecord, statusError } from './errors.ts';
import { describeObject } from './http.ts';
import { inApplyOrder } from './apply.ts';
import { Discovery, objectPath } from './resources.ts';

/** Enough to find an object again; storable as JSON. */
export interface InventoryEntry {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
}

export function inventoryOf(objects: readonly KubeObject[]): InventoryEntry[] {
  return objects.map(({ apiVersion, kind, metadata }) => ({
    apiVersion,
    kind,
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
    name: metadata.name,
  }));
}

/** Deleting one of these deletes what others keep in it. */
const NEVER_PRUNED = new Set([
  'Namespace',
  'CustomResourceDefinition',
  'PersistentVolume',
  'PersistentVolumeClaim',
]);

export interface PruneResult {
  /** e.g. `ConfigMap kube-system/old` */
  readonly deleted: readonly string[];
  readonly kept: readonly { readonly object: string; readonly reason: 'holds-data' | 'not-ours' }[];
}

/** Deletes what is in `previous` and not in `wanted`, in reverse order of applying. Safe to repeat. */
export async function pruneObjects(
  client: KubeClient,
  previous: readonly InventoryEntry[],
  wanted: readonly KubeObject[],
  fieldManager: string,
  signal: AbortSignal,
): Promise<PruneResult> {
  const wantedKeys = new Set(inventoryOf(wanted).map(keyOf));
  const gone = previous.filter((entry) => !wantedKeys.has(keyOf(entry)));
  const discovery = new Discovery(async (path, limited) => {
    const answer = await client.request({ path }, limited);
    if (answer.status !== 200 && answer.status !== 404)
      throw statusError(answer.status, answer.body, `GET ${path}`);
    return answer.body;
  });
  const deleted: string[] = [];
  const kept: { object: string; reason: 'holds-data' | 'not-ours' }[] = [];
  for (const object of inApplyOrder(gone.map(asObject)).reverse()) {
    const title = describeObject(object);
    if (NEVER_PRUNED.has(object.kind)) {
      kept.push({ object: title, reason: 'holds-data' });
      continue;
    }
    const resource = await resolveOrUndefined(discovery, object, signal);
    if (resource === undefined) continue; // its kind is gone, and the object with it
    const path = objectPath(resource, object);
    const current = await client.get(path, signal);
    if (current === undefined) continue;
    if (!isManagedBy(current, fieldManager)) {
      kept.push({ object: title, reason: 'not-ours' });
      continue;
    }
    await client.delete(path, signal);
    deleted.push(title);
  }
  return { deleted, kept };
}

/** True when `manager` still owns at least one field by server-side apply. */
export function isManagedBy(object: KubeObject, manager: string): boolean {
  const fields = object.metadata['managedFields'];
  return (
    Array.isArray(fields) &&
    fields.map(asRecord).some((entry) => entry['manager'] === manager && entry['operation'] === 'Apply')
  );
}

async function resolveOrUndefined(discovery: Discovery, object: KubeObject, signal: AbortSignal) {
  try {
    return await discovery.resolve(object.apiVersion, object.kind, signal);
  } catch (error) {
    const details = asRecord((error as { details?: unknown }).details);
    if (details['reason'] === 'NoKindMatch') return undefined;
    throw error;
  }
}

function asObject(entry: InventoryEntry): KubeObject {
  const { apiVersion, kind, name, namespace } = entry;
  return { apiVersion, kind, metadata: { name, ...(namespace === undefined ? {} : { namespace }) } };
}

function keyOf(entry: InventoryEntry): string {
  // The version does not matter: the same object under a newer API version is the same object.
  return `${entry.apiVersion.split('/').slice(0, -1).join()}|${entry.kind}|${entry.namespace ?? ''}|${entry.name}`;
}
