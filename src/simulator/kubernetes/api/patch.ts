/** The three client-side patch formats: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge. */
import { type Json, clone, isRecord, sameJson } from './json.ts';
import { type SchemaNode, childNode } from './schema.ts';
import { ApiError, badRequest } from './status.ts';

const unprocessable = (message: string) => new ApiError(422, 'Invalid', message);

function pointer(path: unknown): string[] {
  if (typeof path !== 'string' || (path !== '' && !path.startsWith('/')))
    throw badRequest(`jsonpatch: invalid path ${JSON.stringify(path)}`);
  return path
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function parentOf(root: Json, keys: readonly string[], path: string): Json {
  let at = root;
  for (const key of keys.slice(0, -1)) at = at?.[key];
  if (typeof at !== 'object' || at === null)
    throw unprocessable(`jsonpatch: operation failed: parent of ${path} does not exist`);
  return at;
}

function place(root: Json, path: string, value: Json, mustExist: boolean): Json {
  const keys = pointer(path);
  const last = keys.at(-1);
  if (last === undefined) return value;
  const parent = parentOf(root, keys, path);
  if (Array.isArray(parent)) {
    const index = last === '-' ? parent.length : Number(last);
    if (
      !Number.isInteger(index) ||
      index < 0 ||
      index > parent.length ||
      (mustExist && index >= parent.length)
    )
      throw unprocessable(`jsonpatch: invalid index ${last} in ${path}`);
    parent.splice(index, mustExist ? 1 : 0, value);
  } else {
    if (mustExist && !(last in parent))
      throw unprocessable(`jsonpatch: replace operation does not apply: ${path} is missing`);
    parent[last] = value;
  }
  return root;
}

function take(root: Json, path: string): Json {
  const keys = pointer(path);
  const last = keys.at(-1);
  if (last === undefined) throw unprocessable('jsonpatch: cannot remove the whole document');
  const parent = parentOf(root, keys, path);
  if (!(last in parent))
    throw unprocessable(`jsonpatch: remove operation does not apply: ${path} is missing`);
  const value = parent[last];
  if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete parent[last];
  return value;
}

function read(root: Json, path: string): Json {
  let at = root;
  for (const key of pointer(path)) at = at?.[key];
  return at;
}

export function jsonPatch(target: Json, operations: Json): Json {
  if (!Array.isArray(operations))
    throw badRequest('json: cannot unmarshal object into Go value of type jsonpatch.Patch');
  let root = clone(target);
  for (const { op, path, from, value } of operations) {
    if (op === 'add') root = place(root, path, clone(value), false);
    else if (op === 'replace') root = place(root, path, clone(value), true);
    else if (op === 'remove') take(root, path);
    else if (op === 'move') root = place(root, path, take(root, from), false);
    else if (op === 'copy') root = place(root, path, clone(read(root, from)), false);
    else if (op === 'test') {
      if (!sameJson(read(root, path), value)) throw unprocessable(`jsonpatch: testing value ${path} failed`);
    } else throw badRequest(`jsonpatch: unknown operation ${JSON.stringify(op)}`);
  }
  return root;
}

export function mergePatch(target: Json, patch: Json): Json {
  if (!isRecord(patch)) return clone(patch);
  const merged: Record<string, Json> = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

/**
 * Strategic merge: lists with a merge key are merged by it, with $patch: delete|replace|merge,
 * $deleteFromPrimitiveList, $setElementOrder and $retainKeys as kubectl sends them.
 */
export function strategicPatch(target: Json, patch: Json, node: SchemaNode): Json {
  if (!isRecord(patch)) return clone(patch);
  if (patch.$patch === 'replace') {
    const { $patch: _, ...rest } = patch;
    return clone(rest);
  }
  if (patch.$patch === 'delete') return {};
  const merged: Record<string, Json> = isRecord(target) ? { ...target } : {};
  if (Array.isArray(patch.$retainKeys))
    for (const key of Object.keys(merged)) if (!patch.$retainKeys.includes(key)) delete merged[key];
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) {
      const [directive, field = ''] = key.split('/');
      if (directive === '$deleteFromPrimitiveList' && Array.isArray(merged[field]))
        merged[field] = merged[field].filter((item: Json) => !value.includes(item));
      continue;
    }
    if (value === null) {
      delete merged[key];
      continue;
    }
    const child = childNode(node, key);
    merged[key] =
      Array.isArray(value) && child.kind === 'list'
        ? strategicList(merged[key], value, child)
        : isRecord(value) && isRecord(merged[key])
          ? strategicPatch(merged[key], value, child)
          : isRecord(value)
            ? strategicPatch({}, value, child)
            : clone(value);
  }
  for (const [key, order] of Object.entries(patch)) {
    const [directive, field = ''] = key.split('/');
    if (directive !== '$setElementOrder' || !Array.isArray(merged[field])) continue;
    const child = childNode(node, field);
    const mergeKey = child.kind === 'list' && child.merge.by === 'keys' ? child.merge.keys[0] : undefined;
    const rank = (item: Json) => {
      const found = order.findIndex((wanted: Json) =>
        mergeKey ? wanted[mergeKey] === item[mergeKey] : wanted === item,
      );
      return found === -1 ? order.length : found;
    };
    merged[field] = [...merged[field]].sort((a: Json, b: Json) => rank(a) - rank(b));
  }
  return merged;
}

function strategicList(target: Json, patch: Json[], node: SchemaNode & { kind: 'list' }): Json[] {
  const current: Json[] = Array.isArray(target) ? target : [];
  if (node.merge.by === 'set') return [...new Set([...current, ...patch])];
  if (node.merge.by === 'atomic') return clone(patch);
  if (patch.some((item) => isRecord(item) && item.$patch === 'replace' && Object.keys(item).length === 1))
    return clone(patch.filter((item) => item.$patch !== 'replace'));
  const mergeKey = node.merge.keys[0] ?? 'name';
  const result = [...current];
  for (const item of patch) {
    if (!isRecord(item) || item[mergeKey] === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    const at = result.findIndex((existing) => existing?.[mergeKey] === item[mergeKey]);
    if (item.$patch === 'delete') {
      if (at !== -1) result.splice(at, 1);
    } else if (at === -1) result.push(strategicPatch({}, item, node.each));
    else result[at] = strategicPatch(result[at], item, node.each);
  }
  return result;
}
