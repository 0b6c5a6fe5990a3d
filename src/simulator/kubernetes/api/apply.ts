/**
 * Server-side apply and the bookkeeping of field managers. An applied object owns exactly the fields it
 * names; naming a field that another manager owns with another value is a conflict unless forced; a field
 * that the manager named before and no longer names is removed when nobody else owns it.
 */
import {
  type FieldSet,
  fromFieldsV1,
  itemElement,
  joinPath,
  leaves,
  printPath,
  toFieldsV1,
} from './field-set.ts';
import { type Json, type KubeObject, clone, isRecord, sameJson } from './json.ts';
import { type SchemaNode, childNode } from './schema.ts';
import { ApiError } from './status.ts';

interface ManagerEntry {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly subresource: string;
  time: string;
  fields: FieldSet;
}

export interface WriteIdentity {
  readonly manager: string;
  readonly subresource: string;
  readonly time: string;
}

function readEntries(object: KubeObject | undefined): ManagerEntry[] {
  return (object?.metadata.managedFields ?? []).map((entry: Json) => ({
    manager: entry.manager ?? 'unknown',
    operation: entry.operation,
    apiVersion: entry.apiVersion,
    subresource: entry.subresource ?? '',
    time: entry.time,
    fields: fromFieldsV1(entry.fieldsV1),
  }));
}

function writeEntries(object: KubeObject, entries: readonly ManagerEntry[]): void {
  const kept = entries.filter((entry) => entry.fields.size > 0);
  if (kept.length === 0) {
    delete object.metadata.managedFields;
    return;
  }
  object.metadata.managedFields = kept.map((entry) => ({
    manager: entry.manager,
    operation: entry.operation,
    apiVersion: entry.apiVersion,
    time: entry.time,
    fieldsType: 'FieldsV1',
    fieldsV1: toFieldsV1(entry.fields),
    ...(entry.subresource ? { subresource: entry.subresource } : {}),
  }));
}

/** After create, replace or patch: the writer owns what it changed, others lose what was changed or removed. */
export function trackUpdate(
  before: KubeObject | undefined,
  after: KubeObject,
  node: SchemaNode,
  identity: WriteIdentity,
): void {
  const old = before ? leaves(before, node) : new Map<string, Json>();
  const now = leaves(after, node);
  // A client that sends managedFields: [] or [{}] resets the bookkeeping; otherwise ours is the truth.
  const sent = after.metadata.managedFields;
  const reset = Array.isArray(sent) && sent.length <= 1 && !sent.some((entry) => entry?.manager);
  const entries = reset ? [] : readEntries(before);
  const changed = new Set<string>();
  for (const [path, value] of now) if (!old.has(path) || !sameJson(old.get(path), value)) changed.add(path);
  for (const entry of entries) {
    if (isSame(entry, 'Update', identity, after.apiVersion)) continue;
    for (const path of entry.fields) if (changed.has(path) || !now.has(path)) entry.fields.delete(path);
  }
  let own = entries.find((entry) => isSame(entry, 'Update', identity, after.apiVersion));
  if (!own) {
    own = { ...newEntry('Update', identity, after.apiVersion) };
    entries.push(own);
  }
  for (const path of own.fields) if (!now.has(path)) own.fields.delete(path);
  if (changed.size > 0) own.time = identity.time;
  for (const path of changed) own.fields.add(path);
  writeEntries(after, entries);
}

const newEntry = (
  operation: 'Apply' | 'Update',
  identity: WriteIdentity,
  apiVersion: string,
): ManagerEntry => ({
  manager: identity.manager,
  operation,
  apiVersion,
  subresource: identity.subresource,
  time: identity.time,
  fields: new Set(),
});

function isSame(
  entry: ManagerEntry,
  operation: string,
  identity: WriteIdentity,
  apiVersion: string,
): boolean {
  return (
    entry.operation === operation &&
    entry.manager === identity.manager &&
    entry.subresource === identity.subresource &&
    entry.apiVersion === apiVersion
  );
}

/**
 * The next state of `live` (undefined: it does not exist yet) after `applied` was applied.
 * Throws a 409 Status with one FieldManagerConflict cause per field.
 */
