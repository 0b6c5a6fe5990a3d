/**
 * JSON as Kubernetes means it: int64 fields may exceed what a JavaScript number holds. Such numbers are kept as raw
 * JSON, so that an object that is read and written back is the same object.
 */

/** A number of sixteen digits or more, outside of the quick check's doubt: inside strings it costs only time. */
const LONG_NUMBER = /[[:,\s]-?\d{16}/;

type RawJson = (text: string) => unknown;
const { rawJSON } = JSON as unknown as { rawJSON: RawJson };

/** Throws SyntaxError. */
export function parseJson(text: string): unknown {
  if (!LONG_NUMBER.test(text)) return JSON.parse(text);
  const keepLong = (_key: string, value: unknown, context?: { source?: string }): unknown =>
    typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)
      ? rawJSON(context?.source ?? String(value))
      : value;
  return JSON.parse(text, keepLong as (key: string, value: unknown) => unknown);
}
