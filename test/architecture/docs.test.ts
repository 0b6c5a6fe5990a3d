/** What the pages of docs/ promise about the contract. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { ClusterSpecRequestSchema } from '../../src/contract/cluster.ts';

const page = readFileSync(new URL('../../docs/clusters.md', import.meta.url), 'utf8');
const [smallest, whole] = Array.from(page.matchAll(/```yaml\n(.*?)```/gs), ([, text]) => parse(text ?? ''));

interface JsonSchema {
  readonly properties?: Record<string, JsonSchema>;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly default?: unknown;
}

/** `pools[].placement.minCpu` -> its schema, for every field. */
function fields(schema: JsonSchema, path = ''): [path: string, schema: JsonSchema][] {
  const here = Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const at = path === '' ? name : `${path}.${name}`;
    return [[at, inner] as [string, JsonSchema], ...fields(inner, at)];
  });
  const inside = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((one) => fields(one, path));
  return [...here, ...inside, ...(schema.items ? fields(schema.items, `${path}[]`) : [])];
}

/** Every value in the example under the same kind of path. */
function given(value: unknown, path = ''): [path: string, value: unknown][] {
  if (Array.isArray(value)) return value.flatMap((one) => given(one, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => {
    const at = path === '' ? name : `${path}.${name}`;
    return [[at, inner] as [string, unknown], ...given(inner, at)];
  });
}

/** Said in words below the example, since only one of several forms can stand in it. */
const IN_WORDS = [
  'network.endpoint.host',
  'network.endpoint.port',
  'policies.backups.target.sealedCredentials',
];

const contract = fields(z.toJSONSchema(ClusterSpecRequestSchema, { io: 'input' }) as JsonSchema);

describe('docs/clusters.md', () => {
  it('has a smallest and a whole specification, and the contract takes both', () => {
    const named = { cloudAccount: 'ca-example', profile: 'pf-example' };
    for (const spec of [smallest, whole])
      expect(ClusterSpecRequestSchema.safeParse({ ...spec, ...named }).error?.issues ?? []).toEqual([]);
  });

  it('names every field of the contract, and none beside', () => {
    const shown = new Set(given(whole).map(([path]) => path));
    const known = new Set(contract.map(([path]) => path));
    expect([...known].filter((path) => !shown.has(path) && !IN_WORDS.includes(path))).toEqual([]);
    const free = /^(packValues|pools\[\]\.labels|nodes\.registryMirrors)\./;
    expect([...shown].filter((path) => !known.has(path) && !free.test(path))).toEqual([]);
    for (const path of IN_WORDS) expect(page).toContain(path.split('.').at(-1));
  });

  it('shows the defaults that the contract has', () => {
    const defaults = new Map(
      contract.flatMap(([path, { default: value }]) => (value === undefined ? [] : [[path, value]])),
    );
    const exceptions = [
      'packValues',
      'pools[].labels',
      'pools[].taints',
      'pools[].placement',
      'nodes.registryMirrors',
    ];
    const wrong = given({ ...whole, pools: whole.pools.slice(0, 1) }).filter(
      ([path, value]) =>
        defaults.has(path) &&
        !exceptions.includes(path) &&
        typeof defaults.get(path) !== 'object' &&
        defaults.get(path) !== value,
    );
    expect(wrong).toEqual([]);
    expect(defaults.size).toBeGreaterThan(30);
  });
});