export function serverSideApply(
  live: KubeObject | undefined,
  applied: KubeObject,
  node: SchemaNode,
  identity: WriteIdentity,
  force: boolean,
): KubeObject {
  const wanted = leaves(applied, node);
  const current = live ? leaves(live, node) : new Map<string, Json>();
  const entries = readEntries(live);
  const ownIndex = entries.findIndex((entry) => isSame(entry, 'Apply', identity, applied.apiVersion));
  const own =
    ownIndex === -1 ? newEntry('Apply', identity, applied.apiVersion) : (entries[ownIndex] as ManagerEntry);
  const others = entries.filter((entry) => entry !== own);

  const conflicts: { path: string; with: ManagerEntry }[] = [];
  for (const [path, value] of wanted) {
    if (current.has(path) && sameJson(current.get(path), value)) continue;
    for (const entry of others) if (entry.fields.has(path)) conflicts.push({ path, with: entry });
  }
  if (conflicts.length > 0 && !force) throw conflictError(conflicts);
  for (const { path, with: entry } of conflicts) entry.fields.delete(path);

  const result = live
    ? clone(live)
    : ({ apiVersion: applied.apiVersion, kind: applied.kind, metadata: {} } as KubeObject);
  merge(result, applied, node);
  const dropped = [...own.fields].filter(
    (path) => !wanted.has(path) && !hasBelow(wanted, path) && !others.some((entry) => entry.fields.has(path)),
  );
  // Items before their fields: an item that is owned by nobody else goes as a whole.
  for (const path of dropped.sort()) remove(result, path.split('\u0000'), node, others);
  const next: ManagerEntry = { ...own, fields: new Set(wanted.keys()), time: identity.time };
  if (own.fields.size === next.fields.size && [...next.fields].every((path) => own.fields.has(path))) {
    if (
      live &&
      sameJson(
        { ...result, metadata: { ...result.metadata, managedFields: 0 } },
        { ...live, metadata: { ...live.metadata, managedFields: 0 } },
      )
    )
      next.time = own.time;
  }
  writeEntries(
    result,
    ownIndex === -1 ? [next, ...others] : entries.map((entry) => (entry === own ? next : entry)),
  );
  return result;
}

/** True when `paths` holds a field under `path` (a leaf became an object). */
function hasBelow(paths: Map<string, Json>, path: string): boolean {
  const prefix = `${path}\u0000`;
  for (const other of paths.keys()) if (other.startsWith(prefix)) return true;
  return false;
}

function conflictError(conflicts: readonly { path: string; with: ManagerEntry }[]): ApiError {
  const causes = conflicts.map(({ path, with: entry }) => ({
    reason: 'FieldManagerConflict',
    message: `conflict with "${entry.manager}"${entry.subresource ? ` with subresource "${entry.subresource}"` : ''}${
      entry.operation === 'Update' ? ` using ${entry.apiVersion}${entry.time ? ` at ${entry.time}` : ''}` : ''
    }`,
    field: printPath(path),
  }));
  const count = causes.length;
  const lines = causes.map((cause) => `${cause.message}: ${cause.field}`);
  return new ApiError(
    409,
    'Conflict',
    count === 1
      ? `Apply failed with 1 conflict: ${lines[0]}`
      : `Apply failed with ${count} conflicts: ${lines.join('\n')}`,
    { causes },
  );
}

function merge(into: Json, from: Json, node: SchemaNode): void {
  for (const [key, value] of Object.entries(from)) {
    const child = childNode(node, key);
    into[key] = mergeValue(into[key], value, child);
  }
}

function mergeValue(current: Json, value: Json, node: SchemaNode): Json {
  if (
    isRecord(value) &&
    isRecord(current) &&
    node.kind !== 'list' &&
    !(node.kind !== 'scalar' && node.atomic)
  ) {
    merge(current, value, node);
    return current;
  }
  if (Array.isArray(value) && Array.isArray(current) && node.kind === 'list' && node.merge.by !== 'atomic') {
    if (node.merge.by === 'set') return [...new Set([...current, ...value])];
    const { keys } = node.merge;
    const result = [...current];
    for (const item of value) {
      const element = itemElement(item, keys);
      const at = result.findIndex((existing) => itemElement(existing, keys) === element);
      if (at === -1) result.push(clone(item));
      else result[at] = mergeValue(result[at], item, node.each);
    }
    return result;
  }
  return clone(value);
}

function remove(
  at: Json,
  path: readonly string[],
  node: SchemaNode,
  others: readonly ManagerEntry[],
  walked = '',
): void {
  const [element = '', ...rest] = path;
  const here = joinPath(walked, element);
  if (element.startsWith('f:')) {
    const key = element.slice(2);
    if (!isRecord(at) || !(key in at)) return;
    if (rest.length === 0) {
      delete at[key];
      return;
    }
    remove(at[key], rest, childNode(node, key), others, here);
    // An object that apply alone had made goes with its last field.
    if (isRecord(at[key]) && Object.keys(at[key]).length === 0 && walked !== '') delete at[key];
    if (Array.isArray(at[key]) && at[key].length === 0) delete at[key];
    return;
  }
  if (!Array.isArray(at) || node.kind !== 'list') return;
  if (element.startsWith('v:')) {
    const index = at.findIndex((item) => `v:${JSON.stringify(item)}` === element);
    if (index !== -1) at.splice(index, 1);
    return;
  }
  if (node.merge.by !== 'keys') return;
  const { keys } = node.merge;
  const index = at.findIndex((item) => itemElement(item, keys) === element);
  if (index === -1) return;
  if (rest.length === 1 && rest[0] === '.') {
    if (!others.some((entry) => [...entry.fields].some((field) => field.startsWith(here))))
      at.splice(index, 1);
    return;
  }
  // The key fields of an item that stays are never removed.
  if (rest.length === 1 && keys.includes((rest[0] ?? '').slice(2))) return;
  remove(at[index], rest, node.each, others, here);
}
