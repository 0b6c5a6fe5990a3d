/**
 * SPDY/3.1 as far as Kubernetes clients use it: streams opened by the client over one connection, with zlib
 * header blocks; no flow control (their library has none). Older kubectl does exec and port-forward by it,
 * newer ones tunnel port-forward's frames through a WebSocket.
 */
import { EventEmitter, once } from 'node:events';
import type { Duplex } from 'node:stream';
import { PassThrough } from 'node:stream';
import { constants, createDeflate, createInflate } from 'node:zlib';

/** The header dictionary of SPDY/3: words with their lengths, then common values. Adler-32 e3c6a7c2. */
const WORDS =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin';
const VALUES =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};
const sized = (text: string) => Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(text)]);
const DICTIONARY = Buffer.concat([
  ...WORDS.split(' ').map((word) => sized(word.replace('_', ' '))),
  Buffer.from(VALUES),
]);

const TYPE = { synStream: 1, synReply: 2, rstStream: 3, ping: 6, goAway: 7, headers: 8 } as const;
const FIN = 1;
/** Data is cut into frames of this size; a frame's length has 24 bits. */
const MAX_DATA_BYTES = 64 * 1024;

export interface SpdyStream {
  readonly id: number;
  readonly headers: ReadonlyMap<string, string>;
  /** What the client sends; ends with its FIN. */
  readonly input: PassThrough;
  write(chunk: Buffer): void;
  /** Half-close from our side. */
  end(): void;
}

interface Live {
  readonly stream: SpdyStream;
  ended: boolean;
}

/** Events: `stream` (SpdyStream), `close`. */
export class SpdyConnection extends EventEmitter<{ stream: [SpdyStream]; close: [] }> {
  readonly #wire: Duplex;
  readonly #inflate = createInflate({ dictionary: DICTIONARY });
  readonly #deflate = createDeflate({ dictionary: DICTIONARY });
  readonly #streams = new Map<number, Live>();
  #buffer = Buffer.alloc(0);
  #inflated: Buffer[] = [];
  #deflated: Buffer[] = [];

  constructor(wire: Duplex, head: Buffer = Buffer.alloc(0)) {
    super();
    this.#wire = wire;
    this.#buffer = Buffer.from(head);
    this.#inflate.on('data', (chunk: Buffer) => this.#inflated.push(chunk));
    this.#deflate.on('data', (chunk: Buffer) => this.#deflated.push(chunk));
    for (const coder of [this.#inflate, this.#deflate]) coder.on('error', () => this.close());
    wire.on('error', () => {});
    wire.once('close', () => this.#closed());
    wire.once('end', () => this.#closed());
    void this.#pump();
  }

  close(): void {
    this.#wire.end();
    this.#closed();
  }

  #closed(): void {
    for (const { stream } of this.#streams.values()) stream.input.end();
    this.#streams.clear();
    this.#inflate.destroy();
    this.#deflate.destroy();
    this.emit('close');
  }

  async #pump(): Promise<void> {
    try {
      await this.#frames();
      for await (const chunk of this.#wire) {
        this.#buffer = Buffer.concat([this.#buffer, chunk as Buffer]);
        await this.#frames();
      }
    } catch {
      this.#wire.destroy(); // broken frames or a broken wire: both end the connection
    }
  }

  async #frames(): Promise<void> {
    while (this.#buffer.length >= 8) {
      const length = this.#buffer.readUIntBE(5, 3);
      if (this.#buffer.length < 8 + length) return;
      const head = this.#buffer.subarray(0, 8);
      const body = this.#buffer.subarray(8, 8 + length);
      this.#buffer = this.#buffer.subarray(8 + length);
      const flags = head.readUInt8(4);
      if ((head.readUInt8(0) & 0x80) !== 0) await this.#control(head.readUInt16BE(2), flags, body);
      else await this.#data(head.readUInt32BE(0), flags, body);
    }
  }

  async #data(id: number, flags: number, body: Buffer): Promise<void> {
    const input = this.#streams.get(id)?.stream.input;
    // Back-pressure: a reader that is slow slows the whole connection, as in the real library.
    if (input && body.length > 0 && !input.writableEnded && !input.write(Buffer.from(body)))
      await once(input, 'drain');
    if (flags & FIN) input?.end();
  }

  async #control(type: number, flags: number, body: Buffer): Promise<void> {
    switch (type) {
      case TYPE.synStream: {
        const id = body.readUInt32BE(0) & 0x7fffffff;
        const headers = await this.#readHeaders(body.subarray(10));
        const input = new PassThrough();
        input.on('error', () => {});
        const live: Live = {
          ended: false,
          stream: { id, headers, input, write: (chunk) => this.#write(id, chunk), end: () => this.#end(id) },
        };
        this.#streams.set(id, live);
        await this.#reply(id);
        if (flags & FIN) input.end();
        this.emit('stream', live.stream);
        return;
      }
      case TYPE.ping:
        this.#send(TYPE.ping, 0, body);
        return;
      case TYPE.rstStream:
        this.#streams.get(body.readUInt32BE(0) & 0x7fffffff)?.stream.input.end();
        return;
      case TYPE.goAway:
        this.#wire.end();
        return;
      case TYPE.headers:
        await this.#readHeaders(body.subarray(4)); // keeps the compression state in step
        return;
      default:
        return;
    }
  }

  async #readHeaders(block: Buffer): Promise<Map<string, string>> {
    this.#inflated = [];
    await new Promise<void>((resolve) => this.#inflate.write(block, () => resolve()));
    const plain = Buffer.concat(this.#inflated);
    const headers = new Map<string, string>();
    let at = 4;
    const text = () => {
      const length = plain.readUInt32BE(at);
      const value = plain.subarray(at + 4, at + 4 + length).toString('utf8');
      at += 4 + length;
      return value;
    };
    for (let left = plain.readUInt32BE(0); left > 0; left -= 1) {
      const name = text();
      headers.set(name.toLowerCase(), text());
    }
    return headers;
  }

  async #reply(id: number): Promise<void> {
    this.#deflated = [];
    this.#deflate.write(u32(0));
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()));
    this.#send(TYPE.synReply, 0, Buffer.concat([u32(id), ...this.#deflated]));
  }

  #send(type: number, flags: number, body: Buffer): void {
    const head = Buffer.alloc(8);
    head.writeUInt16BE(0x8003, 0);
    head.writeUInt16BE(type, 2);
    head.writeUInt8(flags, 4);
    head.writeUIntBE(body.length, 5, 3);
    if (this.#wire.writable) this.#wire.write(Buffer.concat([head, body]));
  }

  #frame(id: number, flags: number, chunk: Buffer): void {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id, 0);
    head.writeUInt8(flags, 4);
    head.writeUIntBE(chunk.length, 5, 3);
    if (this.#wire.writable) this.#wire.write(Buffer.concat([head, chunk]));
  }

  #write(id: number, chunk: Buffer): void {
    for (let at = 0; at < chunk.length; at += MAX_DATA_BYTES)
      this.#frame(id, 0, chunk.subarray(at, at + MAX_DATA_BYTES));
  }

  #end(id: number): void {
    const live = this.#streams.get(id);
    if (!live || live.ended) return;
    live.ended = true;
    this.#frame(id, FIN, Buffer.alloc(0));
  }
}
