/**
 * What must agree between a recorded answer and today's: status, headers that clients decide on, the error's
 * class and text, and of JSON the fields and their types. Of machines also the values that a client acts on.
 */
import type { Exchange } from '../support/maas-recordings.ts';
import type { RawResponse } from './raw-http.ts';

export interface Difference {
  readonly aspect: string;
  readonly detail: string;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Members whose keys are data, not fields. */
const OPEN = new Set([
  'owner_data',
  'workload_annotations',
  'constraints_by_type',
  'sets',
  'files',
  'params',
  'parameters',
]);

function merge(items: readonly Json[]): Json | undefined {
  const objects = items.filter(isObject);
  if (objects.length === 0) return items.find((item) => item !== null) ?? items[0];
  const merged: { [key: string]: Json } = {};
  for (const item of objects)
    for (const [key, value] of Object.entries(item)) {
      const before = merged[key];
      merged[key] =
        isObject(before) && isObject(value) ? (merge([before, value]) ?? value) : (before ?? value);
    }
  return merged;
}

const kindOf = (value: Json): string => (Array.isArray(value) ? 'array' : typeof value);

/** Null agrees with everything: MAAS uses it for "none" of any type. */
function shape(recorded: Json, today: Json, at: string, out: Difference[]): void {
  if (recorded === null || today === null) return;
  if (kindOf(recorded) !== kindOf(today)) {
    out.push({ aspect: `type ${at}`, detail: `${kindOf(recorded)} became ${kindOf(today)}` });
    return;
  }
  if (Array.isArray(recorded) && Array.isArray(today)) {
    const [before, now] = [merge(recorded), merge(today)];
    if (before !== undefined && now !== undefined) shape(before, now, `${at}[]`, out);
    return;
  }
  if (!isObject(recorded) || !isObject(today)) return;
  for (const key of Object.keys(recorded)) {
    const now = today[key];
    if (now === undefined)
      out.push({ aspect: `missing ${at}.${key}`, detail: JSON.stringify(recorded[key]).slice(0, 60) });
    else if (!OPEN.has(key)) shape(recorded[key] ?? null, now, `${at}.${key}`, out);
  }
  for (const key of Object.keys(today))
    if (!(key in recorded))
      out.push({ aspect: `extra ${at}.${key}`, detail: JSON.stringify(today[key]).slice(0, 60) });
}

/** What clients act on in a machine. */
const ACTED_ON = [
  'system_id',
  'hostname',
  'fqdn',
  'status',
  'status_name',
  'power_state',
  'power_type',
  'owner',
  'owner_data',
  'workload_annotations',
  'osystem',
  'distro_series',
  'hwe_kernel',
  'locked',
  'netboot',
  'cpu_count',
  'memory',
  'storage',
  'architecture',
  'error_description',
  'ephemeral_deploy',
  'zone',
  'pool',
];

const nameOf = (value: Json | undefined): Json | undefined => (isObject(value) ? value['name'] : value);

function machine(recorded: { [key: string]: Json }, today: { [key: string]: Json }, out: Difference[]): void {
  for (const key of ACTED_ON) {
    if (!(key in recorded)) continue;
    const [before, now] = [nameOf(recorded[key]), nameOf(today[key])].map((value) => JSON.stringify(value));
    if (before !== now) out.push({ aspect: `value ${key}`, detail: `${before} became ${now}` });
  }
  for (const key of Object.keys(recorded))
    if (!(key in today))
      out.push({ aspect: `missing $.${key}`, detail: JSON.stringify(recorded[key]).slice(0, 60) });
}

const isMachine = (value: Json | undefined): value is { [key: string]: Json } =>
  isObject(value) && 'system_id' in value && 'hostname' in value;

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** The first complete member of a JSON list whose end was cut off. */
function firstOf(text: string): Json | undefined {
  const start = text.indexOf('{');
  if (start < 0) return undefined;
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    if (text[at] === '{') depth += 1;
    if (text[at] === '}') depth -= 1;
    if (depth === 0) return parse(text.slice(start, at + 1));
  }
  return undefined;
}

function compareSummary(summary: Json, today: Json | undefined, out: Difference[]): void {
  if (Array.isArray(summary) && Array.isArray(today)) {
    const ids = (list: Json[]) =>
      list
        .filter(isMachine)
        .map((item) => JSON.stringify(item['system_id']))
        .join(' ');
    if (ids(summary) !== ids(today))
      out.push({ aspect: 'machines', detail: `${ids(summary)} became ${ids(today)}` });
    return;
  }
  if (isMachine(summary) && isMachine(today)) return machine(summary, today, out);
  const cut = isObject(summary)
    ? Object.entries(summary).find(([key]) => key.startsWith('first_'))?.[1]
    : undefined;
  if (typeof cut !== 'string') return;
  const before = firstOf(cut);
  if (before === undefined) return;
  if (Array.isArray(today)) {
    const now = merge(today);
    if (now !== undefined && cut.trimStart().startsWith('[')) shape(before, now, '$[]', out);
  } else if (today !== undefined && cut.trimStart().startsWith('{')) {
    shape(before, today, '$', out);
  }
}

