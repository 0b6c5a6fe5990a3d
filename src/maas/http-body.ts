/** Bodies of answers: bounded, as text, as the end of a long text, or an array read while it arrives. */
import { createElementCutter } from './json-elements.ts';

export interface ReadBody {
  readonly text: string;
  readonly bytes: number;
  readonly truncated: boolean;
  readonly elements?: readonly unknown[];
}

/** Reads an array element by element; what is not one comes back without elements. */
export async function readElements(
  body: AsyncIterable<Uint8Array>,
  limit: number,
  element: (value: unknown) => unknown,
): Promise<ReadBody> {
  const cutter = createElementCutter();
  const elements: unknown[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > limit) return { text: '', bytes, truncated: true };
    try {
      for (const text of cutter.feed(chunk)) elements.push(element(JSON.parse(text)));
    } catch {
      return { text: '', bytes, truncated: false };
    }
  }
  return { text: '', bytes, truncated: false, ...(cutter.complete ? { elements } : {}) };
}

/** Reads up to `limit` bytes; with `tail` the last ones are kept and the rest is forgotten. */
export async function readBody(
  body: AsyncIterable<Uint8Array>,
  limit: number,
  tail: boolean,
): Promise<ReadBody> {
  const chunks: Uint8Array[] = [];
  let kept = 0;
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    chunks.push(chunk);
    kept += chunk.byteLength;
    if (tail) {
      while (chunks.length > 1 && kept - (chunks[0]?.byteLength ?? 0) >= limit)
        kept -= chunks.shift()?.byteLength ?? 0;
    } else if (kept > limit) {
      return { text: Buffer.concat(chunks).subarray(0, limit).toString('utf8'), bytes, truncated: true };
    }
  }
  const all = Buffer.concat(chunks);
  const text = tail && all.byteLength > limit ? all.subarray(all.byteLength - limit) : all;
  return { text: text.toString('utf8'), bytes, truncated: tail && bytes > limit };
}
