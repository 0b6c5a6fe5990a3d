/**
 * What the server knows about the shape of kinds: parsed from schema-types.ts for built-in kinds, from the
 * OpenAPI schema of a CustomResourceDefinition for custom ones. A node says how a value merges.
 */
import { type Json, isRecord } from './json.ts';
import { SCHEMA_TEXT } from './schema-types.ts';

export type SchemaNode =
  | { readonly kind: 'scalar'; readonly type: 'string' | 'integer' | 'boolean' | 'any' }
  /** `fields` undefined: keys are data (a map); `each` describes the values. */
  | {
      readonly kind: 'object';
      readonly fields: () => ReadonlyMap<string, SchemaNode>;
      readonly atomic: boolean;
      readonly open: boolean;
    }
  | { readonly kind: 'map'; readonly each: SchemaNode; readonly atomic: boolean }
  | { readonly kind: 'list'; readonly each: SchemaNode; readonly merge: ListMerge };

export type ListMerge =
  | { readonly by: 'atomic' }
  | { readonly by: 'set' }
  | { readonly by: 'keys'; readonly keys: readonly string[] };

export const ANY: SchemaNode = { kind: 'scalar', type: 'any' };
const STRING: SchemaNode = { kind: 'scalar', type: 'string' };
const MARKS: Record<string, SchemaNode> = {
  '#': { kind: 'scalar', type: 'integer' },
  '?': { kind: 'scalar', type: 'boolean' },
  '*': ANY,
};

const types = new Map<string, ReadonlyMap<string, SchemaNode>>();

