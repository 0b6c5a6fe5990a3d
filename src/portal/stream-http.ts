/** One HTTP/1.1 exchange on a tunnel stream: the stream stands where Node would have a socket. */
import http from 'node:http';
import type { Socket } from 'node:net';
import { PcgError } from '../base/errors.ts';
import { socketLike } from '../tunnel/http.ts';
import type { TunnelStream } from '../tunnel/ports.ts';

interface StreamRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: http.OutgoingHttpHeaders | readonly string[];
  readonly payload?: string | undefined;
  readonly signal?: AbortSignal;
}

/** Begins the request; with `payload` undefined the caller ends it (or pipes into it). */
function beginRequest(stream: TunnelStream, request: StreamRequest): http.ClientRequest {
  return http.request({
    createConnection: () => socketLike(stream) as Socket,
    method: request.method,
    path: request.path,
    headers: request.headers as http.OutgoingHttpHeaders,
    setHost: false,
    // No agent (`agent: false` would make one that ignores createConnection): the exchange's end is the stream's end.
    ...(request.signal ? { signal: request.signal } : {}),
  });
}

/** Sends the whole request and resolves when the answer's head is there. */
export function requestOnStream(stream: TunnelStream, request: StreamRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = beginRequest(stream, request);
    outgoing.once('response', resolve);
    outgoing.once('error', (cause) =>
      reject(
        cause instanceof PcgError
          ? cause
          : new PcgError('TEMPORARY', 'the connection to the gateway broke during the request', { cause }),
      ),
    );
    outgoing.end(request.payload);
  });
}

/** The whole body as text; more than `maxBytes` is refused without reading on. */
export async function collect(message: http.IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      message.destroy();
      throw new PcgError('INTERNAL', `the gateway's answer is larger than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
