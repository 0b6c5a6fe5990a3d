/**
 * Request parameters as Django sees them: repeated keys, urlencoded or multipart. A body of another type
 * leaves the form empty, which is what makes some wrong requests succeed with defaults.
 */

export class Form {
  readonly #values = new Map<string, string[]>();

  add(key: string, value: string): this {
    const values = this.#values.get(key);
    if (values) values.push(value);
    else this.#values.set(key, [value]);
    return this;
  }

  /** The last value, as Django picks it. */
  get(key: string): string | undefined {
    return this.#values.get(key)?.at(-1);
  }

  all(key: string): readonly string[] {
    return this.#values.get(key) ?? [];
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  keys(): string[] {
    return [...this.#values.keys()];
  }

  entries(): [string, readonly string[]][] {
    return [...this.#values];
  }
}

/** Percent-decoding as Python does it: bad bytes become U+FFFD, `+` is a space. */
export function decodeComponent(text: string): string {
  const spaced = text.replaceAll('+', ' ');
  if (!spaced.includes('%')) return spaced;
  const source = Buffer.from(spaced, 'utf8');
  const out = Buffer.alloc(source.length);
  let length = 0;
  for (let at = 0; at < source.length; at += 1) {
    const hex = source[at] === 0x25 ? source.toString('latin1', at + 1, at + 3) : '';
    if (/^[0-9a-fA-F]{2}$/.test(hex)) {
      out[length] = Number.parseInt(hex, 16);
      at += 2;
    } else {
      out[length] = source[at] ?? 0;
    }
    length += 1;
  }
  return out.toString('utf8', 0, length);
}

export function parseUrlEncoded(text: string): Form {
  const form = new Form();
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    const key = at < 0 ? pair : pair.slice(0, at);
    form.add(decodeComponent(key), at < 0 ? '' : decodeComponent(pair.slice(at + 1)));
  }
  return form;
}

export interface Upload {
  readonly name: string;
  readonly filename: string;
  readonly sizeBytes: number;
}

/** Tolerant like Django's parser: a body that does not match the boundary yields an empty form. */
export function parseMultipart(body: Buffer, boundary: string): { form: Form; uploads: Upload[] } {
  const form = new Form();
  const uploads: Upload[] = [];
  const mark = Buffer.from(`--${boundary}`);
  let at = body.indexOf(mark);
  while (at >= 0) {
    const start = at + mark.length;
    const next = body.indexOf(mark, start);
    if (next < 0) break;
    const part = body.subarray(start + 2, next - 2);
    const split = part.indexOf('\r\n\r\n');
    if (split >= 0) {
      const head = part.toString('utf8', 0, split);
      const content = part.subarray(split + 4);
      const name = /name="([^"]*)"/.exec(head)?.[1];
      const filename = /filename="([^"]*)"/.exec(head)?.[1];
      if (name !== undefined && filename !== undefined)
        uploads.push({ name, filename, sizeBytes: content.length });
      else if (name !== undefined) form.add(name, content.toString('utf8'));
    }
    at = next;
  }
  return { form, uploads };
}
