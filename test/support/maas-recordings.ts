/**
 * Exchanges with a real MAAS 3.5, kept in test/recordings. Bodies of machines were shortened there to a flat
 * summary; `replayable` gives them back the nesting that the wire has, so that they can be served again.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Exchange {
  readonly file: string;
  readonly name: string;
  readonly note: string | null;
  readonly request: {
    readonly method: string | null;
    readonly path: string | null;
    readonly query: string | null;
    readonly headers: readonly (readonly [string, string])[];
    readonly content_type: string | null;
    readonly body: unknown;
    readonly as_user: string | null;
  };
  readonly response: {
    readonly status: number | null;
    readonly headers: readonly (readonly [string, string])[];
    readonly body: string | null;
    readonly body_bytes: number | null;
    readonly body_summary: unknown;
  };
}

const FOLDER = fileURLToPath(new URL('../recordings/', import.meta.url));

export function loadRecordings(): Exchange[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .flatMap((file) =>
      (JSON.parse(readFileSync(`${FOLDER}${file}`, 'utf8')) as Omit<Exchange, 'file'>[]).map((exchange) => ({
        ...exchange,
        file,
      })),
    );
}

/** The body as it was on the wire, or a faithful stand-in; undefined when the recording kept too little. */
export function replayable(exchange: Exchange): string | undefined {
  const { body, body_summary: summary, body_bytes: bytes } = exchange.response;
  if (body !== null) return body;
  if (summary === null || summary === undefined) return bytes ? undefined : '';
  if (Array.isArray(summary))
    return summary.every(isMachine) ? JSON.stringify(summary.map(nested)) : undefined;
  return isMachine(summary) ? JSON.stringify(nested(summary)) : undefined;
}

function isMachine(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && 'system_id' in value && 'hostname' in value;
}

function nested(summary: Record<string, unknown>): Record<string, unknown> {
  return { ...summary, zone: { name: summary['zone'] }, pool: { name: summary['pool'] } };
}