/** Ids, clocks and secrets differ by nature. */
function normalise(text: string): string {
  return text
    .replace(/given -?\d+ and now \d+/g, 'given # and now #')
    .replace(/http%3A%2F%2F[^%]+%3A\d+/g, '<host>')
    .replace(/oauth_timestamp%3D\d+/g, '<stamp>')
    .replace(/rack controller [a-z0-9]{6};/g, 'rack controller <id>;')
    .replace(/<Domain: .*|\{<DNSResource.*/g, '<objects>')
    .replace(/\s+/g, ' ')
    .trim();
}

const title = (html: string): string => /<title>([^<]*)<\/title>/.exec(html)?.[1]?.trim() ?? '';

function compareErrors(recorded: string, today: string, contentType: string, out: Difference[]): void {
  if (contentType.startsWith('text/html') && recorded.includes('<')) {
    if (title(recorded) !== title(today))
      out.push({ aspect: 'title', detail: `"${title(recorded)}" became "${title(today)}"` });
    return;
  }
  const [before, now] = [parse(recorded), parse(today)].map((value) =>
    isObject(value) ? JSON.stringify(sorted(value)) : undefined,
  );
  const [left, right] = [normalise(before ?? recorded), normalise(now ?? today)];
  if (left !== right)
    out.push({ aspect: 'text', detail: `"${left.slice(0, 160)}" became "${right.slice(0, 160)}"` });
}

/** Of an error elsewhere: JSON with the same members, or text that starts with the same words. */
function compareClass(recorded: string, today: string, out: Difference[]): void {
  const [before, now] = [parse(recorded), parse(today)];
  const names = (value: Json | undefined) =>
    isObject(value) ? Object.keys(value).sort().join(' ') : undefined;
  const start = (text: string) => /^[A-Za-z' ]*/.exec(text.trim())?.[0] ?? '';
  const [left, right] = [names(before) ?? start(recorded), names(now) ?? start(today)];
  if (left !== right && !recorded.startsWith('<'))
    out.push({ aspect: 'text', detail: `"${left}" became "${right}"` });
}

/** Machines elsewhere have the members of the recorded ones. */
function compareFields(summary: Json, today: Json, out: Difference[]): void {
  const recorded = Array.isArray(summary) ? merge(summary) : summary;
  const now = Array.isArray(today) ? merge(today) : today;
  if (!isMachine(recorded) || !isMachine(now)) return;
  for (const key of Object.keys(recorded))
    if (!(key in now))
      out.push({ aspect: `missing $.${key}`, detail: JSON.stringify(recorded[key]).slice(0, 60) });
}

const sorted = (value: { [key: string]: Json }) =>
  Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));

const words = (text: string | undefined): string | undefined =>
  text
    ?.split(/,\s*/)
    .map((word) => word.toLowerCase())
    .sort()
    .join(', ');

/** `vary` tells caches what to key on; the others steer retries, redirects and parsing. */
const HEADERS = [
  'content-type',
  'retry-after',
  'www-authenticate',
  'allow',
  'location',
  'transfer-encoding',
  'vary',
];

function compareHeaders(exchange: Exchange, today: RawResponse, out: Difference[]): void {
  const recorded = new Map(exchange.response.headers.map(([name, value]) => [name.toLowerCase(), value]));
  for (const name of HEADERS) {
    const [before, now] = [words(recorded.get(name)), words(today.headers.get(name))];
    if (before !== now) out.push({ aspect: `header ${name}`, detail: `${before} became ${now}` });
  }
  const hash = 'x-maas-api-hash';
  if (recorded.has(hash) !== today.headers.has(hash))
    out.push({ aspect: `header ${hash}`, detail: recorded.has(hash) ? 'is gone' : 'is new' });
}

/** What another site or another version of MAAS may answer otherwise. */
export interface Tolerance {
  /** Other machines: their values are not compared, only fields and types. */
  readonly otherSite: boolean;
  /** Fields that not every version has. */
  readonly fields: readonly string[];
}

const EXACT: Tolerance = { otherSite: false, fields: [] };

/** Everything that differs, in the order in which a client would notice. */
export function compare(exchange: Exchange, today: RawResponse, tolerance = EXACT): Difference[] {
  const differences = compareExactly(exchange, today, tolerance.otherSite);
  return differences.filter(({ aspect }) => !tolerance.fields.some((field) => aspect.endsWith(`.${field}`)));
}

function compareExactly(exchange: Exchange, today: RawResponse, otherSite: boolean): Difference[] {
  const out: Difference[] = [];
  const { status, body, body_summary: summary } = exchange.response;
  // Of an interim answer the final one counts, which the recording has in its body.
  const expected = status === 100 ? 200 : status;
  if (expected !== today.status)
    return [
      {
        aspect: 'status',
        detail: `${expected} became ${today.status}: ${today.body.toString('utf8', 0, 160)}`,
      },
    ];
  if (status === 100) return out;
  compareHeaders(exchange, today, out);
  const text = today.body.toString('utf8');
  const contentType = today.headers.get('content-type') ?? '';
  if (status !== null && status >= 400) {
    if (body !== null && otherSite) compareClass(body, text, out);
    else if (body !== null) compareErrors(body, text, contentType, out);
    return out;
  }
  if (!contentType.startsWith('application/json')) return out;
  const now = parse(text);
  if (body === null) {
    if (!otherSite) compareSummary((summary ?? null) as Json, now, out);
    else if (now !== undefined) compareFields((summary ?? null) as Json, now, out);
    return out;
  }
  const before = parse(body);
  if (before === undefined || now === undefined) return out;
  shape(before, now, '$', out);
  if (!otherSite && isMachine(before) && isMachine(now)) machine(before, now, out);
  return out;
}
