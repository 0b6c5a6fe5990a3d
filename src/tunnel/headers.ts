/**
 * Heads as they travel (headers as lists: name, value, name, value, ...), and what of them may pass a proxy.
 */
import type http from 'node:http';
import { PcgError } from '../base/errors.ts';

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

/**
 * A head as bytes on the wire. Values come from Node's parser, which lets no CR or LF through and makes a character of
 * each byte: they leave as those bytes.
 */
export function formatHead(startLine: string, raw: RawHeaders): Buffer {
  let text = `${startLine}\r\n`;
  for (const [name, value] of pairs(raw)) text += `${name}: ${value}\r\n`;
  return Buffer.from(`${text}\r\n`, 'latin1');
}

/** How the target learns where the body ends: as our own parser saw it. */
export function bodyOf(request: http.IncomingMessage): { hasBody: boolean; framing: readonly string[] } {
  const { 'transfer-encoding': coding, 'content-length': length } = request.headers;
  if (coding === undefined)
    return {
      hasBody: Number(length ?? 0) > 0,
      framing: length === undefined ? [] : ['Content-Length', length],
    };
  // our parser undoes `chunked` alone: the target would take what is left for something else
  if (coding.trim().toLowerCase() !== 'chunked')
    throw new PcgError('INVALID_INPUT', 'the body has a transfer coding that does not pass', {
      field: 'transfer-encoding',
      fix: 'Send the body with "Transfer-Encoding: chunked" or a Content-Length.',
    });
  return { hasBody: true, framing: ['Transfer-Encoding', 'chunked'] };
}

/** Node reads status lines that it does not write. */
export function isAnswer({ statusCode = 0 }: http.IncomingMessage): boolean {
  return statusCode >= 200;
}

export function notAnAnswer({ statusCode }: http.IncomingMessage): PcgError {
  return new PcgError('TEMPORARY', `the target answered with status ${statusCode}, which is none`);
}

/** Without characters that a status line must not hold. */
export function reasonOf({ statusMessage = '' }: http.IncomingMessage): string {
  return statusMessage.replace(/[^\t\x20-\x7e\x80-\xff]/g, '');
}
