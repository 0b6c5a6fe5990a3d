/**
 * Settings of a program from four places: flag > environment (PCG_*) > file > default (convict).
 * Each value knows its origin for `pcg config show`; secrets are never given by flag value and never shown.
 * Every refusal names the key and, for an unknown key, the nearest known one.
 */
import { readFileSync } from 'node:fs';
import convict from 'convict';
import { parse as parseYaml } from 'yaml';
import { PcgError } from '../base/errors.ts';

/** One setting: convict's own fields plus what the command line needs. */
export interface SettingDefinition {
  readonly doc: string;
  readonly format: 'string' | 'url' | 'integer' | 'boolean' | 'list' | 'secret';
  readonly default: string | number | boolean | readonly string[] | null;
  /** Environment variable; a secret may also come from `<env>_FILE`. */
  readonly env: string;
  /** An empty variable is a value of its own; any other that is empty counts as not set. */
  readonly canBeEmpty?: boolean;
  /** What is wrong with a value that has the format; undefined when nothing is. Never quotes credentials. */
  readonly check?: (value: unknown) => string | undefined;
}
export type SettingDefinitions = Readonly<Record<string, SettingDefinition>>;

type ValueOf<D extends SettingDefinition> = D['format'] extends 'integer'
  ? D['default'] extends number
    ? number
    : number | undefined
  : D['format'] extends 'boolean'
    ? boolean
    : D['format'] extends 'list'
      ? readonly string[]
      : D['default'] extends string
        ? string
        : string | undefined;

export type SettingValues<D extends SettingDefinitions> = { readonly [K in keyof D]: ValueOf<D[K]> };

export interface LoadedSettings<D extends SettingDefinitions> {
  readonly values: SettingValues<D>;
  /** Printable value and origin of each key; secrets read `[secret]`. */
  describe(): {
    key: string;
    value: string;
    origin: 'flag' | 'environment' | 'file' | 'default';
    env: string;
    doc: string;
  }[];
}

export interface SettingSources {
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Path of a YAML file; must exist when given. */
  readonly file?: string | undefined;
}

/** Loads and validates. Throws PcgError BAD_CONFIG naming the key and where its value came from. */
export function loadSettings<D extends SettingDefinitions>(
  definitions: D,
  sources: SettingSources,
): LoadedSettings<D> {
  const fromFile = sources.file === undefined ? {} : readFile(sources.file, definitions);
  const fromEnvironment = readEnvironment(definitions, sources.environment);
  const fromFlags = Object.fromEntries(
    Object.entries(sources.flags ?? {}).filter(([, value]) => value !== undefined),
  );

  const schema: Record<string, { doc: string; format: (value: unknown) => void; default: unknown }> = {};
  for (const [key, definition] of Object.entries(definitions)) {
    schema[key] = {
      doc: definition.doc,
      format: (value) => assertFormat(definition, value),
      default: definition.default,
    };
  }
  const config = convict(schema);
  for (const layer of [fromFile, fromEnvironment, fromFlags]) {
    config.load(
      Object.fromEntries(Object.entries(layer).map(([key, value]) => [key, coerce(definitions[key], value)])),
    );
  }
  const origin = (key: string) =>
    key in fromFlags ? 'flag' : key in fromEnvironment ? 'environment' : key in fromFile ? 'file' : 'default';
  try {
    config.validate({ allowed: 'strict' });
  } catch (cause) {
    for (const [key, definition] of Object.entries(definitions)) {
      try {
        assertFormat(definition, config.get(key));
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new PcgError('BAD_CONFIG', `setting ${key} (from ${origin(key)}): ${reason}`, {
          field: key,
          cause: error,
        });
      }
    }
    throw new PcgError('BAD_CONFIG', cause instanceof Error ? cause.message : String(cause), { cause });
  }
  const all = config.getProperties() as Record<string, unknown>;
  const values = Object.fromEntries(
    Object.keys(definitions).map((key) => [key, all[key] === null ? undefined : all[key]]),
  ) as SettingValues<D>;
  return {
    values,
    describe: () =>
      Object.entries(definitions).map(([key, definition]) => ({
        key,
        value: definition.format === 'secret' ? (all[key] ? '[secret]' : '') : show(all[key]),
        origin: origin(key),
        env: definition.env,
        doc: definition.doc,
      })),
  };
}

