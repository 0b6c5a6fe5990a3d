/**
 * What cloud-init makes of user-data: a `#cloud-config` document (plain, gzip, or with the jinja header),
 * its write_files as files and its runcmd as commands. Errors carry cloud-init's module names.
 */
import { gunzipSync } from 'node:zlib';
import { parse } from 'yaml';
import { type Json, isRecord } from '../api/json.ts';

export interface NodeFile {
  content: string;
  readonly mode: number;
  readonly owner: string;
}

export interface CloudConfig {
  readonly files: Map<string, NodeFile>;
  /** Each command as one shell line. */
  readonly commands: readonly string[];
  /** Words that name the parts which were not usable; cloud-init goes on without them. */
  readonly problems: readonly string[];
}

const DEFAULT_MODE = 0o644;
const EMPTY: CloudConfig = { files: new Map(), commands: [], problems: [] };

export interface InstanceFacts {
  readonly hostname: string;
  readonly fqdn: string;
  readonly systemId: string;
  readonly zone: string;
}

/** Never throws: user-data that cannot be read gives no files, no commands and a problem. */
export function readCloudConfig(userData: string, facts: InstanceFacts): CloudConfig {
  let text: string;
  try {
    text = unpack(userData);
  } catch {
    return { ...EMPTY, problems: ['failed to decompress user-data'] };
  }
  if (text.startsWith('## template: jinja\n')) {
    const rendered = renderJinja(text.slice(text.indexOf('\n') + 1), facts);
    if (typeof rendered !== 'string') return { ...EMPTY, problems: [rendered.problem] };
    text = rendered;
  }
  const first = text.split('\n', 1)[0] ?? '';
  if (first.trimEnd() !== '#cloud-config')
    return {
      ...EMPTY,
      problems: [
        `Unhandled non-multipart (text/x-not-multipart) userdata: ${JSON.stringify(first.slice(0, 24))}`,
      ],
    };
  let document: Json;
  try {
    document = parse(text, { version: '1.1' });
  } catch (error) {
    return {
      ...EMPTY,
      problems: [`Failed loading yaml blob. ${error instanceof Error ? error.message.split('\n')[0] : ''}`],
    };
  }
  if (!isRecord(document))
    return { ...EMPTY, problems: ['Failed loading yaml blob: the document is no mapping'] };
  const problems: string[] = [];
  return {
    files: writeFiles(document.write_files, problems),
    commands: readCommands(document.runcmd, problems),
    problems,
  };
}

/** Gzip travels as latin-1 or utf-8 damaged text; only the former can be unpacked. */
function unpack(userData: string): string {
  if (!userData.startsWith('\u001f')) return userData;
  return gunzipSync(Buffer.from(userData, 'latin1')).toString('utf8');
}

function renderJinja(text: string, facts: InstanceFacts): string | { problem: string } {
  const values: Record<string, string> = {
    'v1.local_hostname': facts.hostname,
    'v1.instance_id': facts.systemId,
    'v1.availability_zone': facts.zone,
    'v1.region': facts.zone,
    'v1.cloud_name': 'maas',
    'ds.meta_data.local_hostname': facts.fqdn,
    'ds.meta_data.hostname': facts.fqdn,
    'ds.meta_data.instance_id': facts.systemId,
  };
  const raw: string[] = [];
  let work = text.replaceAll(
    /\{%-?\s*raw\s*-?%\}([\s\S]*?)\{%-?\s*endraw\s*-?%\}/g,
    (_all, inner: string) => {
      raw.push(inner);
      return `\u0001${raw.length - 1}\u0001`;
    },
  );
  if (work.includes('{%'))
    return { problem: 'Failed to render jinja template: unsupported statement in user-data' };
  work = work.replaceAll(
    /\{\{\s*([\w.]+)\s*\}\}/g,
    (_all, name: string) => values[name] ?? `CI_MISSING_JINJA_VAR/${name}`,
  );
  if (work.includes('{{'))
    return { problem: 'Failed to render jinja template: unexpected expression in user-data' };
  // The separator cannot stand in YAML text.
  // oxlint-disable-next-line no-control-regex
  return work.replaceAll(/\u0001(\d+)\u0001/g, (_all, index: string) => raw[Number(index)] ?? '');
}

function writeFiles(list: Json, problems: string[]): Map<string, NodeFile> {
  const files = new Map<string, NodeFile>();
  if (list === undefined) return files;
  if (!Array.isArray(list)) {
    problems.push('write_files: expected a list');
    return files;
  }
  for (const [index, entry] of list.entries()) {
    if (!isRecord(entry) || typeof entry.path !== 'string' || !entry.path.startsWith('/')) {
      problems.push(`write_files.${index}: No path provided to write`);
      continue;
    }
    const content = decode(entry.content ?? '', entry.encoding, problems, `write_files.${index}`);
    const mode = readMode(entry.permissions, problems, `write_files.${index}`);
    const before = entry.append ? (files.get(entry.path)?.content ?? '') : '';
    files.set(entry.path, { content: before + content, mode, owner: entry.owner ?? 'root:root' });
  }
  return files;
}

function decode(content: Json, encoding: Json, problems: string[], where: string): string {
  const text = String(content);
  const kind = String(encoding ?? 'text/plain').toLowerCase();
  try {
    if (['text/plain', ''].includes(kind)) return text;
    if (['b64', 'base64'].includes(kind)) return Buffer.from(text, 'base64').toString('utf8');
    if (['gz', 'gzip'].includes(kind)) return gunzipSync(Buffer.from(text, 'latin1')).toString('utf8');
    if (['gz+b64', 'gz+base64', 'gzip+b64', 'gzip+base64'].includes(kind))
      return gunzipSync(Buffer.from(text, 'base64')).toString('utf8');
  } catch {
    problems.push(`${where}: content cannot be decoded as ${kind}`);
    return text;
  }
  problems.push(`${where}: Unknown encoding type ${kind}, assuming text/plain`);
  return text;
}

function readMode(permissions: Json, problems: string[], where: string): number {
  if (permissions === undefined) return DEFAULT_MODE;
  const mode =
    typeof permissions === 'number'
      ? permissions
      : /^0?o?[0-7]{3,4}$/.test(String(permissions))
        ? Number.parseInt(String(permissions).replace('o', ''), 8)
        : Number.NaN;
  if (Number.isInteger(mode)) return mode;
  problems.push(
    `${where}: Undecodable permissions '${permissions}', returning default ${DEFAULT_MODE.toString(8)} instead`,
  );
  return DEFAULT_MODE;
}

function readCommands(list: Json, problems: string[]): string[] {
  if (list === undefined) return [];
  if (!Array.isArray(list)) {
    problems.push('runcmd: expected a list');
    return [];
  }
  const quote = (word: Json) =>
    /^[\w@%+=:,./-]+$/.test(String(word)) ? String(word) : `'${String(word).replaceAll("'", `'\\''`)}'`;
  return list.map((entry) => (Array.isArray(entry) ? entry.map(quote).join(' ') : String(entry)));
}
