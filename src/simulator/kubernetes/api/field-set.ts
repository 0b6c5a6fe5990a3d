/**
 * Sets of fields as managedFields holds them (FieldsV1). A set is a set of paths; a path is its elements
 * joined by a separator: `f:spec`, `k:{"name":"web"}`, `v:"finalizer"`. A path of an item or an object
 * itself ends in `.` as in FieldsV1, so that owning an item differs from owning its fields.
 */
import { type Json, isRecord } from './json.ts';
import { type SchemaNode, childNode } from './schema.ts';

export type FieldSet = Set<string>;

const SEPARATOR = '\u0000';
export const joinPath = (path: string, element: string) =>
  path === '' ? element : `${path}${SEPARATOR}${element}`;

/** Key fields that the server fills in when an item leaves them out. */
const KEY_DEFAULTS: Record<string, string> = { protocol: 'TCP' };

/** `k:{"containerPort":80,"protocol":"TCP"}` */
export function itemElement(item: Json, keys: readonly string[]): string {
  const values: Record<string, Json> = {};
  for (const key of [...keys].sort()) {
    const value = item?.[key] ?? KEY_DEFAULTS[key];
    if (value !== undefined) values[key] = value;
  }
  return `k:${JSON.stringify(values)}`;
}

const valueElement = (item: Json) => `v:${JSON.stringify(item)}`;

/** Fields of the object that managedFields never tracks. */
const UNTRACKED = new Set([
  'f:apiVersion',
  'f:kind',
  'f:metadata',
  ...[
    'name',
    'namespace',
    'creationTimestamp',
    'selfLink',
    'uid',
    'resourceVersion',
    'generation',
    'managedFields',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
  ].map((field) => joinPath('f:metadata', `f:${field}`)),
]);

/** Every leaf of `value` with its value; items of keyed lists also as `path/.`. */
export function leaves(
  value: Json,
  node: SchemaNode,
  path = '',
  into = new Map<string, Json>(),
): Map<string, Json> {
  if (UNTRACKED.has(path) && path !== 'f:metadata') return into;
  if (isRecord(value) && node.kind !== 'list' && !(node.kind !== 'scalar' && node.atomic)) {
    const entries = Object.entries(value).filter(([, child]) => child !== undefined);
    if (entries.length === 0 && path !== '' && path !== 'f:metadata') into.set(path, value);
    for (const [key, child] of entries) leaves(child, childNode(node, key), joinPath(path, `f:${key}`), into);
    return into;
  }
  if (Array.isArray(value) && node.kind === 'list' && node.merge.by !== 'atomic') {
    for (const item of value) {
      if (node.merge.by === 'set') into.set(joinPath(path, valueElement(item)), item);
      else {
        const at = joinPath(path, itemElement(item, node.merge.keys));
        into.set(joinPath(at, '.'), true);
        leaves(item, node.each, at, into);
      }
    }
    return into;
  }
  if (path !== '') into.set(path, value);
  return into;
}

export function toFieldsV1(set: Iterable<string>): Json {
  const tree: Record<string, Json> = {};
  for (const path of set) {
    let at = tree;
    for (const element of path.split(SEPARATOR)) at = at[element] ??= {};
  }
  return tree;
}

export function fromFieldsV1(tree: Json, path = '', into: FieldSet = new Set()): FieldSet {
  for (const [element, child] of Object.entries(tree ?? {})) {
    const at = joinPath(path, element);
    if (isRecord(child) && Object.keys(child).length > 0) fromFieldsV1(child, at, into);
    else into.add(at);
  }
  return into;
}

/** `.spec.template.spec.containers[name="web"].image`, as conflicts print it. */
export function printPath(path: string): string {
  return path
    .split(SEPARATOR)
    .map((element) => {
      if (element.startsWith('f:')) return `.${element.slice(2)}`;
      if (element.startsWith('k:')) {
        const keys = Object.entries(JSON.parse(element.slice(2)) as Record<string, Json>);
        return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`;
      }
      if (element.startsWith('v:')) return `[=${element.slice(2)}]`;
      return '';
    })
    .join('');
}
