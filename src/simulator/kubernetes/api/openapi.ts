/**
 * OpenAPI documents, as far as clients act on them: which kinds exist, their fields, and that PATCH takes
 * `fieldValidation` (kubectl asks this before it trusts the server to validate).
 */
import { createHash } from 'node:crypto';
import type { Json } from './json.ts';
import { schemaOf } from './objects.ts';
import type { ResourceRegistry, ResourceType } from './resources.ts';
import type { SchemaNode } from './schema.ts';

/** Objects deeper than this are described as open; enough for every field kubectl looks up. */
const MAX_DEPTH = 12;

function describe(node: SchemaNode, depth = 0): Json {
  if (depth > MAX_DEPTH) return { type: 'object' };
  if (node.kind === 'scalar')
    return node.type === 'any' ? { 'x-kubernetes-preserve-unknown-fields': true } : { type: node.type };
  if (node.kind === 'list') {
    const { merge } = node;
    return {
      type: 'array',
      items: describe(node.each, depth + 1),
      'x-kubernetes-list-type': merge.by === 'keys' ? 'map' : merge.by,
      ...(merge.by === 'keys'
        ? {
            'x-kubernetes-list-map-keys': merge.keys,
            'x-kubernetes-patch-merge-key': merge.keys[0],
            'x-kubernetes-patch-strategy': 'merge',
          }
        : {}),
    };
  }
  if (node.kind === 'map') return { type: 'object', additionalProperties: describe(node.each, depth + 1) };
  const properties = Object.fromEntries(
    [...node.fields()].map(([name, child]) => [name, describe(child, depth + 1)]),
  );
  return { type: 'object', properties };
}

const definitionName = (type: ResourceType) =>
  `io.k8s.api.${type.group.split('.')[0] || 'core'}.${type.version}.${type.kind}`;
const gvkOf = (type: ResourceType) => ({ group: type.group, version: type.version, kind: type.kind });
const rootOf = (type: ResourceType) =>
  type.group ? `apis/${type.group}/${type.version}` : `api/${type.version}`;

function definition(type: ResourceType): Json {
  return { ...describe(schemaOf(type)), 'x-kubernetes-group-version-kind': [gvkOf(type)] };
}

/** The index at /openapi/v3: one document per group and version. */
export function openApiIndex(registry: ResourceRegistry): Json {
  const paths: Record<string, Json> = {};
  for (const type of registry.all()) {
    const root = rootOf(type);
    const hash = createHash('sha256').update(
      JSON.stringify(
        registry
          .all()
          .filter((other) => rootOf(other) === root)
          .map((other) => [other.plural, other.custom]),
      ),
    );
    paths[root] ??= {
      serverRelativeURL: `/openapi/v3/${root}?hash=${hash.digest('hex').toUpperCase().slice(0, 32)}`,
    };
  }
  return { paths };
}

export function openApiV3(registry: ResourceRegistry, root: string, version: string): Json | undefined {
  const types = registry.all().filter((type) => rootOf(type) === root);
  if (types.length === 0) return undefined;
  const paths: Record<string, Json> = {};
  const schemas: Record<string, Json> = {};
  for (const type of types) {
    const ref = `#/components/schemas/${definitionName(type)}`;
    schemas[definitionName(type)] ??= definition(type);
    const parameters = ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
      name,
      in: 'query',
      schema: { type: name === 'force' ? 'boolean' : 'string' },
    }));
    const content = { 'application/json': { schema: { $ref: ref } } };
    const operation = (action: string) => ({
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': gvkOf(type),
      parameters,
      responses: { 200: { description: 'OK', content } },
    });
    const base = `/${root}${type.namespaced ? '/namespaces/{namespace}' : ''}/${type.plural}`;
    paths[base] = { get: operation('list'), post: { ...operation('post'), requestBody: { content } } };
    paths[`${base}/{name}`] = {
      get: operation('get'),
      put: operation('put'),
      delete: operation('delete'),
      patch: {
        ...operation('patch'),
        requestBody: { content: { 'application/apply-patch+yaml': { schema: { type: 'object' } } } },
      },
    };
  }
  return { openapi: '3.0.0', info: { title: 'Kubernetes', version }, paths, components: { schemas } };
}

export function openApiV2(registry: ResourceRegistry, version: string): Json {
  const definitions: Record<string, Json> = {};
  for (const type of registry.all()) definitions[definitionName(type)] ??= definition(type);
  return { swagger: '2.0', info: { title: 'Kubernetes', version }, paths: {}, definitions };
}

/** The same in protobuf for kubectl before 1.27, without definitions: such a client then skips its own checks. */
export function openApiV2Protobuf(version: string): Buffer {
  const field = (number: number, bytes: Buffer) =>
    Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
  const text = (number: number, value: string) => field(number, Buffer.from(value));
  // openapi.v2.Document: 1 swagger, 2 info {1 title, 2 version}, 8 paths.
  return Buffer.concat([
    text(1, '2.0'),
    field(2, Buffer.concat([text(1, 'Kubernetes'), text(2, version)])),
    field(8, Buffer.alloc(0)),
  ]);
}