function readFile(path: string, definitions: SettingDefinitions): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = parseYaml(readFileSync(path, 'utf8')) ?? {};
  } catch (cause) {
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw new PcgError('BAD_CONFIG', `cannot read the configuration file ${path}: ${reason}`, {
      field: 'config-file',
      fix: 'Give the path of a readable YAML file.',
      cause,
    });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new PcgError('BAD_CONFIG', `the configuration file ${path} must hold a map of settings`, {
      field: 'config-file',
    });
  }
  for (const key of Object.keys(parsed)) {
    if (Object.hasOwn(definitions, key)) continue;
    const near = nearest(key, Object.keys(definitions));
    throw new PcgError('BAD_CONFIG', `unknown setting "${key}" in ${path}`, {
      field: key,
      ...(near === undefined ? {} : { fix: `Did you mean "${near}"?` }),
    });
  }
  return parsed as Record<string, unknown>;
}

function readEnvironment(
  definitions: SettingDefinitions,
  environment: SettingSources['environment'],
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [key, definition] of Object.entries(definitions)) {
    const value = environment[definition.env];
    if (value !== undefined && (value !== '' || definition.canBeEmpty)) found[key] = value;
    const file = definition.format === 'secret' ? environment[`${definition.env}_FILE`] : undefined;
    if (file === undefined || file === '' || key in found) continue;
    try {
      found[key] = readFileSync(file, 'utf8').trim();
    } catch (cause) {
      throw new PcgError('BAD_CONFIG', `cannot read ${file}, named by ${definition.env}_FILE`, {
        field: key,
        cause,
      });
    }
  }
  return found;
}

function coerce(definition: SettingDefinition | undefined, value: unknown): unknown {
  if (typeof value !== 'string' || !definition) return value;
  switch (definition.format) {
    case 'integer':
      return /^-?\d+$/.test(value.trim()) ? Number(value) : value;
    case 'boolean':
      return /^(true|yes|on|1)$/i.test(value) ? true : /^(false|no|off|0)$/i.test(value) ? false : value;
    case 'list':
      return value
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '');
    case 'string':
    case 'url':
    case 'secret':
      return value;
    default:
      return definition.format satisfies never;
  }
}

function assertFormat(definition: SettingDefinition, value: unknown): void {
  if (value === null || value === undefined) return;
  assertType(definition, value);
  const complaint = definition.check?.(value);
  if (complaint !== undefined) throw new Error(complaint);
}

function assertType(definition: SettingDefinition, value: unknown): void {
  switch (definition.format) {
    case 'integer':
      if (!Number.isSafeInteger(value)) throw new Error(`"${show(value)}" is not a whole number`);
      return;
    case 'boolean':
      if (typeof value !== 'boolean') throw new Error(`"${show(value)}" is neither true nor false`);
      return;
    case 'list':
      if (!Array.isArray(value) || value.some((part) => typeof part !== 'string'))
        throw new Error('is not a list of strings');
      return;
    case 'url':
      if (typeof value !== 'string' || !/^[a-z]+:\/\/[^/\s]/i.test(value) || !URL.canParse(value)) {
        throw new Error(`"${show(value)}" is not a URL`);
      }
      return;
    case 'string':
      if (typeof value !== 'string') throw new Error(`"${show(value)}" is not text`);
      return;
    case 'secret':
      if (typeof value !== 'string') throw new Error('is not text');
      return;
    default:
      definition.format satisfies never;
  }
}

function show(value: unknown): string {
  if (value === null || value === undefined) return '';
  // A proxy or portal URL may hold credentials.
  const text = Array.isArray(value)
    ? value.join(',')
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value as string | number | boolean);
  return text.replace(/(\/\/[^/:@\s]*):[^@\s]*@/, '$1:[secret]@');
}

/** The known key with the smallest edit distance, when it is close enough to be a typing error. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance <= Math.max(2, Math.floor(word.length / 3)) ? best.candidate : undefined;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min((previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1, substitution));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
