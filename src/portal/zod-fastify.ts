/**
 * Zod schemas as Fastify's validator, serialiser and OpenAPI source. Every failure names its field as the
 * caller wrote it (`spec.pools[0].size`), and a field that no schema knows is an error, not ignored.
 */
import type {
  FastifySchema,
  FastifySchemaCompiler,
  FastifySerializerCompiler,
  FastifyTypeProvider,
} from 'fastify';
import { z } from 'zod';
import { PcgError } from '../base/errors.ts';

export interface ZodTypeProvider extends FastifyTypeProvider {
  readonly validator: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown;
  readonly serializer: this['schema'] extends z.ZodType ? z.input<this['schema']> : unknown;
}

/** Issues listed in `details`; the first is the error's own field. */
const ISSUES_SHOWN = 20;

export const validatorCompiler: FastifySchemaCompiler<unknown> = ({ schema, httpPart }) => {
  if (!(schema instanceof z.ZodType)) throw new TypeError('route schemas are zod schemas');
  return (data: unknown) => {
    const parsed = schema.safeParse(httpPart === 'body' ? (data ?? {}) : data);
    if (!parsed.success) return { error: invalidInput(parsed.error) };
    if (httpPart === 'body') {
      const unknown = unknownField(data, parsed.data, []);
      if (unknown)
        return {
          error: new PcgError('INVALID_INPUT', `${fieldPath(unknown.path)} is not a known field`, {
            field: fieldPath(unknown.path),
            fix: unknown.known.length > 0 ? `Known here: ${unknown.known.join(', ')}.` : undefined,
          }),
        };
    }
    return { value: parsed.data };
  };
};

/** Answers are built by typed functions; tests hold them against the schemas, so that here is only JSON. */
export const serializerCompiler: FastifySerializerCompiler<unknown> = () => (data) => JSON.stringify(data);

export function invalidInput(error: z.ZodError): PcgError {
  const issues = flatten(error.issues, []).map(({ path, message }) => ({ field: fieldPath(path), message }));
  const first = issues[0] ?? { field: '', message: 'is not valid' };
  return new PcgError(
    'INVALID_INPUT',
    first.field === '' ? first.message : `${first.field}: ${first.message}`,
    {
      field: first.field === '' ? undefined : first.field,
      details: { issues: issues.slice(0, ISSUES_SHOWN) },
    },
  );
}

type Issue = { path: PropertyKey[]; message: string };

/** A union hides the useful message in its branches: take the branch that got furthest. */
function flatten(issues: readonly z.core.$ZodIssue[], at: PropertyKey[]): Issue[] {
  return issues.flatMap((issue) => {
    const path = [...at, ...issue.path];
    if (issue.code !== 'invalid_union' || issue.errors.length === 0)
      return [{ path, message: issue.message }];
    if (issue.message !== '' && issue.message !== 'Invalid input') return [{ path, message: issue.message }];
    const depth = (branch: z.core.$ZodIssue[]) => Math.max(...branch.map((inner) => inner.path.length));
    const best = [...issue.errors].sort((a, b) => depth(b) - depth(a))[0] ?? [];
    return flatten(best, path);
  });
}

/** `['spec', 'pools', 0, 'size']` -> `spec.pools[0].size` */
export function fieldPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, key) =>
      typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`,
    '',
  );
}

/** Zod drops unknown keys; what is in the input and not in the output was one. */
function unknownField(
  input: unknown,
  output: unknown,
  path: PropertyKey[],
): { path: PropertyKey[]; known: string[] } | undefined {
  if (Array.isArray(input) && Array.isArray(output)) {
    for (const [index, item] of input.entries()) {
      const found = unknownField(item, output[index], [...path, index]);
      if (found) return found;
    }
    return undefined;
  }
  if (!isObject(input) || !isObject(output)) return undefined;
  for (const [key, value] of Object.entries(input)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(output, key)) return { path: [...path, key], known: Object.keys(output) };
    const found = unknownField(value, output[key], [...path, key]);
    if (found) return found;
  }
  return undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** For @fastify/swagger: the same schemas as JSON Schema 2020-12, which OpenAPI 3.1 speaks. */
export function openApiTransform<S extends FastifySchema>({
  schema,
  url,
}: {
  schema: S;
  url: string;
}): {
  schema: FastifySchema;
  url: string;
} {
  const { body, querystring, params, headers, response, ...rest } = schema;
  const out = { ...rest } as FastifySchema;
  if (body !== undefined) out.body = jsonSchema(body, 'input');
  if (querystring !== undefined) out.querystring = jsonSchema(querystring, 'input');
  if (params !== undefined) out.params = jsonSchema(params, 'input');
  if (headers !== undefined) out.headers = jsonSchema(headers, 'input');
  if (response !== undefined)
    out.response = Object.fromEntries(
      Object.entries(response as Record<string, unknown>).map(([status, inner]) => [
        status,
        { description: descriptionOf(inner) ?? 'Done.', ...jsonSchema(inner, 'output') },
      ]),
    );
  return { schema: out, url };
}

function jsonSchema(schema: unknown, io: 'input' | 'output'): Record<string, unknown> {
  const converted = z.toJSONSchema(schema as z.ZodType, {
    io,
    unrepresentable: 'any',
    cycles: 'ref',
    reused: 'inline',
  });
  const { $schema: _dialect, ...rest } = converted as Record<string, unknown>;
  return rest;
}

function descriptionOf(schema: unknown): string | undefined {
  return schema instanceof z.ZodType ? schema.description : undefined;
}
