/** Header lists as they travel (name, value, name, value, ...), and what of them may pass a proxy. */

export type RawHeaders = readonly string[];

/** Belong to one hop (RFC 9110, 7.6.1) and are made anew by each. `trailer` passes: we forward trailers. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
]);

function* pairs(raw: RawHeaders): Generator<[name: string, value: string]> {
  for (let at = 0; at + 1 < raw.length; at += 2) yield [raw[at] as string, raw[at + 1] as string];
}

/** Without hop-by-hop headers, those that `Connection` names, and those that `drop` says (name in lower case). */
export function endToEnd(raw: RawHeaders, drop: (name: string) => boolean = () => false): string[] {
  const named = new Set<string>();
  for (const [name, value] of pairs(raw)) {
    if (name.toLowerCase() === 'connection')
      for (const token of value.split(',')) named.add(token.trim().toLowerCase());
  }
  const kept: string[] = [];
  for (const [name, value] of pairs(raw)) {
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && !named.has(lower) && !drop(lower)) kept.push(name, value);
  }
  return kept;
}

export function flatten(headers: Readonly<Record<string, string | readonly string[]>>): string[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    typeof value === 'string' ? [name, value] : value.flatMap((one) => [name, one]),
  );
}

/** A head as bytes on the wire. Values come from Node's parser, which lets no CR or LF through. */
export function formatHead(startLine: string, raw: RawHeaders): string {
  let text = `${startLine}\r\n`;
  for (const [name, value] of pairs(raw)) text += `${name}: ${value}\r\n`;
  return `${text}\r\n`;
}