const FIELD = /^([A-Za-z0-9]+)(\{\}|\[[^\]]*\])?(!)?([#?*])?(?::([A-Za-z0-9]+))?$/;

function parseField(text: string): [string, SchemaNode] {
  const match = FIELD.exec(text);
  if (!match) throw new Error(`schema-types: cannot read field ${text}`);
  const [, name = '', container, bang, mark, typeName] = match;
  const atomic = bang === '!';
  const leaf: SchemaNode = typeName
    ? { kind: 'object', fields: () => typeOf(typeName), atomic, open: false }
    : mark
      ? (MARKS[mark] ?? ANY)
      : STRING;
  if (!container) return [name, leaf];
  if (container === '{}') return [name, { kind: 'map', each: leaf, atomic }];
  const keys = container.slice(1, -1);
  const merge: ListMerge =
    keys === '' ? { by: 'atomic' } : keys === '=' ? { by: 'set' } : { by: 'keys', keys: keys.split(',') };
  return [name, { kind: 'list', each: leaf, merge }];
}

function typeOf(name: string): ReadonlyMap<string, SchemaNode> {
  const fields = types.get(name);
  if (!fields) throw new Error(`schema-types: unknown type ${name}`);
  return fields;
}

for (const line of SCHEMA_TEXT.split('\n')) {
  const [name, ...fields] = line.trim().split(' ');
  if (name) types.set(name, new Map(fields.map(parseField)));
}

const METADATA: SchemaNode = {
  kind: 'object',
  fields: () => typeOf('ObjectMeta'),
  atomic: false,
  open: false,
};
const IDENTITY: [string, SchemaNode][] = [
  ['apiVersion', STRING],
  ['kind', STRING],
  ['metadata', METADATA],
];

const builtIn = new Map<string, SchemaNode>();

/** Schema of a built-in kind, or undefined for one that this double does not know. */
export function builtInSchema(kind: string): SchemaNode | undefined {
  const known = builtIn.get(kind);
  if (known) return known;
  const own = types.get(kind);
  if (!own) return undefined;
  const fields = new Map([...IDENTITY, ...own]);
  const node: SchemaNode = { kind: 'object', fields: () => fields, atomic: false, open: false };
  builtIn.set(kind, node);
  return node;
}

/** The schema node for an `openAPIV3Schema` of a CustomResourceDefinition. */
export function customSchema(openApi: Json): SchemaNode {
  const root = fromOpenApi(openApi ?? {});
  const own = root.kind === 'object' ? root.fields() : new Map<string, SchemaNode>();
  const fields = new Map([...own, ...IDENTITY]);
  return { kind: 'object', fields: () => fields, atomic: false, open: root.kind !== 'object' || root.open };
}

function fromOpenApi(schema: Json): SchemaNode {
  if (schema['x-kubernetes-embedded-resource'])
    return customSchema({ ...schema, 'x-kubernetes-embedded-resource': false });
  if (schema['x-kubernetes-int-or-string']) return ANY;
  if (schema.type === 'array') {
    const listType = schema['x-kubernetes-list-type'];
    const keys = schema['x-kubernetes-list-map-keys'];
    const merge: ListMerge =
      listType === 'map' && Array.isArray(keys)
        ? { by: 'keys', keys }
        : listType === 'set'
          ? { by: 'set' }
          : { by: 'atomic' };
    return { kind: 'list', each: fromOpenApi(schema.items ?? {}), merge };
  }
  const atomic = schema['x-kubernetes-map-type'] === 'atomic';
  if (isRecord(schema.properties)) {
    const fields = new Map(
      Object.entries(schema.properties).map(([name, child]) => [name, fromOpenApi(child)]),
    );
    return {
      kind: 'object',
      fields: () => fields,
      atomic,
      open: schema['x-kubernetes-preserve-unknown-fields'] === true,
    };
  }
  if (isRecord(schema.additionalProperties))
    return { kind: 'map', each: fromOpenApi(schema.additionalProperties), atomic };
  if (schema['x-kubernetes-preserve-unknown-fields'] === true || schema.type === undefined) return ANY;
  if (schema.type === 'object') return { kind: 'object', fields: () => new Map(), atomic, open: false };
  if (schema.type === 'integer' || schema.type === 'boolean' || schema.type === 'string')
    return { kind: 'scalar', type: schema.type };
  return ANY;
}

/** The node below `node` at an object key. */
export function childNode(node: SchemaNode, key: string): SchemaNode {
  if (node.kind === 'object') return node.fields().get(key) ?? ANY;
  if (node.kind === 'map') return node.each;
  return ANY;
}

export interface FieldProblem {
  readonly kind: 'unknown' | 'type';
  /** `spec.template.spec.containers[0].imge` */
  readonly path: string;
  readonly message: string;
}

const SCALAR_CHECKS: Record<string, (value: unknown) => boolean> = {
  string: (value) => typeof value === 'string',
  integer: (value) => typeof value === 'number' && Number.isInteger(value),
  boolean: (value) => typeof value === 'boolean',
};

/** Every field that the kind does not have, and every value of a wrong JSON type. */
export function checkFields(value: Json, node: SchemaNode, path = ''): FieldProblem[] {
  if (value === null || value === undefined) return [];
  if (node.kind === 'scalar') {
    const fits = SCALAR_CHECKS[node.type];
    if (!fits || fits(value)) return [];
    const got = Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value;
    return [
      wrongType(path, got, node.type === 'integer' ? 'int' : node.type === 'boolean' ? 'bool' : 'string'),
    ];
  }
  if (node.kind === 'list') {
    if (!Array.isArray(value)) return [wrongType(path, typeof value, 'array')];
    return value.flatMap((item, index) => checkFields(item, node.each, `${path}[${index}]`));
  }
  if (!isRecord(value)) return [wrongType(path, Array.isArray(value) ? 'array' : typeof value, 'object')];
  return Object.entries(value).flatMap(([key, child]) => {
    const at = path === '' ? key : `${path}.${key}`;
    if (node.kind === 'map') return checkFields(child, node.each, at);
    const field = node.fields().get(key);
    if (field) return checkFields(child, field, at);
    return node.open ? [] : [{ kind: 'unknown' as const, path: at, message: `unknown field "${at}"` }];
  });
}

function wrongType(path: string, got: string, wanted: string): FieldProblem {
  return {
    kind: 'type',
    path,
    message: `json: cannot unmarshal ${got} into Go struct field ${path} of type ${wanted}`,
  };
}

/** A copy without the fields that the schema does not have (custom resources are pruned when stored). */
export function pruneFields(value: Json, node: SchemaNode): Json {
  if (Array.isArray(value))
    return node.kind === 'list' ? value.map((item) => pruneFields(item, node.each)) : value;
  if (!isRecord(value) || node.kind === 'scalar' || node.kind === 'list') return value;
  const kept: Record<string, Json> = {};
  for (const [key, child] of Object.entries(value)) {
    if (node.kind === 'map') kept[key] = pruneFields(child, node.each);
    else {
      const field = node.fields().get(key);
      if (field) kept[key] = pruneFields(child, field);
      else if (node.open) kept[key] = child;
    }
  }
  return kept;
}
