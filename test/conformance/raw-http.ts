/**
 * One HTTP exchange over a bare socket: sends exactly the given bytes and reads what comes back, so that
 * requests no client library would send can be repeated as they were recorded.
 */
import { connect, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface RawResponse {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

const HEAD_END = Buffer.from('\r\n\r\n');

function parseChunked(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
    if (size === 0) return Buffer.concat(parts);
    const start = lineEnd + 2;
    if (bytes.length < start + size + 2) return undefined;
    parts.push(bytes.subarray(start, start + size));
    at = start + size + 2;
  }
}

/** The first complete final response in `bytes`; undefined while there is none yet. */
function parseResponse(bytes: Buffer, ended: boolean, headOnly: boolean): RawResponse | undefined {
  const split = bytes.indexOf(HEAD_END);
  if (split < 0) return undefined;
  const [statusLine = '', ...lines] = bytes.toString('latin1', 0, split).split('\r\n');
  const status = Number(statusLine.split(' ')[1]);
  if (status === 100) return parseResponse(bytes.subarray(split + 4), ended, headOnly);
  const headers = new Map(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const rest = bytes.subarray(split + 4);
  if (headOnly || status === 204) return { status, headers, body: Buffer.alloc(0) };
  if (headers.get('transfer-encoding') === 'chunked') {
    const body = parseChunked(rest);
    return body ? { status, headers, body } : undefined;
  }
  const length = Number(headers.get('content-length') ?? Number.NaN);
  if (Number.isNaN(length)) return ended ? { status, headers, body: rest } : undefined;
  return rest.length >= length ? { status, headers, body: rest.subarray(0, length) } : undefined;
}

export interface RawOptions {
  /** An answer without a body, whatever its headers say. */
  readonly headOnly?: boolean;
  /** Longest silence of the server, milliseconds. */
  readonly timeoutMs?: number;
}

/** Rejects when the connection ends before a complete response came. */
export function exchangeRaw(
  base: URL,
  request: Buffer,
  { headOnly = false, timeoutMs = 120_000 }: RawOptions = {},
): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const host = base.hostname.replace(/^\[|\]$/g, '');
    const socket =
      base.protocol === 'https:'
        ? connectTls({ host, port: Number(base.port || 443), ...(isIP(host) ? {} : { servername: host }) })
        : connect(Number(base.port || 80), host);
    const chunks: Buffer[] = [];
    const look = (ended: boolean) => {
      const response = parseResponse(Buffer.concat(chunks), ended, headOnly);
      if (response) {
        resolve(response);
        socket.destroy();
      } else if (ended) {
        reject(new Error('the connection ended before the response did'));
      }
    };
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      look(false);
    });
    socket.on('end', () => look(true));
    socket.on('error', (error) => {
      // A server may answer 413 and reset while we still send: the answer counts.
      look(false);
      reject(error);
    });
    socket.setTimeout(timeoutMs, () =>
      socket.destroy(new Error(`the server was silent for ${timeoutMs / 1000} s`)),
    );
    socket.write(request);
  });
}
